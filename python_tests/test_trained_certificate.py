# SPDX-License-Identifier: MIT
import math

import pytest
import torch
from compare import assert_close, rounding

from lmc_fast import (
    Matching,
    barrier,
    best_matching,
    init_students,
    sample_global_minima,
    teacher,
    train_ensemble,
    trained_certificate,
    zero_barrier_certificate,
)
from lmc_fast.trained_certificate import types_by_angle

TEACHER = teacher(4, 3)
V = TEACHER.hidden.weight.detach()


def joined(a, b, certificate, target):
    matching = Matching(certificate.perm, torch.zeros(len(a)), 0.0, "certificate")
    return barrier(a, b, teacher=target, match=matching)


def test_on_exact_minima_it_is_the_certificate():
    a, b = (sample_global_minima(TEACHER, 5, 60, seed=seed, death=0.1) for seed in (0, 1))
    exact, got = zero_barrier_certificate(a, b, TEACHER), trained_certificate(a, b, TEACHER)
    assert 5 < int(exact.holds.sum()) < 55
    # A neuron may be shorter than 1e-3 though it is not dead: not for these seeds.
    assert torch.equal(got.holds, exact.holds)
    assert torch.equal(got.perm, exact.perm)
    assert torch.equal(got.neurons_needed, exact.neurons_needed)
    assert (got.bound[got.holds] <= rounding(10) ** 2).all()
    assert got.bound[~got.holds].isinf().all()


def test_types_by_hand():
    e = torch.eye(2, dtype=torch.float64)
    angles = torch.tensor([0.0, 0.019, 0.021, math.pi / 2 - 0.019, -0.019, math.pi])
    w1 = 3 * torch.stack([angles.double().cos(), angles.double().sin()], dim=1)
    assert types_by_angle(w1[None], e, 0.02, 1e-3).tolist() == [[0, 0, -2, 1, 0, -2]]
    # Dead neurons are those up to dead times the largest teacher norm, 5.
    short = torch.tensor([[0.0049, 0.0], [0.0, 0.0051], [-0.005, 0.0]], dtype=torch.float64)
    assert types_by_angle(short[None], 5 * e, 0.02, 1e-3).tolist() == [[-1, 1, -1]]


def test_the_bound_by_hand():
    # Teacher e1, e2. a has (1.02, 0), half of (0.01, 1) twice, and a dead (0, -0.001). Next to it:
    # e1, half of e2 twice, 0, at distances 0.02, 0.005 twice and 0.001, in sum 0.031.
    e = torch.eye(2, dtype=torch.float64)
    a = torch.tensor([[1.02, 0], [0.005, 0.5], [0.005, 0.5], [0, -0.001]], dtype=torch.float64)
    got = trained_certificate(a, a, e, dead=0.0011)
    assert got.types[0].tolist() == [[0, 1, 1, -1]]
    assert got.holds.tolist() == [True]
    assert got.neurons_needed.tolist() == [3]
    assert_close(got.bound, [0.031**2 / 2], rounding(30, 1e-3))


@pytest.mark.parametrize(
    "other",
    [
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]],  # one type is missing
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.1, 1.0, 0.0]],  # one is off by 0.1
    ],
)
def test_networks_that_are_close_to_no_minimum(other):
    e = torch.eye(4, dtype=torch.float64)[:3]
    got = trained_certificate(e, torch.tensor(other, dtype=torch.float64), e)
    assert got.holds.tolist() == [False]
    assert got.neurons_needed.tolist() == [-1]
    assert got.bound.isinf().all()
    assert got.perm[0].sort().values.tolist() == [0, 1, 2]


def test_multiples_that_do_not_sum_to_one_are_of_no_minimum():
    e = torch.eye(4, dtype=torch.float64)[:3]
    assert not trained_certificate(100 * e, e, e).holds.any()
    near = trained_certificate(1.09 * e, e, e)
    assert near.holds.all()
    # The farther of the two ends decides: delta is 3 * 0.09 for a and 0 for b.
    assert_close(near.bound, [0.27**2 / 2], rounding(30))
    end = barrier(1.09 * e, e, teacher=e).curve.losses[:, 0]
    assert (end <= near.bound).all()
    assert not trained_certificate(1.11 * e, e, e).holds.any()
    assert trained_certificate(1.11 * e, e, e, total=0.2).holds.all()


def test_dead_is_measured_against_the_longest_teacher_neuron():
    e = torch.diag(torch.tensor([1.0, 5.0], dtype=torch.float64))
    short = torch.tensor([[0.004, 0.0]], dtype=torch.float64)
    assert types_by_angle(short[None], e, 0.02, 1e-3).tolist() == [[-1]]


def test_losses_between_disturbed_minima_are_below_the_bound():
    pairs = 40
    a, b = (sample_global_minima(TEACHER, 6, pairs, seed=seed, death=0.3) for seed in (0, 1))
    generator = torch.Generator().manual_seed(0)
    # Disturbed in proportion to its length, a neuron's angle stays; a dead one stays dead.
    a, b = (
        w + (0.02 * w.norm(dim=2, keepdim=True) + 1e-4) * torch.randn(
            w.shape, generator=generator, dtype=torch.float64
        )
        for w in (a, b)
    )  # fmt: skip
    got = trained_certificate(a, b, TEACHER, angle=0.2, dead=1e-3)
    assert 10 < int(got.holds.sum()) < pairs
    losses = joined(a, b, got, TEACHER).curve.losses[got.holds].amax(1)
    assert (losses <= got.bound[got.holds]).all()
    assert (losses > 0.01 * got.bound[got.holds]).any()  # and not far below


@pytest.mark.parametrize("rate", [6.0, 6.4])
def test_trained_students(rate):
    m, pairs = 8, 8
    target = teacher(10, 5)
    start = init_students(range(2 * pairs), m, 10)
    students = train_ensemble(start.w1, lr=rate / m, steps=2500, teacher=target)
    # At 6.4 one of them may diverge, close as that is to the threshold.
    sound = ~students.diverged.view(2, pairs).any(0)
    assert sound.sum() >= pairs - 1
    a, b = students.w1[:pairs][sound], students.w1[pairs:][sound]
    got = trained_certificate(a, b, target)
    # All of them are close to minima, but not as close as the exact certificate wants.
    assert (got.neurons_needed > 0).all()
    assert (zero_barrier_certificate(a, b, target).neurons_needed < 0).any()
    yes = got.holds
    assert yes.any()
    result = joined(a, b, got, target)
    assert (result.height <= got.bound)[yes].all()
    assert (got.bound[yes] < 1e-5).all()
    assert (result.height < 1e-8 * result.naive.height)[yes].all()
    # Where it says no, the best of all permutations leaves a barrier far above those bounds.
    if rate == 6.0:
        assert not yes.all()
        no = ~yes
        assert (best_matching(a[no], b[no], teacher=target).cost > 1e-4).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: trained_certificate(V, V, V, angle=2.0), r"angle must lie in \[0, pi/2\)"),
        (lambda: trained_certificate(V, V, V, dead=-1.0), "dead must be at least 0; got -1.0"),
        (lambda: trained_certificate(V, V, V, total=1.0), r"total must lie in \[0, 1\); got 1.0"),
        (lambda: trained_certificate(V, V, V[:, :3]), "dimension d = 4 like a and b; got 3"),
        (lambda: trained_certificate(V, V, 0 * V), "no neuron that is zero"),
        (lambda: trained_certificate(V, V[:2], V), "same width m"),
        (
            lambda: trained_certificate(V, (V, -torch.ones(1, 3).double()), V),
            "b must have w2 = 1",
        ),
        (
            lambda: trained_certificate((V, V[:, 0] + 1, torch.ones(1, 3).double(), None), V, V),
            "a must have no biases",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
