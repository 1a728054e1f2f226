# SPDX-License-Identifier: MIT
"""Charts of the width and the learning-rate study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import LearningRateConfig, TeacherProblem
from ..plot_style import LOOKS, Look, Measure, look_of_median, measures
from ..statistics import Interval, mean_interval
from ..summary import Group, Summary
from .chart import (
    Chart,
    Line,
    Trace,
    axis,
    fit_trace,
    floor_of,
    log_y,
    mean_traces,
    note,
    plain_y,
    ticks,
    upright,
)

_DECADES = 7
_ALIVE = Look("#009E73", "o", "-", "alive neurons")
_ABOVE: dict[str, Any] = {"yref": "paper", "y": 1, "yanchor": "bottom"}


def trained_charts(summary: Summary, caption: str) -> list[Chart]:
    """A chart per measure of the barrier; with learning rates, the alive neurons first."""
    rates = isinstance(summary.config, LearningRateConfig)
    charts = [_barriers(summary, measure, caption) for measure in measures(summary.config)]
    return [_alive(summary, caption), *charts] if rates else charts


def _barriers(summary: Summary, measure: Measure, caption: str) -> Chart:
    groups = [group for group in summary.groups if group.sound]
    lines = []
    for matching in summary.config.matchings:
        values = [group.values(measure.quantity, matching, measure.split) for group in groups]
        means = [mean_interval(heights * measure.factor) for heights in values]
        counts = [len(heights) for heights in values]
        lines.append(Line(LOOKS[matching], places(summary, groups), means, counts))
    best = summary.median_of()
    if best is not None:
        medians = [Interval(group.median(best, measure.split), np.nan, np.nan) for group in groups]
        lines.append(Line(look_of_median(best), places(summary, groups), medians, lines[0].counts))
    title = "mean " + measure.label.replace("\n", " ")
    if measure.log:
        floor = floor_of(lines, _DECADES)
        layout = log_y(title, floor, lines)
        traces = mean_traces(lines, floor)
    else:
        layout = plain_y(title)
        traces = mean_traces(lines)
    if measure == measures(summary.config)[0]:
        traces += _tail(summary, measure.split)
    _mark(summary, layout)
    name = f"{measure.quantity}-{measure.split}"
    return Chart(name, title.capitalize(), traces, layout, caption, lines)


def _alive(summary: Summary, caption: str) -> Chart:
    groups = [group for group in summary.groups if group.sound]
    values = [group.student_values("alive") for group in groups]
    line = Line(_ALIVE, places(summary, groups), [mean_interval(v) for v in values],
                [len(v) for v in values])  # fmt: skip
    layout = plain_y("mean alive neurons")
    _mark(summary, layout)
    return Chart("alive", "Alive neurons", mean_traces([line]), layout, caption, [line])


def places(summary: Summary, groups: Sequence[Group]) -> list[float]:
    """Where groups stand on the x axis: their width, or their step size in thresholds."""
    if not isinstance(summary.config, LearningRateConfig):
        return [float(group.width) for group in groups]
    unit = summary.bracket.threshold if summary.bracket else 1.0
    return [group.lr / unit for group in groups]


def place_name(summary: Summary) -> str:
    """What the x axis shows."""
    if not isinstance(summary.config, LearningRateConfig):
        return "student width m"
    if summary.bracket is None:
        return "learning rate"
    return f"learning rate / divergence threshold ({summary.bracket.threshold:.4g})"


def _mark(summary: Summary, layout: dict[str, Any]) -> None:
    """Add the x axis, and the teacher's width or the edges of stability and divergence."""
    config = summary.config
    rates = isinstance(config, LearningRateConfig)
    layout["xaxis"] = axis(place_name(summary), log=not rates)
    if not rates:
        layout["xaxis"] |= ticks([group.width for group in summary.groups])
        if isinstance(config.problem, TeacherProblem):
            M = config.problem.teacher_width
            layout["shapes"].append(upright(M))
            layout["annotations"].append(note(f"m = M = {M}", x=float(np.log10(M)), **_ABOVE))
        return
    unit = summary.bracket.threshold if summary.bracket else 1.0
    if summary.edge is not None:
        layout["shapes"].append(upright(summary.edge / unit, "dash"))
        layout["annotations"].append(note("edge of stability", x=summary.edge / unit, **_ABOVE))
    if summary.bracket is not None:
        layout["shapes"].append(upright(1.0))
        layout["annotations"].append(note("diverges", x=1.0, **_ABOVE))
    for group in summary.groups:
        if not group.sound:
            where = {"x": group.lr / unit, "y": 0.05, "yref": "paper"}
            layout["annotations"].append(note("×", hovertext="no pair survives", **where))


def _tail(summary: Summary, split: str) -> list[Trace]:
    best = summary.best_matching()
    tail = summary.tail(best, split)
    if tail is None:
        return []
    return [fit_trace(tail, f"'{best}'")]
