# SPDX-License-Identifier: MIT
"""Alive neurons and barrier against the step size, aligned, with the divergence edge shaded."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .captions import fine_print, overlay, wrapped
from .config import LearningRateConfig
from .plot_means import draw_means
from .plot_style import (
    GREY,
    LINE,
    PAGE,
    Measure,
    draw_measure,
    legend_below,
    measures,
    new_figure,
)
from .plot_theory import draw_as_sparse
from .settings_line import describe
from .statistics import Array, Interval
from .summary import Group, Summary
from .theory_summary import TheorySummary

_GREEN = "#009E73"


def learning_rate_figure(summary: Summary, theory: TheorySummary | None = None) -> Figure:
    """Alive neurons on top, a panel per measure of the barrier below, one axis of step sizes.

    In the first of these, too, the random minima of a theory study of the same problem, if one is
    given, with as many dead neurons.
    """
    panels = [measure for measure in measures(summary.config) if measure.split != "train"]
    title = _title(summary, theory)
    figure = new_figure(PAGE, 1.2 + 1.9 * len(panels) + LINE * len(title.splitlines()))
    heights = [1.0, *(1.4 for _ in panels)]
    column = figure.subplots(1 + len(panels), 1, sharex=True, height_ratios=heights)
    unit = summary.bracket.threshold if summary.bracket else 1.0
    groups = [group for group in summary.groups if group.sound]
    x = np.array([group.lr / unit for group in groups])
    _draw_alive(column[0], groups, x)
    for axes, measure in zip(column[1:], panels, strict=True):
        _draw_barriers(axes, summary, groups, x, measure)
    if theory is not None and groups:
        draw_as_sparse(column[1], theory, groups, x)
    for axes in column:
        _shade(axes, summary, unit)
    column[-1].set_xlabel(_axis_label(summary))
    figure.suptitle(title, fontsize=8)
    legend_below(figure, column[1], columns=3 if theory is None else 2)
    return figure


def _draw_alive(axes: Axes, groups: list[Group], x: Array) -> None:
    counts = [group.student_values("alive") for group in groups]
    axes.fill_between(
        x,
        [values.min() for values in counts],
        [values.max() for values in counts],
        color=_GREEN,
        alpha=0.2,
        linewidth=0,
    )
    means = [Interval(float(values.mean()), np.nan, np.nan) for values in counts]
    pairs = [len(group.sound) for group in groups]
    draw_means(axes, x, means, pairs, color=_GREEN, marker="o")
    axes.set_ylabel("alive neurons\n(mean, range)")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))


def _draw_barriers(
    axes: Axes, summary: Summary, groups: list[Group], x: Array, measure: Measure
) -> None:
    draw_measure(axes, summary.config, groups, x, measure)
    axes.set_ylabel(f"mean {measure.label}")


def _shade(axes: Axes, summary: Summary, unit: float) -> None:
    """Shade what lies beyond the threshold and mark the edge of stability below it.

    A cross marks settings without a sound pair.
    """
    right = max(1.02, max(group.lr for group in summary.groups) / unit)
    right += 0.02 * right
    if summary.bracket is not None:
        axes.axvspan(summary.bracket.low / unit, right, color="#000000", alpha=0.1, linewidth=0)
        axes.set_xlim(right=right)
    if summary.edge is not None:
        axes.axvline(
            summary.edge / unit,
            color=GREY,
            linewidth=0.8,
            zorder=0,
            label="edge of stability, 2 / sharpness at small learning rates",
        )
    lost = [group.lr / unit for group in summary.groups if not group.sound]
    axes.plot(
        lost,
        [0.05] * len(lost),
        "x",
        color=GREY,
        transform=axes.get_xaxis_transform(),
        label="no pair survives" if lost else None,
    )


def _axis_label(summary: Summary) -> str:
    if summary.bracket is None:
        return "learning rate"
    threshold, config = summary.bracket.threshold, summary.config
    if isinstance(config, LearningRateConfig) and config.lr_per_width:
        value = f"lr = {threshold:.4g} = {threshold * config.width:.3g}/m"
    else:
        value = f"lr = {threshold:.4g}"
    return f"learning rate / divergence threshold ({value}, shaded beyond)"


def _title(summary: Summary, theory: TheorySummary | None) -> str:
    lines = ["Sparsity and barrier against learning rate", describe(summary.config)]
    lines += fine_print(summary, "step size")
    return wrapped([*lines, *([] if theory is None else overlay(theory))], PAGE)
