# SPDX-License-Identifier: MIT
import itertools
import math

import pytest
import torch
from compare import assert_close, rounding
from hypothesis import given
from hypothesis import strategies as st

from lmc_fast import Weights, init_students, match, sample_inputs
from lmc_fast.deficit_cost import deficit_cost, gap_cost


def students(m, d=4, pairs=1, seed=0, c=2, biases=False):
    weights = init_students(range(seed, seed + pairs), m, d, scale=1.0, c=c)
    if not biases:
        return weights
    generator = torch.Generator().manual_seed(seed)
    b1 = torch.randn(pairs, m, generator=generator, dtype=torch.float64)
    return Weights(weights.w1, b1, weights.w2, None)


def midpoint_deficits(u, a, v, b, x):
    """(n, m, m, c): what each pair's midpoint neuron lacks, sample by sample."""
    hu, hv = (x @ u.T).relu()[:, :, None, None], (x @ v.T).relu()[:, None, :, None]
    middle = ((x @ u.T)[:, :, None] + (x @ v.T)[:, None, :]).relu()[..., None] / 2
    a, b = a.T[None, :, None, :], b.T[None, None, :, :]
    return (a * hu + b * hv) / 2 - (a + b) / 2 * middle


def costs_from_the_formula(a, b, cost, x):
    """The (m, m) cost matrix of one pair, entry by entry."""
    m = a.w1.shape[1]
    matrix = torch.empty(m, m, dtype=torch.float64)
    for i, j in itertools.product(range(m), repeat=2):
        u, v = a.w1[0, i], b.w1[0, j]
        if cost == "gap":
            matrix[i, j] = u.norm() + v.norm() - (u + v).norm()
        elif cost == "weights":
            matrix[i, j] = -(u @ v + a.b1[0, i] * b.b1[0, j] + a.w2[0, :, i] @ b.w2[0, :, j])
        else:
            matrix[i, j] = -((x @ u + a.b1[0, i]).relu() * (x @ v + b.b1[0, j]).relu()).mean()
    return matrix


@pytest.mark.parametrize("cost", ["gap", "weights", "activations"])
@pytest.mark.parametrize("m", [1, 2, 5, 6])
def test_the_assignment_is_the_best_of_all_permutations(cost, m):
    biases = cost != "gap"
    c = 1 if cost == "gap" else 2
    a, b = (students(m, seed=seed, c=c, biases=biases) for seed in (0, 1))
    if cost == "gap":
        a, b = (net._replace(w2=torch.ones_like(net.w2)) for net in (a, b))
    x = sample_inputs(50, 4) if cost == "activations" else None
    matrix = costs_from_the_formula(a, b, cost, x)
    best = min(
        sum(matrix[i, order[i]] for i in range(m)) for order in itertools.permutations(range(m))
    )
    matching = match(a, b, cost, x)
    tolerance = rounding(50 * m, matrix.abs().max())
    assert_close(matching.cost[0], best, tolerance)
    assert_close(matrix[torch.arange(m), matching.perm[0]].sum(), best, tolerance)


@given(st.permutations(range(6)), st.sampled_from(["gap", "weights", "activations"]))
def test_a_permuted_copy_is_matched_with_its_original(order, cost):
    perm = torch.tensor(order)
    for c in (1, 2):
        a = students(6, c=c)
        b = a.permuted(perm)
        x = sample_inputs(200, 4) if cost == "activations" else None
        matching = match(a, b, cost, x)
        assert torch.equal(matching.perm[0], perm.argsort())
        for got, want in zip(matching.apply(b), a, strict=True):
            assert (got is want is None) or torch.equal(got, want)
        assert_close(matching.moved, (perm != torch.arange(6)).double().mean()[None], 0)


def test_gap_cost_is_the_mean_midpoint_deficit():
    # E relu(u.x) = |u| / sqrt(2 pi), so the mean deficit is gap / (2 sqrt(2 pi)).
    u, v = students(3).w1[0], students(3, seed=1).w1[0]
    want = u.norm(dim=1)[:, None] + v.norm(dim=1) - (u[:, None] + v).norm(dim=2)
    assert_close(gap_cost(u, v), want, rounding(20, 10.0))
    ones, n = torch.ones(1, 3, dtype=torch.float64), 100_000
    deficits = midpoint_deficits(u, ones, v, ones, sample_inputs(n, 4))[..., 0]
    error = 5 * deficits.std(0) / math.sqrt(n)
    assert_close(gap_cost(u, v) / (2 * math.sqrt(2 * math.pi)), deficits.mean(0), error)


def test_gap_cost_is_zero_where_interpolation_is_free():
    u = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    v = torch.tensor([[0.3, 0.4], [0.0, 0.0], [0.0, -2.0]], dtype=torch.float64)
    # Rows: parallel to v_0, dead, and opposite to v_2: |u| + |v| - |u + v| = 1 + 2 - 1.
    got = gap_cost(u, v)
    assert (got[[0, 0, 1, 1, 1, 2], [0, 1, 0, 1, 2, 1]] == 0).all()
    assert_close(got[2, 2], 2.0, rounding(8, 2.0))
    assert (got >= 0).all()


def test_gap_cost_keeps_its_digits_for_nearly_parallel_neurons():
    # |u| + |v| - |u + v| = 2 - 2 cos(t/2) for unit vectors at angle t: t^2 / 4 for small t.
    t = 1e-5
    u = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    v = torch.tensor([[math.cos(t), math.sin(t)]], dtype=torch.float64)
    # cos t is rounded to eps, of which the gap sees a half.
    assert_close(gap_cost(u, v)[0, 0], 4 * math.sin(t / 4) ** 2, rounding(2))


@pytest.mark.parametrize("c", [1, 2])
def test_deficit_cost_against_monte_carlo(c):
    nets = [students(3, seed=seed, c=c) for seed in (0, 1)]
    (u, a), (v, b) = ((net.w1[0], net.w2[0]) for net in nets)
    n = 100_000
    squares = midpoint_deficits(u, a, v, b, sample_inputs(n, 4)).square().sum(-1)
    error = 5 * squares.std(0) / math.sqrt(n)
    assert_close(deficit_cost(u, a, v, b).square(), squares.mean(0), error)


@pytest.mark.parametrize("rows", [1, 2, 4])  # of 7: the last block is shorter, or not
def test_costs_by_blocks_of_rows_are_those_of_one_block(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (u, a), (v, b) = ((net.w1[0], net.w2[0]) for net in (students(7), students(7, seed=1)))
    want = gap_cost(u, v), deficit_cost(u, a, v, b)
    monkeypatch.setattr("lmc_fast.deficit_cost._ON_CPU", rows * 7 + 6)
    for got, whole in zip((gap_cost(u, v), deficit_cost(u, a, v, b)), want, strict=True):
        # Cosines may be rounded otherwise, and a cost is a root of what cancels.
        assert_close(got.square(), whole.square(), rounding(40, 10.0))


def test_deficit_cost_of_equal_neurons_and_of_unequal_output_weights():
    u = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    # The root of a rounding: eps |u|^2 under it.
    assert float(deficit_cost(u, one, u, one)) <= math.sqrt(rounding(8, 25.0))
    # (u, a) with (0, b): (a - b) relu(u.x) / 4, whose mean square is (a - b)^2 |u|^2 / 32.
    got = deficit_cost(u, 3 * one, 0 * u, one)
    assert_close(got, torch.full((1, 1), math.sqrt(4 * 25 / 32)), 1e-6)


def test_dead_neurons_are_spent_by_gap_and_not_by_weights():
    e = torch.eye(2, dtype=torch.float64)
    # a: e1 split in two, e2. b: e1, and e2 split in two. Inner products of 0 leave weights
    # matching free to pair e1 with e2; the gap pays for that.
    a = torch.stack([0.5 * e[0], 0.5 * e[0], e[1], 0 * e[0]])
    b = torch.stack([0 * e[0], 0.5 * e[1], e[0], 0.5 * e[1]])
    matching = match(a, b, "gap")
    assert_close(matching.cost, torch.zeros(1), rounding(8))
    moved = b[matching.perm[0]]
    # One of the two parts of e1 meets e1, the other the dead one; likewise the other way round.
    assert {tuple(row.tolist()) for row in moved[:2]} == {(1.0, 0.0), (0.0, 0.0)}
    assert (moved[2:] == 0.5 * e[1]).all()


def test_none_and_random():
    a, b = students(5, pairs=3), students(5, pairs=3, seed=10)
    still = match(a, b, "none")
    assert torch.equal(still.perm, torch.arange(5).repeat(3, 1))
    assert still.cost.isnan().all()
    assert (still.moved == 0).all()
    shuffled = match(a, b, "random", seed=4)
    assert torch.equal(shuffled.perm.sort(1).values, torch.arange(5).repeat(3, 1))
    assert not torch.equal(shuffled.perm, match(a, b, "random", seed=5).perm)
    again = match(students(5, pairs=2), students(5, pairs=2, seed=10), "random", seed=4)
    assert torch.equal(again.perm, shuffled.perm[:2])


def test_pairs_are_matched_one_by_one():
    a, b = students(5, pairs=3), students(5, pairs=3, seed=10)
    together = match(a, b)
    assert together.seconds > 0
    assert together.method == "gap"
    for p in range(3):
        alone = match((a.w1[p], a.w2[p]), (b.w1[p], b.w2[p]))
        assert torch.equal(alone.perm[0], together.perm[p])
        assert_close(alone.cost[0], together.cost[p], 0)


@pytest.mark.parametrize("matrices", [1, 2, 3, 7, 8])
def test_how_many_pairs_are_assigned_together_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch, matrices: int
) -> None:
    a, b = students(30, pairs=7), students(30, pairs=7, seed=10)
    together = match(a, b, "weights")
    monkeypatch.setattr("lmc_fast.matching._MATRICES", matrices * 8 * 30 * 30 + 7)
    grouped = match(a, b, "weights")
    assert torch.equal(grouped.perm, together.perm)
    assert torch.equal(grouped.cost, together.cost)


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_networks_of_few_weights_are_matched_without_a_matrix(
    monkeypatch: pytest.MonkeyPatch, biases: bool, dtype: torch.dtype
) -> None:
    def stacked(seed):
        net = students(40, pairs=3, seed=seed, biases=biases)
        return Weights(*(None if part is None else part.to(dtype) for part in net))

    a, b = stacked(0), stacked(10)
    by_matrix = match(a, b, "weights")
    monkeypatch.setattr("lmc_fast.matching._LEAST_WIDE", 40)
    # Four weights come in, two go out.
    monkeypatch.setattr("lmc_fast.matching._MOST_FACTORS", 5 + biases)
    assert torch.equal(match(a, b, "weights").cost, by_matrix.cost)
    monkeypatch.setattr("lmc_fast.matching._MOST_FACTORS", 6 + biases)
    monkeypatch.delattr("lmc_fast.matching._weights_cost")
    found = match(a, b, "weights")
    assert torch.equal(found.perm, by_matrix.perm)
    assert_close(found.cost, by_matrix.cost, 1e-12)
    for p in range(3):
        alone = match(*(Weights(*(None if t is None else t[p : p + 1] for t in net))
                        for net in (a, b)), "weights")  # fmt: skip
        assert torch.equal(alone.perm[0], found.perm[p])
        assert_close(alone.cost[0], found.cost[p], 0)


def test_w2_of_one_pair_does_not_change_the_cost_of_another():
    w1a, w1b = students(5, pairs=2).w1, students(5, pairs=2, seed=10).w1
    w2 = torch.tensor([[[1.0]], [[2.0]]], dtype=torch.float64).expand(2, 1, 5)
    together = match((w1a, w2), (w1b, w2))
    for p in range(2):
        alone = match((w1a[p], w2[p]), (w1b[p], w2[p]))
        assert_close(alone.cost[0], together.cost[p], 0)
        assert torch.equal(alone.perm[0], together.perm[p])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b": torch.ones(6, 4)}, ValueError, "same width m; got 5 and 6"),
        ({"b": torch.ones(5, 4).double()}, TypeError, "same dtype"),
        ({"b": torch.ones(5, 4, device="meta")}, ValueError, "b.w1 must hold numbers"),
        ({"b": torch.full((5, 4), torch.nan)}, ValueError, "b.w1 must be finite"),
        ({"cost": "hungarian"}, ValueError, "'gap', 'weights'.*got 'hungarian'"),
        ({"cost": "activations"}, ValueError, "got cost='activations' without x"),
        ({"cost": "weights", "x": torch.ones(3, 4)}, ValueError, "got cost='weights' with x"),
        ({"cost": "gap", "x": torch.ones(3, 5)}, ValueError, r"\(\*, 4\)"),
        ({"cost": "activations", "x": torch.ones(3, 5)}, ValueError, r"\(\*, 4\)"),
        (
            {"a": (torch.ones(5, 4), torch.ones(5), torch.ones(1, 5), None)},
            ValueError,
            "a must have no biases; got a b1.*pass x",
        ),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        match(**{"a": torch.ones(5, 4), "b": torch.ones(5, 4), **arguments})
