# SPDX-License-Identifier: MIT
"""Names at the right ends of lines, moved apart where lines end close together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from .plot_style import GREY

_APART = 0.135  # inches, from one name to the next


class End(NamedTuple):
    """Where a line ends, its name, and its colour."""

    x: float
    y: float
    name: str
    colour: Any


def label_ends(axes: Axes, ends: Sequence[End], height: float, title: str) -> None:
    """Write every line's name to the right of the axes, tied to where the line ends.

    Parameters
    ----------
    axes : Axes
        With its limits along y set.
    ends : sequence of End
        Of lines that end at one height, the first is named lowest.
    height : float
        Of the axes in inches, about.
    title : str
        What the names are, above them.
    """
    low, high = axes.get_ylim()
    if not ends:
        return
    ranked = sorted(ends, key=lambda end: end.y)
    wanted = np.array([(end.y - low) / (high - low) for end in ranked])
    places = moved_apart(wanted, _APART / height)
    for end, at in zip(ranked, places, strict=True):
        axes.annotate(
            end.name,
            (end.x, end.y),
            (1.05, float(at)),
            textcoords="axes fraction",
            color=end.colour,
            fontsize=7.5,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.colour,
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )
    top = max([1.0, *(places + _APART / height)])
    axes.annotate(
        title, (1.05, top), xycoords="axes fraction", fontsize=7.5, color=GREY, va="bottom"
    )


def moved_apart(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Rising places at least ``gap`` apart, each group of neighbours around its mean.

    Parameters
    ----------
    wanted : float array, shape (n,)
        Rising.
    gap : float

    Returns
    -------
    float array, shape (n,)
    """
    groups: list[list[float]] = []  # mean of what is wanted of the first place, and how many
    for i, place in enumerate(wanted):
        groups.append([float(place) - gap * i, 1])
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (above, more), (below, few) = groups.pop(), groups.pop()
            groups.append([(above * more + below * few) / (more + few), more + few])
    starts = np.repeat([mean for mean, _ in groups], [int(count) for _, count in groups])
    places: np.ndarray = starts + gap * np.arange(len(wanted))
    return places
