# SPDX-License-Identifier: MIT
"""Charts of the theory study."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...grouped_minima import crossover_width
from ..plot_style import GREY, LOOKS, Line, Look
from ..statistics import FEWEST, Interval
from ..theory import problem_of
from ..theory_summary import DENSE, TheorySummary
from .chart import (
    Chart,
    axis,
    fit_trace,
    floor_of,
    log_y,
    mean_traces,
    note,
    plain_y,
    ticks,
    upright,
)

_DECADES = 12


def theory_charts(summary: TheorySummary, caption: str) -> list[Chart]:
    """The matched barrier, and the share of pairs that some permutation joins without one."""
    return [_barriers(summary, caption), _certificate(summary, caption)]


def _lines(summary: TheorySummary, quantity: str) -> list[Line]:
    """A line per death rate; ``quantity`` is "barrier" or "certificate"."""
    looks = list(LOOKS.values())
    lines = []
    for i, r in enumerate(summary.config.deaths):
        look = Look(*looks[i % len(looks)][:3], f"r = {r:g}")
        means: list[Interval] = [getattr(group, quantity)(r) for group in summary.groups]
        counts = [len(group.rows) for group in summary.groups]
        lines.append(Line(look, [float(group.width) for group in summary.groups], means, counts))
    return lines


def _barriers(summary: TheorySummary, caption: str) -> Chart:
    lines = _lines(summary, "barrier")
    dense = DENSE in summary.config.deaths
    lowest = [group.mean("floor", DENSE) for group in summary.groups] if dense else []
    floor = floor_of(lines, _DECADES, lowest)
    layout = log_y("mean loss barrier", floor, lines) | {"xaxis": _widths(summary)}
    traces = mean_traces(lines, floor)
    if dense:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "lower bound, any permutation, r = 0",
                "x": [group.width for group in summary.groups],
                "y": [floor.draw(value) for value in lowest],
                "text": [f"{value:.4g}" for value in lowest],
                "hovertemplate": "%{x}: %{text}",
                "line": {"color": GREY, "width": 1},
            }
        )
    tail = summary.tail()
    if tail is not None:
        traces.append(fit_trace(tail, "r = 0"))
    below = f"{caption} A mean that fewer than {FEWEST} pairs contribute to is without an interval."
    return Chart("barrier", "Mean loss barrier after matching", traces, layout, below, lines)


def _widths(summary: TheorySummary) -> dict[str, Any]:
    M = problem_of(summary.config).teacher_width
    widths = ticks([group.width for group in summary.groups], 1.5, keep=M)
    return axis("student width m", log=True) | widths


def _certificate(summary: TheorySummary, caption: str) -> Chart:
    lines = _lines(summary, "certificate")
    layout = plain_y("share of pairs") | {"xaxis": _widths(summary)}
    layout["yaxis"] |= {"range": [-0.03, 1.03]}
    M, widths = problem_of(summary.config).teacher_width, [g.width for g in summary.groups]
    for line, r in zip(lines, summary.config.deaths, strict=True):
        crossover = crossover_width(M, r)
        if widths[0] < crossover < widths[-1]:
            layout["shapes"].append(upright(crossover, "dot", line.look.colour))
            place = {"x": float(np.log10(crossover)), "yref": "paper", "y": 1, "yanchor": "bottom"}
            layout["annotations"].append(note(f"crossover, r = {r:g}", **place))
    title = "Share of pairs with zero barrier for some permutation"
    below = (
        f"{caption} The intervals of these shares are Wilson's. Dotted: the crossover width "
        "M\u00b2 q (1 - q) / \u03c0 r\u00b2, q = (1 - r) / M."
    )
    return Chart("certificate", title, mean_traces(lines), layout, below, lines)
