# SPDX-License-Identifier: MIT
"""Alive neurons against the number of updates, a line per step size."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .captions import fine_print, wrapped
from .cells import SIDES, alive_column
from .config import LearningRateConfig
from .plot_style import LINE, PAGE, new_figure
from .settings_line import describe
from .statistics import Array, Interval, mean_interval
from .summary import Group, Summary


def alive_figure(summary: Summary) -> Figure | None:
    """Mean alive neurons after each of ``counted_steps``, over students that had not diverged.

    None where the configuration has no such steps.
    """
    config = summary.config
    if not isinstance(config, LearningRateConfig) or not config.counted_steps:
        return None
    lines = ["Alive neurons against updates", describe(config)]
    title = wrapped([*lines, *fine_print(summary, "step size", "alive neurons")], PAGE)
    figure = new_figure(PAGE, 2.7 + LINE * len(title.splitlines()))
    figure.suptitle(title, fontsize=8)
    axes = figure.subplots()
    unit = summary.bracket.threshold if summary.bracket else 1.0
    groups = _shown(summary)
    colours = mpl.colormaps["viridis_r"](np.linspace(0, 1, len(groups)))
    for group, colour in zip(groups, colours, strict=True):
        at, low, high = np.array(alive_means(group, config.counted_steps)).T
        label = f"{group.lr / unit:.3f}"
        axes.plot(config.counted_steps, at, color=colour, marker="o", markersize=2.5, label=label)
        axes.fill_between(config.counted_steps, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlabel("updates")
    axes.set_ylabel("mean alive neurons")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    name = "lr / divergence\nthreshold"
    figure.legend(loc="outside right center", title=name, frameon=False)
    return figure


def _shown(summary: Summary) -> list[Group]:
    """The calmest step size, the last one below the edge of stability, and all beyond it."""
    groups = [group for group in summary.groups if group.sound]
    edge = summary.edge
    if edge is None:
        return groups
    calm = [group for group in groups if group.lr <= edge]
    return calm[:1] + calm[1:][-1:] + [group for group in groups if group.lr > edge]


def alive_means(group: Group, steps: tuple[int, ...]) -> list[Interval]:
    """Mean alive neurons of a group after each number of updates, with intervals."""
    return [mean_interval(_counts(group, step)) for step in steps]


def _counts(group: Group, step: int) -> Array:
    names = [f"{alive_column(step)}_{side}" for side in SIDES]
    found = [row[name] for row in group.rows for name in names if row[name] is not None]
    return np.array(found, dtype=np.float64)
