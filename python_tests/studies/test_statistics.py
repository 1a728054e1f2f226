# SPDX-License-Identifier: MIT
"""Intervals and fits against cases whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmc_fast.studies.statistics import (
    FEWEST,
    RESAMPLES,
    Array,
    Interval,
    bootstrap_means,
    highest_mean,
    mean_interval,
    share_interval,
)
from lmc_fast.studies.tail import bent_tail, tail_fit


def test_a_constant_has_an_interval_of_no_width() -> None:
    assert mean_interval(np.full(FEWEST, 0.5)) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize("count", [1, 2, FEWEST - 1])
def test_few_values_have_a_mean_and_no_interval(count: int) -> None:
    found = mean_interval(np.linspace(2.0, 4.0, count) if count > 1 else np.array([3.0]))
    assert found.value == pytest.approx(3.0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.ends(str) == ""
    fit = tail_fit([10, 20, 40], [np.ones(50), np.ones(50), np.ones(count)], first=10)
    assert fit is not None
    assert fit.exponent.ends(str) == ""


def test_no_value_has_no_mean() -> None:
    assert all(math.isnan(part) for part in mean_interval(np.array([])))


@pytest.mark.parametrize(("count", "least"), [(10, 0.91), (12, 0.92), (20, 0.92)])
def test_the_interval_holds_a_normal_mean_as_often_as_it_says(count: int, least: float) -> None:
    """1,000 samples: 95% is known to 0.7%; without the correction it is 88% to 91%."""
    rng = np.random.default_rng(0)
    found = [mean_interval(rng.normal(5.0, 1.0, count)) for _ in range(1000)]
    assert least <= np.mean([each.low <= 5.0 <= each.high for each in found]) <= 0.97


def test_the_interval_is_that_of_a_normal_mean() -> None:
    """For many draws the bootstrap interval tends to mean +- 1.96 s / sqrt(P)."""
    values = np.random.default_rng(1).normal(10.0, 2.0, 4000)
    found = mean_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    # A quantile of 2,000 resamples at 2.5% is known to about 5% of the half-width.
    assert found.high - found.value == pytest.approx(half, rel=0.15)
    assert found.value - found.low == pytest.approx(half, rel=0.15)


def test_resampled_means_of_two_values_are_binomial() -> None:
    means = bootstrap_means(np.array([0.0, 1.0]))
    shares = [np.mean(means == value) for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=4 * math.sqrt(0.25 / RESAMPLES))


def test_wilsons_interval_by_hand() -> None:
    """z^2 = 3.8415: 5 of 10 gives 1/2 -+ z sqrt(1/40 + z^2/400) / (1 + z^2/10) = 1/2 -+ 0.2634."""
    assert share_interval(5, 10) == pytest.approx((0.5, 0.2366, 0.7634), abs=5e-5)
    # 0 of n reaches to z^2 / (n + z^2), and n of n as far from the other side.
    far = 3.8415 / 103.8415
    assert share_interval(0, 100) == pytest.approx((0, 0, far), abs=1e-6)
    assert share_interval(100, 100) == pytest.approx((1, 1 - far, 1), abs=1e-6)
    assert all(math.isnan(part) for part in share_interval(0, 0))


def test_an_exact_power_law_is_found() -> None:
    widths = [10, 20, 40, 80]
    fit = tail_fit(widths, [np.full(FEWEST, 3.0 * m**-1.5) for m in widths], first=20)
    assert fit is not None
    assert (fit.first, fit.last) == (20, 80)
    assert fit.exponent == pytest.approx((-1.5, -1.5, -1.5))
    assert fit.at(np.array([100.0])) == pytest.approx([3.0 * 100**-1.5])


def test_the_exponents_interval_covers_the_truth_as_often_as_it_says() -> None:
    """100 studies of a noisy power law: 95% intervals miss about 5 times, 16 is 5 sigma."""
    rng = np.random.default_rng(0)
    widths = [10, 20, 40, 80]
    missed = 0
    for _ in range(100):
        samples = [m**-2.0 * rng.exponential(1.0, 64) for m in widths]
        fit = tail_fit(widths, samples, first=10)
        assert fit is not None
        missed += not fit.exponent.low <= -2.0 <= fit.exponent.high
    assert missed <= 16


def test_rounding_is_left_out_of_the_fit() -> None:
    widths = [5, 10, 20, 40, 80]
    samples = [np.full(3, 1e-16), *(np.full(3, 1.0 / m) for m in widths[1:])]
    fit = tail_fit(widths, samples, first=5)
    assert fit is not None
    assert fit.first == 10
    assert fit.exponent.value == pytest.approx(-1.0)


def test_too_few_widths_give_no_fit() -> None:
    assert tail_fit([10, 20], [np.ones(3), np.ones(3)], first=1) is None
    assert tail_fit([10, 20, 40], [np.ones(3), np.zeros(3), np.array([])], first=1) is None


def test_the_highest_mean_and_where_it_is() -> None:
    rng = np.random.default_rng(5)
    samples = [height + rng.normal(size=400) for height in (9.0, 1.0, 3.0, 3.0, 0.0)]
    found = highest_mean([4, 5, 6, 8, 10], samples, 5)
    assert found is not None
    # Two that are level share the location; the first width is left out.
    assert found.width[1:] == (6, 8)
    assert found.height.value == max(np.mean(samples[2]), np.mean(samples[3]))
    assert found.height.low < found.height.value < found.height.high
    assert found.height.high - found.height.low < 0.4


def test_a_clear_peak_has_one_place() -> None:
    rng = np.random.default_rng(6)
    samples = [height + rng.normal(size=50) for height in (1.0, 5.0, 1.0)]
    found = highest_mean([5, 6, 8], samples, 5)
    assert found is not None
    assert found.width == Interval(6, 6, 6)
    assert highest_mean([5, 6, 8], samples, 9) is None


@pytest.mark.parametrize(
    ("heights", "first", "at", "told"),
    [
        ([3, 2, 1], 5, 5, False),
        ([1, 2, 3], 5, 8, False),
        ([1, 3, 2], 5, 6, True),
        ([1, 3, 2], 6, 6, True),  # its neighbour is there, though it is not looked at
        ([4, 3, 2], 6, 6, False),
        ([3, 3, 2], 6, 6, False),
    ],
)
def test_the_highest_mean_at_an_end_is_no_peak(
    heights: list[float], first: int, at: int, told: bool
) -> None:
    found = highest_mean([5, 6, 8], [np.full(FEWEST, float(h)) for h in heights], first)
    assert found is not None
    assert (found.width.value, found.told) == (at, told)
    assert found.name.startswith("peak, " if told else "highest, no peak told, ")
    # Nothing is told without intervals.
    few = highest_mean([5, 6, 8], [np.full(3, float(h)) for h in heights], first)
    assert few is not None
    assert (few.width.value, few.told) == (at, False)


def test_a_highest_mean_that_may_be_the_firsts_is_no_peak() -> None:
    """Means of exponentials of 1.0 and 1.2 are known to 0.3 each: either may be the higher."""
    rng = np.random.default_rng(3)
    samples = [height * rng.exponential(size=10) for height in (1.0, 1.2, 0.1)]
    found = highest_mean([4, 8, 16], samples, 1)
    assert found is not None
    assert found.width == (8, 4, 8)
    assert not found.told


def test_widths_of_few_pairs_are_passed_over() -> None:
    samples = [
        np.full(count, height) for count, height in ((50, 1.0), (50, 2.0), (50, 1.0), (4, 9.0))
    ]
    found = highest_mean([5, 6, 8, 10], samples, 5)
    assert found is not None
    assert found.width == (6, 6, 6)
    assert found.told
    fit = tail_fit([5, 6, 8, 10], samples, 5)
    assert fit is not None
    assert (fit.first, fit.last) == (5, 8)


def test_a_bent_tail_has_two_exponents() -> None:
    rng = np.random.default_rng(8)
    widths = [10, 14, 20, 28, 40, 56, 80]

    def samples(last: float) -> list[Array]:
        """m^-2 up to m = 28, and m^last from there on."""
        means = [m**-2.0 if m <= 28 else 28**-2.0 * (m / 28) ** last for m in widths]
        return [mean * rng.exponential(size=400) for mean in means]

    halves = bent_tail(widths, samples(-4.0), 10)
    assert halves is not None
    near, far = halves
    assert (near.first, near.last, far.first, far.last) == (10, 28, 28, 80)
    assert near.exponent.low < -2 < near.exponent.high
    assert far.exponent.low < -4 < far.exponent.high
    assert bent_tail(widths, samples(-2.0), 10) is None
    # Neither without intervals, nor with fewer than three widths on a side.
    assert bent_tail(widths, [values[:9] for values in samples(-4.0)], 10) is None
    assert bent_tail(widths[3:], samples(-4.0)[3:], 10) is None


def test_the_peaks_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        samples = [height * rng.exponential(size=60) for height in (1.0, 4.0, 1.5)]
        found = highest_mean([5, 6, 8], samples, 5)
        assert found is not None
        hits += found.height.low < 4 < found.height.high
    assert hits >= 0.9 * 200
