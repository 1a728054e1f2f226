# SPDX-License-Identifier: MIT
"""Alive neurons against the number of updates, a line per step size."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .captions import fine_print, wrapped
from .cells import SIDES, alive_column
from .config import LearningRateConfig
from .end_labels import End, label_ends
from .plot_means import draw_means
from .plot_style import LINE, LINES, MARKERS, PAGE, new_figure
from .settings_line import describe
from .statistics import Array, Interval, mean_interval
from .summary import Group, Summary

_HEIGHT = 2.3  # of the axes, inches, about


def alive_figure(summary: Summary) -> Figure | None:
    """Mean alive neurons after each of ``counted_steps``, over students that had not diverged.

    A line per step size, named where it ends. None where the configuration has no such steps.
    """
    config = summary.config
    if not isinstance(config, LearningRateConfig) or not config.counted_steps:
        return None
    groups = shown(summary)
    lines = ["Alive neurons against updates", describe(config)]
    lines += [*not_drawn(summary, groups), *fine_print(summary, "step size", "alive neurons")]
    title = wrapped(lines, PAGE)
    figure = new_figure(PAGE, _HEIGHT + 0.5 + LINE * len(title.splitlines()))
    figure.suptitle(title, fontsize=8)
    axes = figure.subplots()
    ends = []
    for group, look in zip(groups, alive_looks(len(groups)), strict=True):
        means = alive_means(group, config.counted_steps)
        counts = [len(alive_counts(group, step)) for step in config.counted_steps]
        label = rate_name(summary, group)
        draw_means(axes, config.counted_steps, means, counts, alpha=0.2, label=label, **look)
        ends.append(End(config.counted_steps[-1], means[-1].value, label, look["color"]))
    axes.set_xscale("log")
    axes.set_xlabel("updates")
    axes.set_ylabel("mean alive neurons")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_ylim(axes.get_ylim())
    label_ends(axes, ends[::-1], _HEIGHT, "lr / divergence\nthreshold")
    return figure


def alive_looks(count: int) -> list[dict[str, Any]]:
    """Colours that darken with the step size; neighbours differ in marker and line too."""
    colours = mpl.colormaps["viridis_r"](np.linspace(0.1, 1, max(count, 1)))
    return [
        {
            "color": mpl.colors.to_hex(colours[i]),
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": LINES[i % len(LINES)],
            "markersize": 3,
            "linewidth": 1,
        }
        for i in range(count)
    ]


def shown(summary: Summary) -> list[Group]:
    """The calmest step size, the last one below the edge of stability, and all beyond it."""
    groups = [group for group in summary.groups if group.sound]
    edge = summary.edge
    if edge is None:
        return groups
    calm = [group for group in groups if group.lr <= edge]
    return calm[:1] + calm[1:][-1:] + [group for group in groups if group.lr > edge]


def not_drawn(summary: Summary, groups: list[Group]) -> list[str]:
    """A line on step sizes that are left out and why; none where all are drawn."""
    drawn = {group.lr for group in groups}
    left = [group for group in summary.groups if group.lr not in drawn]
    calm = ", ".join(rate_name(summary, group) for group in left if group.sound)
    lost = ", ".join(rate_name(summary, group) for group in left if not group.sound)
    parts = [
        *([f"{calm} (below the edge of stability)"] if calm else []),
        *([f"{lost} (no pair survives)"] if lost else []),
    ]
    return ["not drawn: lr / threshold = " + "; ".join(parts)] if parts else []


def rate_name(summary: Summary, group: Group) -> str:
    """A step size in units of the divergence threshold."""
    return f"{group.lr / (summary.bracket.threshold if summary.bracket else 1.0):.3f}"


def alive_means(group: Group, steps: tuple[int, ...]) -> list[Interval]:
    """Mean alive neurons of a group after each number of updates, with intervals."""
    return [mean_interval(alive_counts(group, step)) for step in steps]


def alive_counts(group: Group, step: int) -> Array:
    """Alive neurons after some updates, of every student that had not diverged."""
    names = [f"{alive_column(step)}_{side}" for side in SIDES]
    found = [row[name] for row in group.rows for name in names if row[name] is not None]
    return np.array(found, dtype=np.float64)
