# SPDX-License-Identifier: MIT
"""Losses after a move are those of the moved networks, computed from nothing."""

import itertools

import pytest
import torch
from compare import assert_close, rounding

from lmc_fast import (
    Weights,
    as_weights,
    init_students,
    path_losses,
    population_path_losses,
    sample_inputs,
    segment_moves,
    teacher,
)
from lmc_fast.reference.population_loss import (
    population_path_losses as population_path_losses_reference,
)
from lmc_fast.segment_moves import PopulationMoves, SampledMoves
from lmc_fast.weights import as_teacher

M, ALPHAS = 5, torch.tensor([0.25, 0.5, 0.875], dtype=torch.float64)


def networks(biases):
    nets = [init_students([seed, seed + 9], M, 4, scale=1.0, c=2) for seed in (0, 1)]
    if not biases:
        return nets
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [Weights(net.w1, normal(2, M), net.w2, normal(2, 2)) for net in nets]


def check(moves, a, b, losses, tolerance):
    """Every swap and every cycle of three of pair 1 against ``losses(a, b)``."""
    a, b = (Weights(*(None if t is None else t[1:] for t in net)) for net in (a, b))
    perm = torch.tensor([2, 0, 4, 1, 3])
    for _ in range(2):  # the second time from another permutation, set by start
        assert_close(moves.start(perm), losses(a, b.permuted(perm)), tolerance)
        for length in (2, 3):
            tried = torch.tensor(list(itertools.permutations(range(M), length)))
            got = torch.stack([moves.after(tried, point) for point in range(len(ALPHAS))])
            for i, move in enumerate(tried.tolist()):
                moved = perm.clone()
                for k, neuron in enumerate(move):
                    moved[neuron] = perm[move[(k + 1) % length]]
                assert_close(got[:, i], losses(a, b.permuted(moved)), tolerance)
        perm = perm.roll(1)


@pytest.mark.parametrize("inputs", ["gaussian", "sphere"])
def test_in_closed_form(inputs):
    a, b = networks(biases=False)
    target = (torch.eye(4, dtype=torch.float64)[:3], torch.ones(2, 3, dtype=torch.float64))
    scale = {"gaussian": 1.0, "sphere": 2.0**2 / 4}[inputs]

    def losses(a, b):
        return population_path_losses(a, b, target, ALPHAS, inputs, 2.0).losses[0]

    moves = PopulationMoves(a, b, 1, as_teacher(target, 4), ALPHAS, scale)
    check(moves, a, b, losses, rounding(M * M, 30.0))
    zero = torch.zeros(1, 1, 4, dtype=torch.float64)
    nothing = population_path_losses((zero, zero[..., :2].mT), (zero, zero[..., :2].mT), target, 2,
                                     inputs, 2.0).losses[0, 0]  # fmt: skip
    assert_close(moves.zero_loss, nothing, rounding(20, 3.0))


def special(c):
    """Networks with dead, equal and opposite neurons, and output weights of both signs."""
    generator = torch.Generator().manual_seed(c)
    w1 = torch.randn(2, M, 4, generator=generator, dtype=torch.float64)
    w2 = torch.randn(2, c, M, generator=generator, dtype=torch.float64)
    w1[0, 0] = w1[1, 0] = 0  # dead in both
    w1[0, 1] = 0
    w2[1, :, 2] = 0
    w1[1, 3] = -w1[0, 3]  # half way between them there is nothing
    w1[1, 4], w2[1, :, 4] = w1[0, 4], w2[0, :, 4]
    # Pair 1 of two is looked at.
    return [as_weights((w1[k].repeat(2, 1, 1), w2[k].repeat(2, 1, 1))) for k in (0, 1)]


@pytest.mark.parametrize("c", [1, 2])
def test_dead_and_opposite_neurons_in_closed_form(c):
    a, b = special(c)
    target = as_teacher((torch.eye(4).double()[:3], -torch.ones(c, 3).double()), 4, c)

    def losses(a, b):
        return population_path_losses_reference(a, b, target, ALPHAS).losses[0]

    check(PopulationMoves(a, b, 1, target, ALPHAS, 1.0), a, b, losses, rounding(M * M, 30.0))


def test_rounding_does_not_add_up_over_many_moves():
    m, target = 12, as_teacher(teacher(4, 3), 4)
    a, b = (init_students([seed], m, 4, scale=1.0) for seed in (0, 1))
    moves = PopulationMoves(a, b, 0, target, ALPHAS, 1.0)
    generator = torch.Generator().manual_seed(0)
    perm = torch.arange(m)
    for _ in range(200):
        moves.start(perm)
        move = torch.randperm(m, generator=generator)[:3]
        got = [moves.after(move[None], point)[0] for point in range(len(ALPHAS))]
        perm = perm.clone()
        perm[move] = perm[move.roll(-1)]
        want = population_path_losses_reference(a, b.permuted(perm), target, ALPHAS).losses[0]
        assert_close(torch.stack(got), want, rounding(m * m, 30.0))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("biases", [False, True])
def test_on_samples(loss, biases):
    a, b = networks(biases)
    x = sample_inputs(30, 4)
    y = x[:, :2].contiguous() if loss == "mse" else torch.arange(30) % 2

    def losses(a, b):
        return path_losses(a, b, x, y, ALPHAS, loss).losses[0]

    moves = SampledMoves(a, b, 1, x, y, loss, ALPHAS)
    check(moves, a, b, losses, rounding(100, 30.0))
    want = (
        x[:, :2].square().sum(1).mean() / 2 if loss == "mse" else torch.tensor(2.0).double().log()
    )
    assert_close(moves.zero_loss, want, rounding(30))


def test_moves_that_stay_within_memory_are_at_least_one():
    a, b = networks(biases=False)
    x = sample_inputs(30, 4)
    moves = SampledMoves(a, b, 0, x, x[:, :2].contiguous(), "mse", ALPHAS)
    assert moves.together(2) > moves.together(3) >= 1
    target = as_teacher((torch.eye(4).double()[:3], torch.ones(2, 3).double()), 4)
    population = PopulationMoves(a, b, 0, target, ALPHAS, 1.0)
    assert population.together(2) > population.together(3) >= 1


def test_blocks_do_not_change_losses(monkeypatch):
    a, b = networks(biases=True)
    x = sample_inputs(30, 4)
    tried = torch.tensor(list(itertools.permutations(range(M), 3)))
    target = as_teacher((torch.eye(4).double()[:3], torch.ones(2, 3).double()), 4)

    def results():
        sampled = SampledMoves(a, b, 1, x, x[:, :2].contiguous(), "mse", ALPHAS)
        closed = PopulationMoves(*networks(biases=False), 1, target, ALPHAS, 1.0)
        for moves in (sampled, closed):
            moves.start(torch.arange(M))
        return torch.stack([moves.after(tried, 1) for moves in (sampled, closed)])

    whole = results()
    monkeypatch.setattr(segment_moves, "_CACHED_NUMBERS", 1)  # a move, or a row, at a time
    assert_close(results(), whole, rounding(100, 30.0))
