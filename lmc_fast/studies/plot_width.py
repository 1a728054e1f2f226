# SPDX-License-Identifier: MIT
"""Barrier against width, log-log: double descent around m = M and the tail beyond it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from .captions import fine_print, overlay, wrapped
from .config import TeacherProblem
from .guide_line import guide_line
from .plot_style import (
    GREY,
    LINE,
    PAGE,
    LogFloor,
    Measure,
    draw_measure,
    legend_below,
    measures,
    new_figure,
)
from .plot_theory import draw_dense
from .settings_line import describe
from .statistics import Peak, short
from .summary import Summary
from .tail import TailFit
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
    floor = draw_measure(axes, summary.config, groups, x, measure, summary.median_of())
    if with_tail:
        _draw_tail(axes, summary, measure.split, floor)
    peak = summary.peak(best, measure.split) if with_tail else None
    if peak is not None:
        _mark_peak(axes, peak)
    axes.set_xscale("log")
    _mark_teacher(axes, summary)
    axes.set_xlabel("student width m")
    axes.set_ylabel(f"mean {measure.label}")


def _draw_tail(axes: Axes, summary: Summary, split: str, floor: LogFloor) -> None:
    """The fitted power law, or those of both halves where it is none, and m^-1/2 beside."""
    best = summary.best_matching()
    tail = summary.tail(best, split)
    if tail is None:
        return
    parts = summary.bent_tail(best, split) or (tail,)
    for part, line in zip(parts, ("-", (0, (4, 1))), strict=False):
        span = np.array([part.first, part.last], dtype=np.float64)
        axes.plot(
            span,
            part.at(span),
            color="#000000",
            linewidth=0.8,
            linestyle=line,
            label=f"fit to '{best}', m = {part.first} to {part.last}: {_power(part)}",
        )
    m, height = guide_line(summary, split, tail)
    shown = height >= floor.edge if floor.hidden else height > 0
    label = "$m^{-1/2}$ guide"
    axes.plot(m[shown], height[shown], color=GREY, linewidth=1, linestyle=(0, (6, 2)), label=label)
    if not floor.hidden:
        axes.set_ylim(bottom=min(axes.get_ylim()[0], 0.8 * height.min()))


def _power(tail: TailFit) -> str:
    slope = tail.exponent
    return f"$m^{{{slope.value:.2f}}}${slope.ends('{:.2f}'.format)}"


def _bend(summary: Summary) -> list[str]:
    """A line on a tail that one power law does not fit; none where it does."""
    best, split = summary.best_matching(), measures(summary.config)[0].split
    tail = summary.tail(best, split)
    if tail is None or summary.bent_tail(best, split) is None:
        return []
    whole = f"m = {tail.first} to {tail.last} as one: {_power(tail)}"
    return [f"the tail is no straight line, both halves are fitted; {whole}"]


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
        label=f"{peak.name}:\n"
        f"m = {place.value:.0f}{place.ends('{:.0f}'.format)}, "
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
    lines += [*_bend(summary), *fine_print(summary, "width")]
    return wrapped([*lines, *([] if theory is None else overlay(theory))], PAGE)
