# SPDX-License-Identifier: MIT
"""The studies of a comparison over each other, the barrier of the best matching of each."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from .captions import code, hollow, wrapped
from .comparison import ComparedSummaries
from .config import TeacherProblem
from .plot_means import draw_means
from .plot_style import (
    GREY,
    LINE,
    LINES,
    MARKERS,
    PAGE,
    LogFloor,
    legend_below,
    new_figure,
    unit_of,
)
from .settings_line import describe_all
from .statistics import FEWEST, Array, Interval, mean_interval
from .summary import Group, Summary, pair_counts
from .tasks import make_task


def comparison_figure(compared: ComparedSummaries) -> Figure:
    """Against m / M or m, or against the step size in units of the edge of stability."""
    first = next(iter(compared.summaries.values()))
    rates = first.config.study == "learning-rate"
    title = _title(compared)
    figure = new_figure(PAGE, (4.4 if rates else 3.4) + LINE * len(title.splitlines()))
    if rates:
        top, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.4))
        _draw_alive(top, compared)
    else:
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    _draw_barriers(axes, compared)
    axes.set_xlabel(_x_label(compared, rates))
    figure.suptitle(title, fontsize=8)
    legend_below(figure, axes, columns=3)
    return figure


def _places(summary: Summary, groups: list[Group], unit: str) -> Array:
    if unit == "m":
        return np.array([group.width for group in groups], dtype=np.float64)
    if unit == "m / M":
        assert isinstance(summary.config.problem, TeacherProblem)
        M = summary.config.problem.teacher_width
        return np.array([group.width / M for group in groups])
    scale = summary.edge if unit == "edge" else summary.bracket and summary.bracket.threshold
    return np.array([group.lr / (scale or 1.0) for group in groups])


def _unit(compared: ComparedSummaries) -> str:
    summaries = list(compared.summaries.values())
    if summaries[0].config.study == "learning-rate":
        return "edge" if all(s.edge is not None for s in summaries) else "threshold"
    teachers = all(isinstance(s.config.problem, TeacherProblem) for s in summaries)
    return "m / M" if teachers else "m"


def _x_label(compared: ComparedSummaries, rates: bool) -> str:
    unit = _unit(compared)
    if not rates:
        return "student width m / teacher width M" if unit == "m / M" else "student width m"
    if unit == "edge":
        return "learning rate / (2 / sharpness at small learning rates)"
    return "learning rate / divergence threshold"


def _looks(compared: ComparedSummaries) -> list[tuple[str, Summary, dict[str, Any]]]:
    count = len(compared.summaries)
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, count))
    return [
        (
            label,
            summary,
            {
                "color": colours[i],
                "marker": MARKERS[i % len(MARKERS)],
                "linestyle": LINES[i % len(LINES)],
            },
        )
        for i, (label, summary) in enumerate(compared.summaries.items())
    ]


def _draw_barriers(axes: Axes, compared: ComparedSummaries) -> None:
    unit, scales = _unit(compared), _scales(compared)
    first = next(iter(compared.summaries.values()))
    rates = first.config.study == "learning-rate"
    drawn = []
    for label, summary, look in _looks(compared):
        groups = [group for group in summary.groups if group.sound]
        best, split = summary.best_matching(), summary.splits[-1]
        means = [group.barrier(best, split) for group in groups]
        scaled = [Interval(*(value / scales[label] for value in mean)) for mean in means]
        counts = [len(group.sound) for group in groups]
        lost = " (all failed)" if rates else " (none converged)"
        name = label if groups else label + lost
        drawn.append((name, _places(summary, groups, unit), scaled, counts, look))
    floor = LogFloor([value for _, _, means, *_ in drawn for mean in means for value in mean])
    for label, x, means, counts, look in drawn:
        draw_means(axes, x, means, counts, place=floor.draw, label=label, **look)
    floor.finish(axes)
    relative = any(scale != 1 for scale in scales.values())
    axes.set_ylabel(
        "mean matched barrier /\nloss of the zero network"
        if relative
        else "mean matched loss barrier" + unit_of(first.config.problem, " ({})")
    )
    if unit == "edge":
        axes.axvline(1, color=GREY, linewidth=0.8, zorder=0, label="edge of stability")


def _scales(compared: ComparedSummaries) -> dict[str, float]:
    """What barriers are divided by: the zero network's loss where teachers of several M differ."""
    configs = {label: summary.config for label, summary in compared.summaries.items()}
    if not all(isinstance(config.problem, TeacherProblem) for config in configs.values()):
        return dict.fromkeys(configs, 1.0)
    losses = {label: make_task(config).zero_loss for label, config in configs.items()}
    same = max(losses.values()) - min(losses.values()) <= 1e-9 * max(losses.values())
    return dict.fromkeys(losses, 1.0) if same else losses


def _draw_alive(axes: Axes, compared: ComparedSummaries) -> None:
    unit = _unit(compared)
    for _, summary, look in _looks(compared):
        groups = [group for group in summary.groups if group.sound]
        shares = [mean_interval(g.student_values("alive") / g.width) for g in groups]
        counts = [len(group.sound) for group in groups]
        draw_means(axes, _places(summary, groups, unit), shares, counts, **look)
    axes.set_ylabel("share of neurons alive,\nmean")
    if unit == "edge":
        axes.axvline(1, color=GREY, linewidth=0.8, zorder=0)


def _title(compared: ComparedSummaries) -> str:
    summaries = list(compared.summaries.values())
    groups = [group for summary in summaries for group in summary.groups]
    rates = any(summary.config.study == "learning-rate" for summary in summaries)
    seeds = {(s.config.first_seed, s.config.first_seed + 2 * s.config.pairs - 1) for s in summaries}
    low, high = min(first for first, _ in seeds), max(last for _, last in seeds)
    rows = [row for group in groups for row in group.rows]
    lost = sum(group.pairs - len(group.sound) for group in groups)
    banded = any(len(group.sound) >= FEWEST for group in groups)
    bands = (
        "bands: 95% bootstrap intervals of means"
        if banded
        else f"too few for intervals (below {FEWEST})"
    )
    unfinished = ", ".join(compared.unfinished)
    matchings = " or ".join(sorted({summary.best_matching() for summary in summaries}))
    lines = [
        compared.question,
        describe_all([summary.config for summary in summaries]),
        f"{pair_counts(groups)} pairs each (seeds {low} to {high}), {bands}",
        *hollow(len(group.sound) for group in groups),
        *([f"not finished: {unfinished}"] if unfinished else []),
        f"matched by {matchings}; {lost:,} of {len(rows):,} pairs are left out (failed"
        + (")" if rates else " or not converged)"),
        code(rows),
    ]
    return wrapped(lines, PAGE)
