# SPDX-License-Identifier: MIT
"""Charts as plain data for plotly.js: lines through means, with intervals as bands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from ..plot_means import off_the_line
from ..plot_style import DECADES, GREY, Line, LineStyle, LogFloor
from ..tail import TailFit

Trace = dict[str, Any]
SYMBOLS: Mapping[str, str] = {
    "s": "square", "^": "triangle-up", "o": "circle", "D": "diamond", "v": "triangle-down",
    "x": "x", "P": "cross", "*": "star", "X": "hexagon",
}  # fmt: skip
DASHES: Mapping[LineStyle, str] = {
    ":": "dot", "--": "dash", "-": "solid", "-.": "dashdot",
    (0, (3, 1, 1, 1, 1, 1)): "9px,3px,3px,3px,3px,3px",
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """One chart: plotly's traces and layout, and the texts around it."""

    name: str
    title: str
    traces: list[Trace]
    layout: dict[str, Any]
    caption: str
    lines: list[Line] = field(default_factory=list)

    @property
    def has_floor(self) -> bool:
        """Whether the values below a dotted line are drawn in one place."""
        return "tickvals" in self.layout.get("yaxis", {})

    def figure(self) -> dict[str, Any]:
        """What ``Plotly.newPlot`` takes."""
        return {"data": self.traces, "layout": self.layout}


def axis(title: str, *, log: bool = False) -> dict[str, Any]:
    """An axis with its title; a log axis labels powers of ten."""
    kind = {"type": "log", "exponentformat": "power"} if log else {}
    return {"title": {"text": title, "standoff": 8}, "automargin": True, **kind}


def ticks(widths: Sequence[int], factor: float = 1.16, keep: int | None = None) -> dict[str, Any]:
    """Labels at measured widths from the last one down, at least ``factor`` apart.

    The width ``keep`` is labelled if it was measured, and others too close to it are not.
    """
    kept: list[int] = []
    for width in reversed(widths):
        crowds = (
            keep in widths
            and keep is not None
            and width != keep
            and (max(width, keep) < factor * min(width, keep))
        )
        if width == keep or (not crowds and (not kept or factor * width <= kept[-1])):
            kept.append(width)
    return {"tickvals": kept, "ticktext": [f"{width:,}" for width in kept]}


def decade_ticks(places: Sequence[float]) -> dict[str, Any]:
    """A log axis over positive places, labelled at 1, 2 and 5 times powers of ten.

    It reaches the nearest of these on both sides where fewer than two are among the places.
    """
    if not places:
        return {}
    low, high = min(places), max(places)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    marks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    if sum(low <= mark <= high for mark in marks) < 2:
        low, high = max(m for m in marks if m <= low), min(m for m in marks if m >= high)
    ends = np.log10([low, high])
    beside = 0.02 + 0.03 * (ends[1] - ends[0])
    return {
        "range": [float(ends[0] - beside), float(ends[1] + beside)],
        "tickvals": marks,
        "ticktext": [f"{mark:,g}" for mark in marks],
    }


def mean_traces(lines: Iterable[Line], floor: LogFloor | None = None) -> list[Trace]:
    """A line per :class:`Line` and, below it, its band; hovering shows the true numbers.

    Parameters
    ----------
    lines : iterable of Line
    floor : LogFloor, optional
        Where values too small for a log axis are drawn.
    """
    return [trace for line in lines for trace in (*_band(line, floor), *_line(line, floor))]


def _line(line: Line, floor: LogFloor | None) -> list[Trace]:
    """The line and, apart from it, means of few pairs."""
    few, off = off_the_line(line.of_pairs)
    symbol = SYMBOLS[line.look.marker]
    y = np.array([_place(mean.value, floor) for mean in line.means])
    whole: Trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": line.look.label,
        "legendgroup": line.look.label,
        "x": list(line.x),
        "y": np.where(off, np.nan, y).tolist(),
        "line": {"color": line.look.colour, "dash": DASHES[line.look.line]},
        "marker": {"symbol": [f"{symbol}-open" if hollow else symbol for hollow in few], "size": 6},
        "text": [
            f"{mean.value:.4g}{mean.ends('{:.4g}'.format)}, {count} values"
            for mean, count in zip(line.means, line.counts, strict=True)
        ],
        "hovertemplate": "%{x:.4g}: %{text}",
    }
    if not off.any():
        return [whole]
    apart = {"mode": "markers", "showlegend": False, "y": np.where(off, y, np.nan).tolist()}
    colour = {**whole["marker"], "color": line.look.colour}
    return [whole, {**whole, **apart, "marker": colour}]


def _band(line: Line, floor: LogFloor | None) -> list[Trace]:
    """A band for every run of neighbouring places that have an interval; upright if it is alone."""
    places = groupby(zip(line.x, line.means, strict=True), lambda at: at[1].low == at[1].low)
    traces: list[Trace] = []
    for known, run in places:
        if not known:
            continue
        xs, means = zip(*run, strict=True)
        low = [_place(mean.low, floor) for mean in means]
        high = [_place(mean.high, floor) for mean in means]
        faint = _faint(line.look.colour)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "legendgroup": line.look.label,
                "showlegend": False,
                "hoverinfo": "skip",
                "x": [*xs, *reversed(xs)],
                "y": [*high, *reversed(low)],
                "fill": "toself",
                "fillcolor": faint,
                "line": {"width": 0} if len(xs) > 1 else {"width": 5, "color": faint},
            }
        )
    return traces


def _place(value: float, floor: LogFloor | None) -> float:
    return float(value if floor is None else floor.draw(value))


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"


def fit_trace(tail: TailFit, what: str, dash: str = "solid") -> Trace:
    """The power law fitted to a line's tail, named with its exponent."""
    span = np.array([tail.first, tail.last], dtype=np.float64)
    slope = tail.exponent
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"fit to {what}, m = {tail.first:,} to {tail.last:,}: "
        f"m<sup>{slope.value:.2f}</sup>{slope.ends('{:.2f}'.format)}",
        "x": span.tolist(),
        "y": tail.at(span).tolist(),
        "line": {"color": "#E69F00", "width": 1.5, "dash": dash},
        "hoverinfo": "skip",
    }


def floor_of(lines: Iterable[Line], decades: int = DECADES, more: Iterable[float] = ()) -> LogFloor:
    """The log axis that holds all means and intervals of some lines."""
    values = [value for line in lines for mean in line.means for value in mean]
    return LogFloor([*values, *more], decades)


def plain_y(title: str) -> dict[str, Any]:
    """The y axis of a chart, and room for shapes."""
    return {"yaxis": axis(title), "shapes": [], "annotations": []}


def log_y(title: str, floor: LogFloor, lines: Iterable[Line]) -> dict[str, Any]:
    """The y axis and shapes of a chart whose smallest values are drawn at a floor."""
    values = [value for line in lines for mean in line.means for value in mean]
    finite = [value for value in values if np.isfinite(value) and value > 0]
    top = np.log10(max([*finite, 10 * floor.edge])) + 0.2
    bottom = floor.power - 0.9 if floor.hidden else np.log10(floor.bottom)
    layout: dict[str, Any] = {
        "yaxis": {**axis(title, log=True), "range": [float(bottom), float(top)]},
        "shapes": [],
        "annotations": [],
    }
    if floor.hidden:
        edge = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": floor.edge}
        layout["shapes"].append(
            {**edge, "y1": floor.edge, "line": {"color": GREY, "width": 1, "dash": "dot"}}
        )
        # Labels of its own: those between decades would claim a scale below the line.
        step = 2 if top - floor.power > 8 else 1
        powers = range(floor.power + step, int(np.floor(top)) + 1, step)
        names = [f"10<sup>{power}</sup>" for power in powers]
        layout["yaxis"] |= {
            "tickvals": [floor.place, *(10.0**power for power in powers)],
            "ticktext": [f"< 10<sup>{floor.power}</sup>", *names],
        }
    return layout


def reach(layout: dict[str, Any], value: float) -> None:
    """Lower the foot of a log axis until a value is on it."""
    span = layout["yaxis"]["range"]
    span[0] = min(span[0], float(np.log10(value)) - 0.1)


def note(written: str, **where: object) -> dict[str, Any]:
    """A small grey text in a chart; on log axes places are powers of ten."""
    return {"text": written, "showarrow": False, "font": {"size": 11, "color": GREY}, **where}


def upright(x: float, dash: str = "solid", colour: str = GREY) -> dict[str, Any]:
    """A line across the chart's height at x."""
    line = {"color": colour, "width": 1, "dash": dash}
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line}
