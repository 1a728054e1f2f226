# SPDX-License-Identifier: MIT
"""Barrier against width, a line per architecture: matched drawn through, as trained dotted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from .captions import code, hollow, seeds, unfinished_widths, wrapped
from .config import ArchitectureName
from .depth_summary import LABELS, DepthSummary
from .plot_means import draw_means, off_the_line
from .plot_style import GREY, LINE, PAGE, LogFloor, Look, new_figure
from .settings_line import describe
from .statistics import FEWEST, Interval

DEPTH_LOOKS: dict[ArchitectureName, Look] = {
    "mlp1": Look("#0072B2", "o", "-", LABELS["mlp1"]),
    "mlp2": Look("#D55E00", "^", "-", LABELS["mlp2"]),
    "mlp3": Look("#009E73", "D", "-", LABELS["mlp3"]),
    "mlp4": Look("#CC79A7", "s", "-", LABELS["mlp4"]),
    "cnn": Look("#000000", "v", "-", LABELS["cnn"]),
}


class DepthPanel(NamedTuple):
    """Quantity and split of a panel, its label, factor to its unit, and whether it is log."""

    quantity: str
    split: str
    label: str
    factor: float
    log: bool


PANELS = (
    DepthPanel("barrier", "train", "loss barrier,\ntrain (nats)", 1.0, True),
    DepthPanel("barrier", "test", "loss barrier,\ntest (nats)", 1.0, True),
    DepthPanel("accuracy_drop", "test", "accuracy barrier,\ntest (% points)", 100.0, False),
)


def means(summary: DepthSummary, panel: DepthPanel, name: str, matching: str) -> list[Interval]:
    """Of one architecture at every width, in the panel's unit."""
    found = (group.mean(panel.quantity, name, matching, panel.split) for group in summary.groups)
    return [Interval(*(panel.factor * value for value in mean)) for mean in found]


def depth_figure(summary: DepthSummary) -> Figure:
    """A panel per measure; with fewer than ten pairs there are no intervals."""
    title = _title(summary)
    figure = new_figure(PAGE, 2.9 + LINE * len(title.splitlines()))
    row = figure.subplots(1, len(PANELS), squeeze=False)[0]
    for axes, panel in zip(row, PANELS, strict=True):
        _draw(axes, summary, panel)
    figure.suptitle(title, fontsize=8)
    handles, labels = row[0].get_legend_handles_labels()
    dotted = Line2D([], [], color=GREY, linestyle=":")
    figure.legend(
        [*handles, dotted],
        [*labels, "not matched (same colours)"],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        handlelength=2.4,
    )
    return figure


def _draw(axes: Axes, summary: DepthSummary, panel: DepthPanel) -> None:
    names = summary.config.architectures
    lines = {(n, k): means(summary, panel, n, k) for n in names for k in ("none", "weights")}
    floor = LogFloor(value for line in lines.values() for mean in line for value in mean)
    place = floor.draw if panel.log else float
    x = [group.width for group in summary.groups]
    for (name, matching), line in lines.items():
        look = DEPTH_LOOKS[name]
        counts = [len(group.sound(name)) for group in summary.groups]
        if matching == "none":
            at = np.array([place(mean.value) for mean in line])
            at = np.where(off_the_line(counts)[1], np.nan, at)
            axes.plot(x, at, color=look.colour, linestyle=":", linewidth=0.9, marker="")
            continue
        draw_means(axes, x, line, counts, place=place, alpha=0.15, **look.of_line())
    if panel.log:
        floor.finish(axes)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(x))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.set_xlabel("width m")
    axes.set_ylabel(f"mean {panel.label}")


def _title(summary: DepthSummary) -> str:
    config = summary.config
    few = config.pairs < FEWEST
    bands = "too few for intervals" if few else "bands: 95% bootstrap intervals of matched means"
    rows = [row for group in summary.groups for row in group.rows]
    there = {group.width: len(group.rows) for group in summary.groups}
    lines = [
        "Loss barrier against width at several depths, matched layer by layer",
        describe(config),
        f"{config.pairs:,} pairs per width ({seeds(config)}), {bands}",
        *hollow(len(group.sound(n)) for group in summary.groups for n in config.architectures),
        *unfinished_widths(config.widths, there, config.pairs),
        summary.exclusions(),
        code(rows),
    ]
    return wrapped(lines, PAGE)
