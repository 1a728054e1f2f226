# SPDX-License-Identifier: MIT
import itertools

import pytest
import torch
from compare import assert_close, rounding

from lmc_fast import barrier, best_matching, init_students, match, sample_global_minima, teacher

TEACHER = teacher(4, 3)


@pytest.mark.parametrize("inputs", ["gaussian", "sphere"])
@pytest.mark.parametrize("c", [1, 2])
def test_it_is_the_least_barrier_of_all_permutations(inputs, c):
    a, b = (init_students([seed, seed + 5], 4, 4, scale=1.0, c=c) for seed in (0, 1))
    target = (torch.eye(4, dtype=torch.float64)[:3], torch.ones(c, 3, dtype=torch.float64))
    options = {"teacher": target, "inputs": inputs, "radius": 2.0}
    got = best_matching(a, b, **options)
    assert got.method == "best"
    orders = torch.tensor(list(itertools.permutations(range(4))))
    for p in range(2):
        heights = []
        for order in orders:
            moved = b.permuted(order)
            heights.append(barrier(a, moved, **options).height[p])
        want = torch.stack(heights)
        assert_close(got.cost[p], want.min(), rounding(40, 30.0))
        assert torch.equal(got.perm[p], orders[want.argmin()])
    assert_close(barrier(a, b, match=got, **options).height, got.cost, rounding(40, 30.0))


def test_two_swapped_neurons():
    e = torch.eye(2, dtype=torch.float64)
    got = best_matching(e, e.flip(0), teacher=e)
    assert got.perm.tolist() == [[1, 0]]
    assert_close(got.cost, torch.zeros(1), rounding(20))


def test_gap_matching_is_best_where_zero_is_possible():
    # Zero gap is zero barrier (Lemma 7 in theory.py), so that both find it, or neither can.
    a, b = (sample_global_minima(TEACHER, 5, 20, seed=seed, death=0.1) for seed in (0, 1))
    best, gap = best_matching(a, b, teacher=TEACHER), match(a, b)
    zero = best.cost <= rounding(50, 9.0)
    assert 0 < int(zero.sum()) < 20
    assert torch.equal(gap.cost <= rounding(50, 9.0), zero)


def test_too_many_neurons():
    w1 = torch.ones(9, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"at most 8 neurons.*got m = 9. Use match, and refine"):
        best_matching(w1, w1, teacher=TEACHER)
