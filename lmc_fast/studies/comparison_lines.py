# SPDX-License-Identifier: MIT
"""What the figure of a comparison draws, and its page too: lines, axes and caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np

from .captions import code, hollow
from .comparison import ComparedSummaries
from .config import TeacherProblem
from .plot_style import LINES, MARKERS, Line, Look, unit_of
from .settings_line import describe_all
from .statistics import FEWEST, Interval, mean_interval
from .summary import Group, Summary, pair_counts
from .tasks import make_task


@dataclass(frozen=True)
class Panel:
    """One panel: a line per study.

    Attributes
    ----------
    name : {"alive", "barrier"}
    label : str
        Of its y axis.
    log : bool
        Whether that is: of barriers.
    lines : list of Line
    """

    name: str
    label: str
    log: bool
    lines: list[Line]


@dataclass(frozen=True)
class Panels:
    """Panels from top to bottom, over one x axis.

    Attributes
    ----------
    panels : list of Panel
    label : str
        Of the x axis.
    log : bool
        Whether the x axis is: of widths.
    edge : bool
        Whether x = 1 is the edge of stability.
    """

    panels: list[Panel]
    label: str
    log: bool
    edge: bool


def compared_panels(compared: ComparedSummaries) -> Panels:
    """The barrier of the best matching of each study; for step sizes, the alive neurons above it.

    Against m / M or m, or against the step size in units of the edge of stability.
    """
    unit = _unit(compared)
    panels = [_alive(compared, unit)] if compared.rates else []
    panels.append(_barriers(compared, unit))
    return Panels(panels, _X_LABELS[unit], not compared.rates, unit == "edge")


def caption(compared: ComparedSummaries) -> list[str]:
    """Lines on the problem, the training, seeds, pairs, exclusions and the code."""
    summaries = list(compared.summaries.values())
    groups = [group for summary in summaries for group in summary.groups]
    seeds = {(s.config.first_seed, s.config.first_seed + 2 * s.config.pairs - 1) for s in summaries}
    low, high = min(first for first, _ in seeds), max(last for _, last in seeds)
    rows = [row for summary in summaries for row in summary.rows]
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
        describe_all([summary.config for summary in summaries]),
        f"{pair_counts(groups)} pairs each (seeds {low} to {high}), {bands}",
        *hollow(len(group.sound) for group in groups),
        *([f"not finished: {unfinished}"] if unfinished else []),
        f"matched by {matchings}; {lost:,} of {len(rows):,} pairs are left out (failed"
        + (")" if compared.rates else " or not converged)"),
        code(rows),
    ]


_X_LABELS = {
    "m": "student width m",
    "m / M": "student width m / teacher width M",
    "edge": "learning rate / (2 / sharpness at small learning rates)",
    "threshold": "learning rate / divergence threshold",
}


def _unit(compared: ComparedSummaries) -> str:
    summaries = compared.summaries.values()
    if compared.rates:
        return "edge" if all(s.edge is not None for s in summaries) else "threshold"
    teachers = all(isinstance(s.config.problem, TeacherProblem) for s in summaries)
    return "m / M" if teachers else "m"


def _places(summary: Summary, groups: Sequence[Group], unit: str) -> list[float]:
    if unit == "m":
        return [float(group.width) for group in groups]
    if unit == "m / M":
        assert isinstance(summary.config.problem, TeacherProblem)
        return [group.width / summary.config.problem.teacher_width for group in groups]
    scale = summary.edge if unit == "edge" else summary.bracket and summary.bracket.threshold
    return [group.lr / (scale or 1.0) for group in groups]


def _barriers(compared: ComparedSummaries, unit: str) -> Panel:
    scales = _scales(compared)
    lines = []
    for label, look in _looks(compared).items():
        summary, scale = compared.summaries[label], scales[label]
        best, split = summary.best_matching(), summary.splits[-1]
        groups = [group for group in summary.groups if group.sound]
        means = [Interval(*(v / scale for v in group.barrier(best, split))) for group in groups]
        counts = [len(group.values("barrier", best, split)) for group in groups]
        pairs = [len(group.sound) for group in groups]
        lines.append(Line(look, _places(summary, groups, unit), means, counts, pairs))
    relative = any(scale != 1 for scale in scales.values())
    name = (
        "mean matched barrier /\nloss of the zero network"
        if relative
        else "mean matched loss barrier" + unit_of(compared.configs[0].problem, " ({})")
    )
    return Panel("barrier", name, True, lines)


def _alive(compared: ComparedSummaries, unit: str) -> Panel:
    lines = []
    for label, look in _looks(compared).items():
        summary = compared.summaries[label]
        groups = [group for group in summary.groups if group.sound]
        values = [group.student_values("alive") / group.width for group in groups]
        counts, pairs = [len(v) for v in values], [len(group.sound) for group in groups]
        # Twice as many students as pairs, and yet no interval where the pairs are too few.
        means = [
            mean if few >= FEWEST else Interval(mean.value, np.nan, np.nan)
            for mean, few in zip(map(mean_interval, values), pairs, strict=True)
        ]
        lines.append(Line(look, _places(summary, groups, unit), means, counts, pairs))
    return Panel("alive", "share of neurons alive,\nmean", False, lines)


def _looks(compared: ComparedSummaries) -> dict[str, Look]:
    """Of every study, by its label; in the figure's legend one without a sound pair says so."""
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(compared.summaries)))
    lost = " (all failed)" if compared.rates else " (none converged)"
    looks = {}
    for i, (label, summary) in enumerate(compared.summaries.items()):
        name = label if any(group.sound for group in summary.groups) else label + lost
        marker, line = MARKERS[i % len(MARKERS)], LINES[i % len(LINES)]
        looks[label] = Look(mpl.colors.to_hex(colours[i]), marker, line, name)
    return looks


def _scales(compared: ComparedSummaries) -> dict[str, float]:
    """What barriers are divided by: the zero network's loss where teachers of several M differ."""
    configs = {label: summary.config for label, summary in compared.summaries.items()}
    if not all(isinstance(config.problem, TeacherProblem) for config in configs.values()):
        return dict.fromkeys(configs, 1.0)
    losses = {label: make_task(config).zero_loss for label, config in configs.items()}
    same = max(losses.values()) - min(losses.values()) <= 1e-9 * max(losses.values())
    return dict.fromkeys(losses, 1.0) if same else losses
