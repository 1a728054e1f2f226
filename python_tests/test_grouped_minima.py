# SPDX-License-Identifier: MIT
"""The grouped barrier against hand-worked numbers, whole networks, and every permutation."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from compare import assert_close, rounding

from lmc_fast import barrier, population_path_losses, zero_barrier_certificate
from lmc_fast.grouped_minima import (
    GroupedMinimum,
    barrier_floor,
    coverage,
    crossover_width,
    mixed_pairs,
    mixed_path_losses,
    sample_grouped_minimum,
)


def minimum(*shares, dead=0):
    return GroupedMinimum(tuple(np.array(part) for part in shares), dead)


def network(grouped):
    """A student (m, M) of a teacher that is the identity: living neurons by type, then dead."""
    M = len(grouped.shares)
    rows = [share * np.eye(M)[j] for j, part in enumerate(grouped.shares) for share in part]
    return torch.from_numpy(np.array(rows + [np.zeros(M)] * grouped.dead))


def matched_barrier(a, b, alphas=25):
    return float(mixed_path_losses(mixed_pairs(a, b), len(a.shares), alphas).losses.max())


def draw(M, m, pair, death=0.0):
    return tuple(sample_grouped_minimum(M, m, 2 * pair + side, death) for side in (0, 1))


def test_one_mixed_pair_by_hand():
    """Shares 1/2 against 1/2 at alpha = 1/2: g = min(|y|, |z|) / 4 where y and z differ in sign.

    E min(|y|, |z|)^2 = E r^2 (1 - E max(cos^2, sin^2)) = 2 (1 - (1/2 + 1/pi)) = 1 - 2/pi, the
    signs differ in half of all cases, and L = E g^2 / 2 = (1 - 2/pi) / 64.
    """
    a, b = minimum([0.5, 0.5], [1.0]), minimum([1.0], [0.5, 0.5])
    assert matched_barrier(a, b) == pytest.approx((1 - 2 / math.pi) / 64, rel=1e-14)
    # h(1/2, 1/2) = (1 - sqrt(1/2)) / sqrt(2 pi), times the smallest share, squared, halved.
    assert barrier_floor(a, b) == pytest.approx(0.25 * (1 - 0.5**0.5) ** 2 / (4 * math.pi))


def test_the_matching_by_hand():
    # Surplus: a two of type 0, b one each of types 1 and 2; one neuron of each is dead.
    a = minimum([0.1, 0.2, 0.3, 0.4], [1.0], [1.0], dead=1)
    b = minimum([0.4, 0.6], [0.3, 0.7], [0.05, 0.95], dead=1)
    found = mixed_pairs(a, b)
    assert [part.tolist() for part in found] == [[0.1], [0], [0.05], [2]]
    # Without the dead ones both pairs are mixed, the smallest share against the largest.
    full = mixed_pairs(a._replace(dead=0), b._replace(dead=0))
    assert [part.tolist() for part in full] == [[0.1, 0.2], [0, 0], [0.3, 0.05], [1, 2]]
    # Two more: nothing is mixed, and the barrier is exactly zero.
    wide = a._replace(dead=2), b._replace(dead=2)
    assert len(mixed_pairs(*wide).share_a) == 0
    assert matched_barrier(*wide) == barrier_floor(*wide) == 0.0


@pytest.mark.parametrize("death", [0.0, 0.15])
@pytest.mark.parametrize(
    ("M", "m", "pairs"), [(2, 3, 4), (2, 6, 4), (3, 5, 6), (3, 6, 6), (3, 7, 3)]
)
def test_bounds_hold_against_every_permutation(M, m, pairs, death):
    orders = torch.tensor(list(itertools.permutations(range(m))))
    zero = rounding(m * m, M * M)
    for pair in range(pairs):
        a, b = draw(M, m, pair, death)
        w1, every = network(a), network(b)[orders]
        teacher = torch.eye(M).double()
        heights = barrier(w1.expand_as(every), every, teacher=teacher, alphas=25).height
        matched = matched_barrier(a, b)
        # It is the barrier of some permutation, so the least is no higher; nor below the floor.
        assert float((heights - matched).abs().min()) <= zero
        assert heights.min() <= matched + zero
        assert heights.min() >= barrier_floor(a, b) - zero
        # Zero at once with the certificate and with the best permutation.
        holds = bool(zero_barrier_certificate(w1, every[0], teacher).holds)
        assert holds == (matched == 0.0) == bool(heights.min() <= zero)
        # Among permutations with as few mixed pairs as there can be, no mean residual is smaller.
        type_a, type_b = ((w.max(-1).values > 0) * (w.argmax(-1) + 1) for w in (w1, every))
        mixed = ((type_a != type_b) & (type_a > 0) & (type_b > 0)).sum(1)
        found = mixed_pairs(a, b)
        assert int(mixed.min()) == len(found.share_a)
        for alpha in (0.2, 0.5, 0.7):
            by_order = residual((1 - alpha) * w1.amax(-1), alpha * every.amax(-1))
            by_order = torch.where(type_a == type_b, 0.0, by_order).sum(1)
            ours = residual(
                (1 - alpha) * torch.from_numpy(found.share_a),
                alpha * torch.from_numpy(found.share_b.copy()),
            ).sum()
            least = by_order[mixed == mixed.min()].min()
            assert float((least - ours).abs()) <= rounding(m, 1.0)


def residual(A, B):
    """E g of mixed pairs, from E relu(A y + B z) = sqrt(A^2 + B^2) / sqrt(2 pi)."""
    return (A + B - (A**2 + B**2).sqrt()) / math.sqrt(2 * math.pi)


def test_losses_are_those_of_the_whole_networks():
    """At a width where no permutation can be searched, the matching is written out."""
    M, m = 4, 60
    a, b = draw(M, m, 0, death=0.02)
    found = mixed_pairs(a, b)
    assert len(found.share_a) >= 4
    rows_a, rows_b = [], []
    left_a = {(j, c) for j, part in enumerate(a.shares) for c in part}
    left_b = {(j, c) for j, part in enumerate(b.shares) for c in part}
    for c, j, e, k in zip(*found, strict=True):
        assert j != k
        left_a.remove((j, c))
        left_b.remove((k, e))
        rows_a.append(c * np.eye(M)[j])
        rows_b.append(e * np.eye(M)[k])
    dead = {"a": a.dead, "b": b.dead}
    for j in range(M):
        ours, theirs = (sorted(c for k, c in left if k == j) for left in (left_a, left_b))
        while ours or theirs:
            dead["a"] -= not ours
            dead["b"] -= not theirs
            rows_a.append((ours.pop() if ours else 0.0) * np.eye(M)[j])
            rows_b.append((theirs.pop() if theirs else 0.0) * np.eye(M)[j])
    assert dead == {"a": 0, "b": 0}  # so that these are the two networks, whole
    ends = torch.from_numpy(np.array(rows_a)), torch.from_numpy(np.array(rows_b))
    expected = population_path_losses(*ends, torch.eye(M).double(), 11).losses
    assert_close(mixed_path_losses(found, M, 11).losses, expected, rounding(m * m, M * M))


@pytest.mark.parametrize("m", [10, 40])
def test_no_matching_goes_below_the_floor(m):
    """The matching that minimises the gap cost is of another kind, and near ours."""
    drawn = [draw(5, m, pair) for pair in range(20)]
    a, b = (torch.stack([network(pair[side]) for pair in drawn]) for side in (0, 1))
    heights = barrier(a, b, teacher=torch.eye(5).double(), match="gap").height
    floors = torch.tensor([barrier_floor(*pair) for pair in drawn])
    assert (heights >= floors - rounding(m * m, 25.0)).all()
    ours = np.mean([matched_barrier(*pair) for pair in drawn])
    assert 0.5 < float(heights.mean()) / ours < 2


def test_tiny_shares_lose_no_digits():
    """Losses are of degree 2 in the shares: those of 1e-9 of the shares are 1e-18 of them."""
    a, b = draw(3, 40, 1)
    found = mixed_pairs(a, b)
    small = found._replace(share_a=1e-9 * found.share_a, share_b=1e-9 * found.share_b)
    losses, expected = (mixed_path_losses(pairs, 3).losses[0, 1:-1] for pairs in (small, found))
    torch.testing.assert_close(1e18 * losses, expected, rtol=1e-12, atol=0)


def test_a_sample_is_a_minimum_and_its_own():
    found = sample_grouped_minimum(5, 30, seed=3, death=0.2)
    assert found.width == 30
    assert found.dead == 30 - found.counts.sum() > 0
    for part in found.shares:
        assert part.sum() == pytest.approx(1.0, abs=1e-15)
        assert (np.diff(part) >= 0).all()
        assert part[0] > 0
    again = sample_grouped_minimum(5, 30, seed=3, death=0.2)
    other = sample_grouped_minimum(5, 30, seed=4, death=0.2)
    assert all((x == y).all() for x, y in zip(found.shares, again.shares, strict=True))
    assert found.shares[0].tolist() != other.shares[0].tolist()


def test_counts_are_multinomial_given_that_every_type_occurs():
    """M = 2, m = 4: of 14 sequences 4, 6, 4 have counts (1, 3), (2, 2), (3, 1)."""
    draws = 4000
    counts = [int(sample_grouped_minimum(2, 4, seed).counts[0]) for seed in range(draws)]
    for count, chance in ((1, 4 / 14), (2, 6 / 14), (3, 4 / 14)):
        spread = math.sqrt(chance * (1 - chance) / draws)
        assert counts.count(count) / draws == pytest.approx(chance, abs=4 * spread)
    # With deaths at 1/2 and m = 3: dead, 0, 1 in 3! orders at 1/2 (1/4)^2 each, else all alive,
    # 6 sequences at (1/4)^3; one neuron is dead with probability 2/3 given both types.
    dead = [sample_grouped_minimum(2, 3, seed, death=0.5).dead for seed in range(draws)]
    assert np.mean(dead) == pytest.approx(2 / 3, abs=4 * math.sqrt(2 / 9 / draws))


def test_shares_are_uniform_on_the_simplex():
    """The smaller of two uniform shares is uniform on [0, 1/2]; of three it has mean 1/9."""
    drawn = [
        sample_grouped_minimum(1, n, seed).shares[0][0] for n in (2, 3) for seed in range(4000)
    ]
    two, three = np.split(np.array(drawn), 2)
    for quantile in (0.25, 0.5, 0.75):
        spread = 0.5 * math.sqrt(quantile * (1 - quantile) / 4000)
        assert np.quantile(two, quantile) == pytest.approx(quantile / 2, abs=4 * spread)
    assert three.mean() == pytest.approx(1 / 9, abs=4 * three.std() / math.sqrt(4000))


def test_coverage_by_hand():
    assert coverage(2, 3) == pytest.approx(6 / 8)
    assert coverage(2, 3, 0.5) == pytest.approx(9 * 2 / 64)  # 6 / 32 + 6 / 64
    assert coverage(5, 5) == pytest.approx(math.factorial(5) / 5**5)
    assert coverage(5, 4) == 0.0
    assert coverage(5, 1000) == pytest.approx(1.0)


@pytest.mark.parametrize("death", [0.0, 0.25])
@pytest.mark.parametrize(
    ("M", "m"), [(3, 4), (5, 12), (50, 60), (50, 250), (120, 120), (200, 1300)]
)
def test_coverage_loses_no_digits(M, m, death):
    q = (1 - Fraction(death)) / M
    exact = sum((-1) ** k * math.comb(M, k) * (1 - k * q) ** m for k in range(M + 1))
    assert coverage(M, m, death) == pytest.approx(float(exact), rel=1e-11)


def test_minima_that_would_be_drawn_for_ever_are_refused():
    with pytest.raises(ValueError, match="too seldom to be drawn"):
        sample_grouped_minimum(120, 120)


def test_mixed_pairs_grow_as_the_root_of_the_width():
    """E K = sqrt((M - 1) m / pi): 50.5 at M = 5, m = 2000."""
    pairs = 400
    counts = [len(mixed_pairs(*draw(5, 2000, pair)).share_a) for pair in range(pairs)]
    expected = math.sqrt(4 * 2000 / math.pi)
    assert np.mean(counts) == pytest.approx(expected, abs=4 * np.std(counts) / math.sqrt(pairs))


def test_the_barrier_falls_as_the_inverse_square():
    """m^2 E barrier is the same at two widths, 16 times apart, and so is its lower bound."""
    scaled = {"barrier": [], "floor": []}
    for m in (250, 4000):
        drawn = [draw(5, m, pair) for pair in range(300)]
        for name, measure in (("barrier", matched_barrier), ("floor", barrier_floor)):
            values = np.array([measure(a, b) for a, b in drawn]) * m**2
            scaled[name].append((values.mean(), values.std() / math.sqrt(len(values))))
    for (narrow, error), (wide, other) in scaled.values():
        assert wide == pytest.approx(narrow, abs=4 * math.hypot(error, other))
        assert 4 * math.hypot(error, other) < narrow  # a power off by 1/2 would show


def test_the_certificate_is_the_rule_beyond_the_crossover():
    assert crossover_width(5, 0.0) == math.inf
    # q = 0.18: 25 x 0.18 x 0.82 / (0.01 pi).
    middle = crossover_width(5, 0.1)
    assert middle == pytest.approx(117.46, abs=0.01)
    share = [
        np.mean([len(mixed_pairs(*draw(5, m, p, 0.1)).share_a) == 0 for p in range(100)])
        for m in (int(middle / 4), int(middle), int(4 * middle))
    ]
    assert share[0] < 0.3 < share[1] < 0.7 < 0.95 < share[2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_grouped_minimum(3, 2), "m must be at least M"),
        (lambda: sample_grouped_minimum(0, 2), "M at least 1"),
        (lambda: sample_grouped_minimum(3, 4, death=1.0), r"death must lie in \[0, 1\)"),
        (lambda: sample_grouped_minimum(10, 10), "raise m or lower death"),
        (lambda: mixed_pairs(minimum([1.0]), minimum([1.0], dead=1)), "same width m"),
        (lambda: mixed_pairs(minimum([1.0], dead=1), minimum([1.0], [1.0])), "number of types M"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
