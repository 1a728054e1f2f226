# SPDX-License-Identifier: MIT
"""Barrier against width, log-log: double descent around m = M and the tail beyond it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from .captions import fine_print, overlay, wrapped
from .config import TeacherProblem
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
from .plot_theory import draw_dense
from .settings_line import describe
from .statistics import Peak, TailFit, short
from .summary import Summary
from .theory_summary import TheorySummary


def width_figure(summary: Summary, theory: TheorySummary | None = None) -> Figure:
    """One panel per measure; in each a line per matching, and the tail's fit in the first.

    There, too, the dense law of a theory study of the same problem, if one is given. With a teacher
    a line of medians says whether few pairs carry the mean.
    """
    panels = measures(summary.config)
    title = _title(summary, theory)
    height = 3.1 if len(panels) == 1 else 2.5
    figure = new_figure(PAGE, height + LINE * len(title.splitlines()))
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, measure in zip(row, panels, strict=True):
        _draw_panel(axes, summary, measure, with_tail=measure is panels[0])
        # Labels of neighbouring ticks need more room in narrower panels: a seventh of the axis.
        span = summary.groups[-1].width / summary.groups[0].width
        _width_ticks(axes, summary, 1.16 if len(panels) == 1 else max(1.45, span**0.14))
    if theory is not None:
        draw_dense(row[0], theory, summary.groups[-1].width)
    figure.suptitle(title, fontsize=8)
    legend_below(figure, row[0], columns=2)
    return figure


def _draw_panel(axes: Axes, summary: Summary, measure: Measure, *, with_tail: bool) -> None:
    groups = [group for group in summary.groups if group.sound]
    x = np.array([group.width for group in groups], dtype=np.float64)
    best = summary.best_matching()
    draw_measure(axes, summary.config, groups, x, measure, summary.median_of())
    tail = summary.tail(best, measure.split) if with_tail else None
    if tail is not None:
        _draw_tail(axes, tail, best)
    peak = summary.peak(best, measure.split) if with_tail else None
    if peak is not None:
        _mark_peak(axes, peak)
    axes.set_xscale("log")
    _mark_teacher(axes, summary)
    axes.set_xlabel("student width m")
    axes.set_ylabel(f"mean {measure.label}")


def _draw_tail(axes: Axes, tail: TailFit, name: str) -> None:
    span = np.array([tail.first, tail.last], dtype=np.float64)
    axes.plot(
        span,
        tail.at(span),
        color="#000000",
        linewidth=0.8,
        label=f"fit to '{name}', m = {tail.first} to {tail.last}: "
        f"$m^{{{tail.exponent.value:.2f}}}${tail.exponent.ends('{:.2f}'.format)}",
    )
    # The guide starts above the fit so that the two slopes can be compared, not confused.
    guide = 2.5 * tail.at(span[:1])[0] * (span / span[0]) ** -0.5
    axes.plot(span, guide, color=GREY, linewidth=1, linestyle=(0, (6, 2)), label="$m^{-1/2}$ guide")


def _mark_peak(axes: Axes, peak: Peak) -> None:
    place, height, _ = peak
    axes.plot(
        place.value,
        height.value,
        "o",
        markersize=8,
        markerfacecolor="none",
        markeredgecolor="#000000",
        markeredgewidth=0.8,
        label=f"{peak.name}: m = {place.value:.0f}{place.ends('{:.0f}'.format)}, "
        f"{short(height.value)}{height.ends(short)}",
    )


def _mark_teacher(axes: Axes, summary: Summary) -> None:
    problem = summary.config.problem
    if not isinstance(problem, TeacherProblem):
        return
    M = problem.teacher_width
    axes.axvline(M, color=GREY, linewidth=0.8, zorder=0, label=f"m = M = {M}")


def _width_ticks(axes: Axes, summary: Summary, factor: float) -> None:
    """Label measured widths from the last one down, at least ``factor`` apart."""
    kept: list[int] = []
    for group in reversed(summary.groups):
        if not kept or factor * group.width <= kept[-1]:
            kept.append(group.width)
    axes.xaxis.set_major_locator(FixedLocator(kept))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))


def _title(summary: Summary, theory: TheorySummary | None) -> str:
    lines = ["Loss barrier modulo permutation against width", describe(summary.config)]
    lines += fine_print(summary, "width")
    return wrapped([*lines, *([] if theory is None else overlay(theory))], PAGE)
