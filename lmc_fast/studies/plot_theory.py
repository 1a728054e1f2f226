# SPDX-License-Identifier: MIT
"""Matched barrier between random global minima against width, and how often it is zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..grouped_minima import crossover_width
from .captions import code, seeds, unfinished_widths, wrapped
from .plot_style import GREY, LINE, LOOKS, PAGE, LogFloor, Look, new_figure
from .settings_line import describe
from .statistics import FEWEST, Interval
from .summary import Group
from .tail import TailFit
from .theory import problem_of
from .theory_summary import DENSE, TheorySummary

# More than in other figures: these barriers fall as m^-2 and faster.
_DECADES = 12
_OVERLAY = "#CC79A7"
_COLOURS = [look[:3] for look in LOOKS.values()]


def theory_figure(summary: TheorySummary) -> Figure:
    """Barrier, log-log, and the probability that some permutation has none; a line per rate."""
    title = _title(summary)
    figure = new_figure(PAGE, 3.3 + LINE * len(title.splitlines()))
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_barriers(left, summary)
    _draw_certificate(right, summary)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("student width m")
    figure.suptitle(title, fontsize=8)
    handles, labels = left.get_legend_handles_labels()
    crossover, name = right.get_legend_handles_labels()
    figure.legend(
        [*handles, *crossover],
        [*labels, *name],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        handlelength=2.4,
    )
    return figure


def draw_dense(axes: Axes, summary: TheorySummary, widest: int) -> None:
    """The mean dense barriers up to a width, with their intervals, over another study's panel.

    Widths at which all of them are zero are left out, and the axes keep their limits.
    """
    groups = [group for group in summary.groups if group.width <= widest]
    means = {group.width: group.barrier(DENSE) for group in groups}
    shown = {m: mean for m, mean in means.items() if mean.value > 0}
    at, low, high = _columns(list(shown.values()))
    limits = axes.get_ylim()
    label = f"random minima (theory, {summary.config.pairs:,} pairs)"
    axes.plot(list(shown), at, color=_OVERLAY, marker="v", linestyle="-.", label=label)
    axes.fill_between(list(shown), low, high, color=_OVERLAY, alpha=0.18, linewidth=0)
    axes.set_ylim(limits)


def draw_as_sparse(
    axes: Axes, theory: TheorySummary, groups: Sequence[Group], x: np.ndarray
) -> None:
    """Mean barriers of minima with as many dead neurons as a learning-rate study's students have.

    On average, that is, and between the death rates that were sampled. Where they are zero none is
    drawn, and the axes keep their limits.

    Raises
    ------
    ConfigError
        The theory study lacks the width, or death rates as high.
    """
    m = groups[0].width
    deaths = [float(np.mean(m - group.student_values("alive"))) / m for group in groups]
    at, low, high = _columns(theory.barriers_at(m, deaths))
    limits = axes.get_ylim()
    label = f"random minima, as many dead (theory, {theory.config.pairs:,} pairs)"
    axes.plot(x, at, color=_OVERLAY, marker="v", linestyle="-.", label=label)
    axes.fill_between(x, low, high, color=_OVERLAY, alpha=0.18, linewidth=0)
    axes.set_ylim(limits)


def _looks(summary: TheorySummary) -> dict[float, Look]:
    deaths = summary.config.deaths
    labels = ["r = 0 (no dead neurons)" if r == DENSE else f"death rate r = {r:g}" for r in deaths]
    return {
        r: Look(*_COLOURS[i % len(_COLOURS)], label)
        for i, (r, label) in enumerate(zip(deaths, labels, strict=True))
    }


def _draw_barriers(axes: Axes, summary: TheorySummary) -> None:
    x = np.array([group.width for group in summary.groups], dtype=np.float64)
    means = {r: [g.barrier(r) for g in summary.groups] for r in summary.config.deaths}
    lowest = [group.mean("floor", DENSE) for group in summary.groups if DENSE in means]
    shown = [value for line in means.values() for mean in line for value in mean]
    floor = LogFloor([*shown, *lowest], _DECADES)
    for r, look in _looks(summary).items():
        at, low, high = _columns([Interval(*map(floor.draw, mean)) for mean in means[r]])
        axes.plot(x, at, color=look.colour, marker=look.marker, linestyle=look.line,
                  label=look.label)  # fmt: skip
        axes.fill_between(x, low, high, color=look.colour, alpha=0.18, linewidth=0)
        few = np.array([np.isnan(mean.low) for mean in means[r]])
        axes.plot(x[few], at[few], color=look.colour, marker=look.marker, linestyle="none",
                  markerfacecolor="white")  # fmt: skip
    if lowest:
        drawn = [floor.draw(value) for value in lowest]
        axes.plot(x, drawn, color=GREY, linewidth=0.8, label="lower bound, any permutation, r = 0")
    tail = summary.tail()
    if tail is not None:
        _draw_tail(axes, tail)
    floor.finish(axes)
    axes.set_ylabel("mean loss barrier")


def _draw_tail(axes: Axes, tail: TailFit) -> None:
    span = np.array([tail.first, tail.last], dtype=np.float64)
    slope = tail.exponent
    # Above the means, so that they stay visible.
    axes.plot(
        span,
        3 * tail.at(span),
        color="#E69F00",
        linewidth=1,
        label=f"3 x fit to r = 0, m = {tail.first:,} to {tail.last:,}: "
        f"$m^{{{slope.value:.3f}}}${slope.ends('{:.3f}'.format)}",
    )


def _draw_certificate(axes: Axes, summary: TheorySummary) -> None:
    x = [group.width for group in summary.groups]
    M = problem_of(summary.config).teacher_width
    label = "crossover $M^2 q (1 - q) / \\pi r^2$, $q = (1 - r) / M$"
    for r, look in _looks(summary).items():
        at, low, high = _columns([group.certificate(r) for group in summary.groups])
        axes.errorbar(
            x,
            at,
            yerr=[np.maximum(at - low, 0), np.maximum(high - at, 0)],
            color=look.colour,
            marker=look.marker,
            linestyle=look.line,
            elinewidth=0.8,
            capsize=1.5,
        )
        crossover = crossover_width(M, r)
        if x[0] < crossover < x[-1]:
            axes.axvline(crossover, color=look.colour, linewidth=0.8, linestyle=(0, (1, 2)),
                         label=label)  # fmt: skip
            label = "_"
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share of pairs with zero barrier\nfor some permutation")


def _columns(intervals: list[Interval]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    at, low, high = np.array(intervals, dtype=np.float64).reshape(-1, 3).T
    return at, low, high


def _hollow(summary: TheorySummary) -> list[str]:
    """A line on means without an interval; none without any."""
    means = [group.barrier(r) for r in summary.config.deaths for group in summary.groups]
    if not any(np.isnan(mean.low) for mean in means):
        return []
    return [f"hollow: fewer than {FEWEST} pairs have a barrier, no interval"]


def _title(summary: TheorySummary) -> str:
    config = summary.config
    bands = "95% intervals: bootstrap of the means (left), Wilson (right)"
    few = f"too few pairs for bootstrap intervals (below {FEWEST})"
    rows = [row for group in summary.groups for row in group.rows]
    there = {group.width: len(group.rows) for group in summary.groups}
    lines = [
        "Matched barrier between random global minima",
        describe(config),
        "matched by types: an upper bound on the least barrier, zero at the foot of the axis",
        f"{config.pairs:,} pairs per width ({seeds(config)}), none left out, "
        + (bands if config.pairs >= FEWEST else few),
        *_hollow(summary),
        *unfinished_widths(config.widths, there, config.pairs),
        code(rows),
    ]
    return wrapped(lines, PAGE)
