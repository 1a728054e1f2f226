# SPDX-License-Identifier: MIT
"""A line through means with its band; means of few values are hollow and off the line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .statistics import FEWEST, Array, Interval


def off_the_line(counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Which of several means are of few values, and which of these are not joined to the others.

    A line all of whose means are of few values is a line all the same.
    """
    few = np.array([count < FEWEST for count in counts], dtype=bool)
    return few, few & (not few.all())


def draw_means(
    axes: Axes,
    x: Sequence[float] | Array,
    means: Sequence[Interval],
    counts: Sequence[int],
    *,
    place: Callable[[float], float] = float,
    alpha: float = 0.18,
    **look: Any,
) -> None:
    """Draw one line of a figure.

    Parameters
    ----------
    axes : Axes
    x : array, shape (W,)
    means : sequence of W intervals
        Their ends are the band's; NaN leaves a gap.
    counts : sequence of W int
        Of how many pairs each mean is: fewer than ``FEWEST`` make a hollow marker.
    place : function
        Where on the axis a value is drawn.
    alpha : float
        Of the band.
    **look
        Of the line: colour, marker, linestyle, label.
    """
    x = np.asarray(x, dtype=np.float64)
    at, low, high = np.array([[place(v) for v in mean] for mean in means]).reshape(-1, 3).T
    few, off = off_the_line(counts)
    joined = {**look, "markerfacecolor": "white"} if few.any() and not off.any() else look
    axes.plot(x, np.where(off, np.nan, at), **joined)
    if off.any():
        apart = {**look, "linestyle": "none", "markerfacecolor": "white", "label": "_"}
        axes.plot(x[off], at[off], **apart)
    gap = np.where(few, np.nan, 1.0)
    axes.fill_between(x, gap * low, gap * high, color=look["color"], alpha=alpha, linewidth=0)
