# SPDX-License-Identifier: MIT
"""The studies of a comparison over each other, the barrier of the best matching of each."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from .captions import wrapped
from .comparison import ComparedSummaries
from .comparison_lines import Panel, caption, compared_panels
from .plot_means import draw_means
from .plot_style import GREY, LINE, PAGE, LogFloor, legend_below, new_figure

_HEIGHTS = {"alive": 1.0, "barrier": 1.4}


def comparison_figure(compared: ComparedSummaries) -> Figure:
    """A panel above the other, see :func:`compared_panels`."""
    found = compared_panels(compared)
    panels = found.panels
    title = wrapped([compared.question, *caption(compared)], PAGE)
    figure = new_figure(PAGE, 2.4 + len(panels) + LINE * len(title.splitlines()))
    heights = [_HEIGHTS[panel.name] for panel in panels]
    column = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, panel in zip(column[:, 0], panels, strict=True):
        _draw(axes, panel)
        if found.edge:
            axes.axvline(1, color=GREY, linewidth=0.8, zorder=0, label="edge of stability")
    if found.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(found.label)
    figure.suptitle(title, fontsize=8)
    legend_below(figure, axes, columns=3)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    floor = None
    if panel.log:
        floor = LogFloor([value for line in panel.lines for mean in line.means for value in mean])
    for line in panel.lines:
        place = float if floor is None else floor.draw
        look = line.look.of_line()
        draw_means(axes, line.x, line.means, line.of_pairs, place=place, **look)
    if floor is not None:
        floor.finish(axes)
    axes.set_ylabel(panel.label)
