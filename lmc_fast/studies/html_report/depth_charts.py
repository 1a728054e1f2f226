# SPDX-License-Identifier: MIT
"""Charts of the depth study."""

from __future__ import annotations

from ..captions import hollow
from ..depth_summary import DepthSummary
from ..plot_depth import DEPTH_LOOKS, PANELS, DepthPanel, means
from ..plot_style import Line, Look
from .captions import sentence
from .chart import Chart, axis, floor_of, log_y, mean_traces, plain_y, ticks


def depth_charts(summary: DepthSummary, caption: str) -> list[Chart]:
    """A chart per measure, two lines per architecture: matched, and dotted not matched."""
    counts = (len(g.sound(n)) for g in summary.groups for n in summary.config.architectures)
    below = caption + "".join(f" {sentence(line)}" for line in hollow(counts))
    return [_chart(summary, panel, below) for panel in PANELS]


def _chart(summary: DepthSummary, panel: DepthPanel, caption: str) -> Chart:
    lines = []
    for name in summary.config.architectures:
        look = DEPTH_LOOKS[name]
        counts = [len(group.sound(name)) for group in summary.groups]
        for matching, dash, label in (("weights", "-", ""), ("none", ":", ", not matched")):
            drawn = Look(look.colour, look.marker, dash, look.label + label)
            x = [float(group.width) for group in summary.groups]
            lines.append(Line(drawn, x, means(summary, panel, name, matching), counts))
    title = "mean " + panel.label.replace("\n", " ")
    if panel.log:
        floor = floor_of(lines)
        layout, traces = log_y(title, floor, lines), mean_traces(lines, floor)
    else:
        layout, traces = plain_y(title), mean_traces(lines)
    layout["xaxis"] = axis("width m", log=True) | ticks([group.width for group in summary.groups])
    return Chart(
        f"{panel.quantity}-{panel.split}", title.capitalize(), traces, layout, caption, lines
    )
