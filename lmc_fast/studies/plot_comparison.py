# SPDX-License-Identifier: MIT
"""The studies of a comparison over each other, the barrier of the best matching of each."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from .comparison import ComparedSummaries
from .config import TeacherProblem
from .plot_style import GREY, PAGE, LogFloor, legend_below, new_figure, unit_of
from .provenance import versions
from .statistics import FEWEST, Array, Interval
from .summary import Group, Summary, pair_counts
from .tasks import make_task

_MARKERS = "osD^vP*X"
_LINES = ("-", "--", "-.", (0, (3, 1, 1, 1, 1, 1)))


def comparison_figure(compared: ComparedSummaries) -> Figure:
    """Against m / M or m, or against the step size in units of the edge of stability."""
    first = next(iter(compared.summaries.values()))
    rates = first.config.study == "learning-rate"
    figure = new_figure(PAGE, 5.0 if rates else 4.0)
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
    figure.suptitle("\n".join(_title(compared)), fontsize=8)
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
                "marker": _MARKERS[i % len(_MARKERS)],
                "linestyle": _LINES[i % len(_LINES)],
            },
        )
        for i, (label, summary) in enumerate(compared.summaries.items())
    ]


def _draw_barriers(axes: Axes, compared: ComparedSummaries) -> None:
    unit, scales = _unit(compared), _scales(compared)
    drawn = []
    for label, summary, look in _looks(compared):
        groups = [group for group in summary.groups if group.sound]
        best, split = summary.best_matching(), summary.splits[-1]
        means = [group.barrier(best, split) for group in groups]
        scaled = [Interval(*(value / scales[label] for value in mean)) for mean in means]
        drawn.append((label, _places(summary, groups, unit), scaled, look))
    floor = LogFloor([value for _, _, means, _ in drawn for mean in means for value in mean])
    for label, x, means, look in drawn:
        drawable = np.array([[floor.draw(v) for v in mean] for mean in means])
        at, low, high = drawable.reshape(-1, 3).T  # perhaps of no group
        axes.plot(x, at, label=label, **look)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
    floor.finish(axes)
    relative = any(scale != 1 for scale in scales.values())
    first = next(iter(compared.summaries.values()))
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
        share = [np.mean(group.student_values("alive")) / group.width for group in groups]
        axes.plot(_places(summary, groups, unit), share, **look)
    axes.set_ylabel("share of neurons alive,\nmean")
    if unit == "edge":
        axes.axvline(1, color=GREY, linewidth=0.8, zorder=0)


def _title(compared: ComparedSummaries) -> list[str]:
    summaries = compared.summaries.values()
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
    return [
        compared.question,
        f"{pair_counts(groups)} pairs each (seeds {low} to {high}), {bands}",
        *([f"not finished: {unfinished}"] if unfinished else []),
        f"matched by {matchings}; {lost:,} of {len(rows):,} pairs are left out (failed"
        + (")" if rates else " or not converged)"),
        "computed by " + ", ".join(versions(rows)),
    ]
