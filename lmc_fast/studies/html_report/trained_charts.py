# SPDX-License-Identifier: MIT
"""Charts of the width and the learning-rate study."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..captions import hollow
from ..config import LearningRateConfig
from ..guide_line import guide_line
from ..plot_style import GREY, LOOKS, Line, LogFloor, Measure, look_of_median, measures
from ..statistics import Interval, mean_interval, short
from ..summary import Summary
from .alive_charts import alive_chart, updates_chart
from .captions import sentence
from .chart import Chart, Trace, fit_trace, floor_of, log_y, mean_traces, plain_y, reach
from .places import mark, places


def trained_charts(summary: Summary, caption: str) -> list[Chart]:
    """A chart per measure of the barrier; with learning rates, the alive neurons first."""
    said = "".join(f" {sentence(line)}" for line in hollow(len(g.sound) for g in summary.groups))
    below = caption + said
    charts = [_barriers(summary, measure, below) for measure in measures(summary.config)]
    if not isinstance(summary.config, LearningRateConfig):
        return charts
    updates = updates_chart(summary, caption)
    return [alive_chart(summary, below), *charts, *([] if updates is None else [updates])]


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
        floor = floor_of(lines)
        layout = log_y(title, floor, lines)
        traces = mean_traces(lines, floor)
        if measure == measures(summary.config)[0]:
            caption += _bend(summary, measure.split)
            traces += _tail(summary, measure.split, floor, layout)
            traces += _peak(summary, measure.split)
    else:
        layout = plain_y(title)
        traces = mean_traces(lines)
    mark(summary, layout)
    name = f"{measure.quantity}-{measure.split}"
    return Chart(name, title.capitalize(), traces, layout, caption, lines)


def _tail(summary: Summary, split: str, floor: LogFloor, layout: dict[str, Any]) -> list[Trace]:
    """The fitted power law, or those of both halves where it is none, and m^-1/2 beside."""
    best = summary.best_matching()
    tail = summary.tail(best, split)
    if tail is None:
        return []
    parts = summary.bent_tail(best, split) or (tail,)
    traces = [
        fit_trace(part, f"'{best}'", dash)
        for part, dash in zip(parts, ("solid", "dash"), strict=False)
    ]
    m, height = guide_line(summary, split, tail)
    visible = height >= floor.edge if floor.hidden else height > 0
    if not floor.hidden:
        reach(layout, float(height.min()))
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "m<sup>-1/2</sup> guide",
            "x": m[visible].tolist(),
            "y": height[visible].tolist(),
            "line": {"color": GREY, "width": 1.5, "dash": "longdash"},
            "hoverinfo": "skip",
        }
    )
    return traces


def _bend(summary: Summary, split: str) -> str:
    """A sentence on a tail that one power law does not fit; empty where it does."""
    best = summary.best_matching()
    tail = summary.tail(best, split)
    if tail is None or summary.bent_tail(best, split) is None:
        return ""
    slope = tail.exponent
    return (
        " The tail is no straight line, both halves are fitted; "
        f"m = {tail.first:,} to {tail.last:,} as one: m^{slope.value:.2f}"
        f"{slope.ends('{:.2f}'.format)}."
    )


def _peak(summary: Summary, split: str) -> list[Trace]:
    """A ring around the highest mean of a width study."""
    peak = summary.peak(summary.best_matching(), split)
    if peak is None:
        return []
    place, height, _ = peak
    where = f"m = {place.value:.0f}{place.ends('{:.0f}'.format)}"
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"{peak.name}: {where}, {short(height.value)}{height.ends(short)}",
            "x": [place.value],
            "y": [height.value],
            "marker": {"symbol": "circle-open", "size": 14, "color": "#000000"},
            "hoverinfo": "skip",
        }
    ]
