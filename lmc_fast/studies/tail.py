# SPDX-License-Identifier: MIT
"""The power law of a barrier's tail, and whether the tail is straight at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .statistics import (
    ROUNDING,
    Array,
    Interval,
    bootstrap_means,
    percentile_interval,
    well_sampled,
)

FEWEST_WIDTHS = 3  # for a fit


class TailFit(NamedTuple):
    """mean = exp(intercept) m^exponent, fitted on the widths from ``first`` to ``last``."""

    exponent: Interval
    intercept: float
    first: int
    last: int

    def at(self, widths: Array) -> Array:
        """The fitted means at some widths."""
        fitted: Array = np.exp(self.intercept) * widths**self.exponent.value
        return fitted


def tail_fit(widths: Sequence[int], samples: Sequence[Array], first: int) -> TailFit | None:
    """Least-squares line through log mean against log m, on the widths from ``first``.

    Parameters
    ----------
    widths : sequence of int, length W
    samples : sequence of W arrays (P,)
        Barriers at each width. Widths whose mean is rounding are left out: their logarithm
        says nothing. So are those of fewer than ``FEWEST`` pairs where three others are left.
    first : int

    Returns
    -------
    TailFit or None
        None with fewer than three widths left. The interval resamples pairs within each width,
        of which every one needs ``FEWEST``.
    """
    used = _tail(widths, samples, first)
    return _fit(used) if len(used) >= FEWEST_WIDTHS else None


def bent_tail(
    widths: Sequence[int], samples: Sequence[Array], first: int
) -> tuple[TailFit, TailFit] | None:
    """Fits to both halves of the widths of :func:`tail_fit`, where one line does not fit them.

    The halves share their middle width.

    Returns
    -------
    pair of TailFit, or None
        None with fewer than five widths, and where the intervals of both exponents overlap or are
        not there.
    """
    used = _tail(widths, samples, first)
    half = len(used) // 2
    if half + 1 < FEWEST_WIDTHS or len(used) - half < FEWEST_WIDTHS:
        return None
    near, far = _fit(used[: half + 1]), _fit(used[half:])
    # False where one is NaN.
    apart = near.exponent.low > far.exponent.high or near.exponent.high < far.exponent.low
    return (near, far) if apart else None


def _tail(widths: Sequence[int], samples: Sequence[Array], first: int) -> list[tuple[int, Array]]:
    usable = [
        (m, values)
        for m, values in zip(widths, samples, strict=True)
        if m >= first and len(values) > 0 and float(np.mean(values)) > ROUNDING
    ]
    return well_sampled(usable, FEWEST_WIDTHS)


def _fit(used: Sequence[tuple[int, Array]]) -> TailFit:
    x = np.log([float(m) for m, _ in used])
    means = np.array([np.mean(values) for _, values in used])
    draws = np.stack([bootstrap_means(values, seed=i) for i, (_, values) in enumerate(used)])
    centred = x - x.mean()
    weights = centred / np.sum(centred**2)
    slope = float(weights @ np.log(means))
    slopes = weights @ np.log(np.maximum(draws, ROUNDING))
    intercept = float(np.mean(np.log(means)) - slope * x.mean())
    fewest = min(len(values) for _, values in used)
    exponent = percentile_interval(slope, slopes, fewest)
    return TailFit(exponent, intercept, used[0][0], used[-1][0])
