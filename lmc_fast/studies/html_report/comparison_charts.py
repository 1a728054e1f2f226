# SPDX-License-Identifier: MIT
"""Charts of a comparison: what its figure draws."""

from __future__ import annotations

from ..comparison import ComparedSummaries
from ..comparison_lines import Panel, Panels, caption, compared_panels
from .captions import sentence
from .chart import Chart, axis, decade_ticks, floor_of, log_y, mean_traces, plain_y
from .places import mark_edge


def comparison_charts(compared: ComparedSummaries) -> list[Chart]:
    """A chart per panel of the figure."""
    found = compared_panels(compared)
    below = " ".join(sentence(line) for line in caption(compared))
    return [_chart(found, panel, below) for panel in found.panels]


def _chart(found: Panels, panel: Panel, below: str) -> Chart:
    lines, title = panel.lines, panel.label.replace("\n", " ")
    if panel.log:
        floor = floor_of(lines)
        layout, traces = log_y(title, floor, lines), mean_traces(lines, floor)
    else:
        layout, traces = plain_y(title), mean_traces(lines)
    layout["xaxis"] = axis(found.label, log=found.log)
    if found.log:
        layout["xaxis"] |= decade_ticks([x for line in lines for x in line.x])
    if found.edge:
        mark_edge(layout, 1.0)
    return Chart(panel.name, title.capitalize(), traces, layout, below, lines)
