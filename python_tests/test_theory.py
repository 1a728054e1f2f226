# SPDX-License-Identifier: MIT
import itertools

import pytest
import torch
from compare import assert_close, rounding

from lmc_fast import (
    Matching,
    barrier,
    match,
    neuron_types,
    population_loss,
    sample_global_minima,
    teacher,
    zero_barrier_certificate,
)

TEACHER = teacher(4, 3)
V = TEACHER.hidden.weight.detach()


def minimum(*neurons):
    """A student from (multiple, type) pairs; None is a dead neuron."""
    rows = [torch.zeros(4).double() if n is None else n[0] * V[n[1]] for n in neurons]
    return torch.stack(rows)


@pytest.mark.parametrize("death", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("m", [3, 4, 9])
def test_sampled_minima_have_zero_loss(m, death):
    w1 = sample_global_minima(TEACHER, m, 20, death=death)
    assert w1.shape == (20, m, 4)
    loss = population_loss(w1, None, TEACHER)
    assert_close(loss, torch.zeros(20), rounding(m * m, 9.0))
    types = neuron_types(w1, TEACHER)
    assert (types >= -1).all()
    assert all(set(range(3)) <= set(row) for row in types.tolist())
    alive = (types >= 0).sum(1)
    if death == 0.0:
        assert (alive == m).all()
    if death == 1.0:
        assert (alive == 3).all()


def test_sampled_minima_depend_on_seed_and_place_alone():
    many, few = (sample_global_minima(TEACHER, 6, P, seed=4, death=0.3) for P in (5, 2))
    assert_close(many[:2], few, 0)
    assert not torch.equal(sample_global_minima(TEACHER, 6, 2, seed=5, death=0.3), few)
    assert not torch.equal(few[0], few[1])


def test_types_by_hand():
    w1 = minimum((0.5, 2), None, (2.0, 0), (-1.0, 1), (1e-9, 1))
    w1[2] += 1e-4 * V[1]
    assert neuron_types(w1, TEACHER).tolist() == [[2, -1, -2, -2, -1]]
    assert neuron_types(w1, TEACHER, tol=1e-3).tolist() == [[2, -1, 0, -2, -1]]
    assert neuron_types(w1, TEACHER, tol=1e-10).tolist()[0][4] == 1


def test_certificate_by_hand():
    a = minimum((0.5, 0), (0.5, 0), (1, 1), (1, 2))  # counts 2, 1, 1
    b = minimum((1, 2), (1, 0), (0.3, 1), (0.7, 1))  # counts 1, 2, 1: five places needed
    result = zero_barrier_certificate(a, b, TEACHER)
    assert result.neurons_needed.tolist() == [5]
    assert result.holds.tolist() == [False]
    dead = torch.zeros(1, 4).double()
    wide = zero_barrier_certificate(torch.cat([a, dead]), torch.cat([dead, b]), TEACHER)
    assert wide.neurons_needed.tolist() == [5]
    assert wide.holds.tolist() == [True]
    moved = torch.cat([dead, b])[wide.perm[0]]
    types_a, types_b = (neuron_types(w, TEACHER)[0] for w in (torch.cat([a, dead]), moved))
    assert ((types_a == types_b) | (types_a == -1) | (types_b == -1)).all()


def test_networks_that_are_no_minima_get_no_certificate():
    a = minimum((1, 0), (1, 1), (1, 2))
    for other in (minimum((1, 0), (1, 1), (0.9, 2)), a + 0.1):
        result = zero_barrier_certificate(a, other, TEACHER)
        assert result.holds.tolist() == [False]
        assert result.neurons_needed.tolist() == [-1]
        assert result.perm[0].sort().values.tolist() == [0, 1, 2]


def test_certificate_agrees_with_the_closed_form_barrier():
    pairs, m = 60, 5
    a, b = (sample_global_minima(TEACHER, m, pairs, seed=seed, death=0.1) for seed in (0, 1))
    result = zero_barrier_certificate(a, b, TEACHER)
    assert 5 < int(result.holds.sum()) < pairs - 5  # both cases are met
    zero = rounding(m * m, 9.0)
    by_certificate = Matching(result.perm, torch.zeros(pairs), 0.0, "certificate")
    height = barrier(a, b, teacher=TEACHER, match=by_certificate).height
    assert (height[result.holds] <= zero).all()
    assert (barrier(a, b, teacher=TEACHER, match="gap").height[result.holds] <= zero).all()
    # Where it does not hold, no permutation at all gives zero.
    orders = torch.tensor(list(itertools.permutations(range(m))))
    for p in (~result.holds).nonzero().flatten()[:6].tolist():
        every = b[p][orders]
        heights = barrier(a[p].expand_as(every), every, teacher=TEACHER, alphas=3).height
        assert heights.min() > 1e3 * zero


def test_gap_matching_has_cost_zero_iff_the_certificate_holds():
    a, b = (sample_global_minima(TEACHER, 5, 60, seed=seed, death=0.1) for seed in (2, 3))
    holds = zero_barrier_certificate(a, b, TEACHER).holds
    assert torch.equal(match(a, b).cost <= rounding(50, 3.0), holds)


def test_a_float32_teacher_is_orthonormal_enough():
    v1 = teacher(200, 100, dtype=torch.float32).hidden.weight.detach()
    assert zero_barrier_certificate(v1, v1, v1).holds.tolist() == [True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_global_minima(TEACHER, 2, 1), "m must be at least M = 3"),
        (lambda: sample_global_minima(TEACHER, 3, 0), "P must be at least 1"),
        (lambda: sample_global_minima(TEACHER, 3, 1, death=1.5), r"death must lie in \[0, 1\]"),
        (
            lambda: sample_global_minima((V, 2 * torch.ones(1, 3).double()), 3, 1),
            "one output and w2 = 1",
        ),
        (lambda: neuron_types(V, TEACHER, tol=-1.0), "tol must be at least 0"),
        (lambda: neuron_types(V, 0 * V), "no neuron that is zero"),
        (
            lambda: zero_barrier_certificate((V, -torch.ones(1, 3).double()), V, TEACHER),
            "a must have w2 = 1",
        ),
        (lambda: zero_barrier_certificate(V, V[:2], TEACHER), "same width m"),
        (lambda: zero_barrier_certificate(V, V, V + 0.1), "orthonormal neurons"),
        (lambda: zero_barrier_certificate(V, V, 2 * V), "orthonormal neurons"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
