# SPDX-License-Identifier: MIT
"""How every figure looks: sizes of a two-column paper, colours all readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from .config import DatasetProblem, Problem, StudyConfig, TeacherProblem
from .plot_means import draw_means
from .statistics import ROUNDING, Array, Interval, mean_interval
from .summary import Group

COLUMN = 3.3  # inches, one column
PAGE = 6.8  # inches, both columns
LINE = 0.135  # inches, a line of a caption
GREY = "#777777"
DECADES = 7

_RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    # The same store gives the same file.
    "svg.hashsalt": "lmc_fast",
}


# As matplotlib takes it: a name, or an offset and the lengths of dashes and gaps.
LineStyle = str | tuple[int, tuple[int, ...]]


class Look(NamedTuple):
    """Colour (Okabe and Ito), marker, line and label of one matching; no two share any."""

    colour: str
    marker: str
    line: LineStyle
    label: str

    def of_line(self) -> dict[str, Any]:
        """What matplotlib calls it."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.line,
            "label": self.label,
        }


class Line(NamedTuple):
    """Means with intervals at places x, how they look, and how many values each is of.

    ``pairs``, where the values are not of pairs, are the pairs that they come from: fewer than
    ``FEWEST`` make a hollow marker.
    """

    look: Look
    x: Sequence[float]
    means: Sequence[Interval]
    counts: Sequence[int]
    pairs: Sequence[int] | None = None

    @property
    def of_pairs(self) -> Sequence[int]:
        """Of how many pairs each mean is."""
        return self.counts if self.pairs is None else self.pairs


LOOKS: Mapping[str, Look] = {
    "none": Look("#000000", "s", ":", "no matching"),
    "weights": Look("#D55E00", "^", "--", "matched by weights"),
    "gap": Look("#0072B2", "o", "-", "matched by gap cost"),
    "activations": Look("#009E73", "D", "-.", "matched by activations"),
    "random": Look("#CC79A7", "v", ":", "random matching"),
}


# Of figures with many lines, of which each has another pair of these.
MARKERS = "osD^vP*X"
LINES: Sequence[LineStyle] = ("-", "--", "-.", (0, (3, 1, 1, 1, 1, 1)), ":")


def look_of_median(name: str) -> Look:
    """Of the line through the medians over pairs, beside that of a matching's means."""
    return Look("#56B4E9", "x", ":", f"{LOOKS[name].label}, median")


class Measure(NamedTuple):
    """What one panel of barriers shows: column, split, axis label, factor to its unit."""

    quantity: str
    split: str
    label: str
    factor: float
    log: bool


def measures(config: StudyConfig) -> list[Measure]:
    """Panels of barriers that a problem calls for."""
    if isinstance(config.problem, TeacherProblem):
        return [Measure("barrier", "population", "loss barrier", 1.0, True)]
    unit = unit_of(config.problem, " ({})")
    return [
        Measure("barrier", "train", f"loss barrier,\ntrain{unit}", 1.0, True),
        Measure("barrier", "test", f"loss barrier,\ntest{unit}", 1.0, True),
        Measure("accuracy_drop", "test", "accuracy barrier,\ntest (% points)", 100.0, False),
    ]


def loss_name(problem: Problem) -> str:
    """What the axis of a loss says, but for its unit."""
    if isinstance(problem, TeacherProblem):
        return "population loss"
    return {"cross_entropy": "cross entropy", "mse": "squared loss"}[problem.loss]


def unit_of(problem: Problem, form: str = "{}") -> str:
    """The unit of a loss written into ``form``; nothing for squared losses, which have none."""
    nats = isinstance(problem, DatasetProblem) and problem.loss == "cross_entropy"
    return form.format("nats") if nats else ""


@contextmanager
def style() -> Iterator[None]:
    """Settings under which figures are made and saved."""
    with mpl.rc_context(_RC):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Figure of a size in inches that lays itself out."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write PNG and SVG beside each other."""
    paths = []
    for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
        path = stem.with_name(stem.name + suffix)
        figure.savefig(path, metadata=metadata)
        paths.append(path)
    return paths


class LogFloor:
    """A log axis whose lowest decade stands for everything too small to show.

    ``decades`` are shown at the most. What lies below, such as the rounding errors at m = M, is
    drawn in one place under a dotted line.

    Parameters
    ----------
    values : iterable of float
        All means and ends of intervals that are to be drawn.
    decades : int
    """

    def __init__(self, values: Iterable[float], decades: int = DECADES) -> None:
        finite = np.array([value for value in values if np.isfinite(value)])
        visible = finite[finite > ROUNDING]
        powers = np.log10(visible) if visible.size else np.array([-2.0])
        lowest = powers.min() - 0.15
        self.bottom = 10.0**lowest
        self.power = int(np.floor(max(lowest, powers.max() - decades)))
        self.edge = 10.0**self.power
        self.place = 10 ** (self.power - 0.55)
        self.hidden = bool((finite < self.edge).any())

    def draw(self, value: float) -> float:
        """Where on the axis a value is drawn."""
        return self.place if value < self.edge else value

    def finish(self, axes: Axes) -> None:
        """Scale and label the axis; with values at the floor, mark the break above them."""
        axes.set_yscale("log")
        _, top = axes.get_ylim()
        if not self.hidden:
            # From a whole decade where there would be fewer than two powers of ten to label.
            if top < 100 * self.edge:
                axes.set_ylim(self.edge, max(top, 10 * self.edge))
            else:
                axes.set_ylim(self.bottom, top)
            axes.yaxis.set_minor_formatter(NullFormatter())
            return
        axes.set_ylim(self.edge / 10, top)
        axes.axhline(self.edge, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)
        step = 2 if top > 1e6 * self.edge else 1
        powers = range(self.power + step, int(np.floor(np.log10(top))) + 1, step)
        names = [f"$10^{{{power}}}$" for power in powers]
        axes.set_yticks([self.place, *(10.0**power for power in powers)])
        axes.set_yticklabels([f"$<10^{{{self.power}}}$", *names])
        # Minor ticks between decades would claim a scale below the break.
        axes.yaxis.set_minor_locator(NullLocator())


def draw_measure(
    axes: Axes,
    config: StudyConfig,
    groups: Sequence[Group],
    x: Array,
    measure: Measure,
    median_of: str | None = None,
) -> LogFloor:
    """A line per matching through the groups' means, with 95% intervals, if any, as bands.

    And one through the medians of the barriers of one matching.

    Parameters
    ----------
    axes : Axes
        Gets its scale along y; labels are left to the caller.
    config : StudyConfig
    groups : sequence of W groups
    x : float array, shape (W,)
    measure : Measure
    median_of : str, optional

    Returns
    -------
    LogFloor
        Where values are drawn on an axis that is log.
    """
    means = {
        str(name): [
            mean_interval(group.values(measure.quantity, name, measure.split) * measure.factor)
            for group in groups
        ]
        for name in config.matchings
    }
    values = [value for line in means.values() for mean in line for value in mean]
    medians = [] if median_of is None else [g.median(median_of, measure.split) for g in groups]
    floor = LogFloor([*values, *medians])
    place = floor.draw if measure.log else float
    for name, line in means.items():
        counts = [len(group.values(measure.quantity, name, measure.split)) for group in groups]
        draw_means(axes, x, line, counts, place=place, **LOOKS[name].of_line())
    if median_of is not None:
        counts = [len(group.values(measure.quantity, median_of, measure.split)) for group in groups]
        bare = [Interval(value, np.nan, np.nan) for value in medians]
        draw_means(axes, x, bare, counts, place=place, **look_of_median(median_of).of_line())
    if measure.log:
        floor.finish(axes)
        _name_lowest(axes, x, list(means.values()), floor)
    return floor


def _name_lowest(
    axes: Axes, x: Array, lines: Sequence[Sequence[Interval]], floor: LogFloor
) -> None:
    """Write the value beside what is drawn at the floor, where it is one place on the axis."""
    low = {
        i: max(line[i].value for line in lines if line[i].value < floor.edge)
        for i in range(len(x))
        if any(line[i].value < floor.edge for line in lines)
    }
    if len(low) != 1:
        return
    ((place, value),) = low.items()
    mantissa, exponent = f"{value:.0e}".split("e")
    axes.annotate(
        f"${mantissa} \\cdot 10^{{{int(exponent)}}}$" if value else "0",
        (x[place], floor.place),
        # Towards the side where more of the axis is.
        (5, 0) if place < len(x) / 2 else (-5, 0),
        textcoords="offset points",
        fontsize=7,
        ha="left" if place < len(x) / 2 else "right",
        va="center",
        # Bands may end at the floor too.
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
    )


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend under all panels, off the data."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=2.4
    )
