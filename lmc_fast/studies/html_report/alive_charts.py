# SPDX-License-Identifier: MIT
"""Charts of alive neurons: against the step size, and against updates."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import LearningRateConfig
from ..plot_alive import alive_counts, alive_looks, alive_means, not_drawn, rate_name, shown
from ..plot_style import Line, Look
from ..statistics import Interval
from ..summary import Summary
from .captions import sentence
from .chart import Chart, axis, mean_traces, plain_y
from .places import mark_rates, places

_ALIVE = Look("#009E73", "o", "-", "alive neurons")


def alive_chart(summary: Summary, caption: str) -> Chart:
    """Mean and range over students at every step size, as in the study's figure."""
    groups = [group for group in summary.groups if group.sound]
    values = [group.student_values("alive") for group in groups]
    means = [Interval(float(np.mean(v)), float(np.min(v)), float(np.max(v))) for v in values]
    counts, pairs = [len(v) for v in values], [len(group.sound) for group in groups]
    line = Line(_ALIVE, places(summary, groups), means, counts, pairs)
    layout = plain_y("alive neurons (mean, range)")
    mark_rates(summary, layout)
    below = f"{caption} Of alive neurons the band is the range over students, not an interval."
    title = "Alive neurons (mean, range over students)"
    return Chart("alive", title, mean_traces([line]), layout, below, [line])


def updates_chart(summary: Summary, caption: str) -> Chart | None:
    """Mean alive neurons after each of ``counted_steps``; None where there are none."""
    config = summary.config
    if not isinstance(config, LearningRateConfig) or not config.counted_steps:
        return None
    groups = shown(summary)
    lines = []
    for group, look in zip(groups, alive_looks(len(groups)), strict=True):
        name = f"lr {rate_name(summary, group)}"
        drawn = Look(look["color"], look["marker"], look["linestyle"], name)
        counts = [len(alive_counts(group, step)) for step in config.counted_steps]
        means = alive_means(group, config.counted_steps)
        lines.append(Line(drawn, [float(s) for s in config.counted_steps], means, counts))
    layout: dict[str, Any] = plain_y("mean alive neurons")
    layout["xaxis"] = axis("updates", log=True)
    left = "".join(f" {sentence(line)}" for line in not_drawn(summary, groups))
    title = "Alive neurons against updates, lr in units of the divergence threshold"
    return Chart("updates", title, mean_traces(lines), layout, f"{caption}{left}", lines)
