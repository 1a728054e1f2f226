# SPDX-License-Identifier: MIT
import numpy as np

from lmc_fast.reference.assignment import assign, certificate

# Best by hand: 1 + 2 + 2 = 5; the greedy choice 0 + 3 + 3 = 6 is worse.
COST = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]])


def test_the_worked_example():
    perm, v = assign(COST)
    assert perm.tolist() == [1, 0, 2]
    u, gap, violation = certificate(COST, perm, v)
    assert u.sum() + v.sum() == 5.0
    assert gap == violation == 0.0


def test_the_gap_of_a_worse_permutation_is_what_it_costs_more():
    _, v = assign(COST)
    _, gap, _ = certificate(COST, np.array([2, 1, 0]), v)
    assert gap == 1.0


def test_prices_that_prove_little():
    # u = row minima 1, 0, 2: a bound of 3.
    _, gap, violation = certificate(COST, np.array([1, 0, 2]), np.zeros(3))
    assert gap == 2.0
    assert violation == 0.0


def test_no_rows():
    perm, v = assign(np.empty((0, 0)))
    assert len(perm) == len(v) == 0
