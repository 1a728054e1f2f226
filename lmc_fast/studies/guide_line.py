# SPDX-License-Identifier: MIT
"""Where a line of slope m^-1/2 is drawn, to compare a tail with: beside the means, not across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .statistics import Array
from .summary import Summary
from .tail import TailFit

_APART = 2.0  # factor between the guide and the nearest mean
_SPAN = 8.0  # factor in m that a guide below the means covers, to save height


class Guide(NamedTuple):
    """Widths and heights of a line of slope -1/2."""

    m: Array
    height: Array


def guide_line(summary: Summary, split: str, tail: TailFit) -> Guide:
    """Above all matched means of a tail if it then stays below those without matching, else below.

    A line that falls as m^-1/2 says whether the means fall faster.
    """
    groups = [g for g in summary.groups if g.sound and tail.first <= g.width <= tail.last]
    m = np.array([group.width for group in groups], dtype=np.float64)
    names = summary.config.matchings
    matched = [name for name in names if name not in ("none", "random")] or list(names)
    heights = np.array([[g.barrier(name, split).value for g in groups] for name in matched])
    naive = [g.barrier("none", split).value for g in groups] if "none" in names else np.inf
    above = _APART * np.nanmax(heights * np.sqrt(m)) / np.sqrt(m)
    if np.all(above * _APART**0.5 <= naive):
        return Guide(m, above)
    near = m <= _SPAN * m[0]
    lowest = _positive(heights) * np.sqrt(m)
    return Guide(m[near], np.nanmin(lowest) / _APART / np.sqrt(m[near]))


def _positive(values: Sequence[float] | Array) -> Array:
    """NaN in place of what no log axis shows."""
    found = np.asarray(values, dtype=np.float64)
    return np.where(found > 0, found, np.nan)
