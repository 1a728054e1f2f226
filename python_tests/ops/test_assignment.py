# SPDX-License-Identifier: MIT
import itertools
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from compare import assert_close
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from trained_neurons import trained_neurons

from lmc_fast import Assignment, assign, assign_factors
from lmc_fast.deficit_cost import gap_cost
from lmc_fast.reference import assignment as reference

EPS = torch.finfo(torch.float64).eps


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def nearly_dead_neurons(m: int, seed: int) -> Tensor:
    """(m, 10): every other a million times smaller."""
    return (
        normal(m, 10, seed=seed)
        * torch.tensor([1.0, 1e-6], dtype=torch.float64).repeat(m)[:m, None]
    )


def integers(high: int, m: int) -> Tensor:
    return torch.randint(high, (m, m), generator=torch.Generator().manual_seed(m)).double()


def with_flat_lines(m: int) -> Tensor:
    """Rows and columns of one cost each, of several sizes; most others cost more."""
    cost = normal(m, m, seed=m).abs()
    cost[::3] = normal(m, 1, seed=1)[::3].abs() / 10
    cost[:, 1::4] = normal(m, seed=2)[1::4].abs() / 10
    return cost


COSTS = {
    "random": lambda m: normal(m, m, seed=m),
    "Gaussian neurons": lambda m: -normal(m, 10) @ normal(m, 10, seed=1).T,
    "trained neurons": lambda m: -trained_neurons(m, 0) @ trained_neurons(m, 1).T,
    "nearly dead neurons": lambda m: -nearly_dead_neurons(m, 0) @ nearly_dead_neurons(m, 1).T,
    "distances of nearly dead neurons": lambda m: torch.cdist(
        nearly_dead_neurons(m, 0), nearly_dead_neurons(m, 1)
    ).square(),
    "gaps of trained neurons": lambda m: gap_cost(trained_neurons(m, 0), trained_neurons(m, 1)),
    "tied": lambda m: integers(3, m),
    "integers": lambda m: integers(100, m),
    "constant": lambda m: torch.full((m, m), 0.1, dtype=torch.float64),
    "rank one": lambda m: -normal(m, 1).abs() * normal(m, seed=1).abs(),
    "sum of row and column": lambda m: normal(m, 1) + normal(m, seed=1),
    "flat rows and columns": with_flat_lines,
    "only flat columns": lambda m: normal(m, seed=1).expand(m, m),
    "only flat rows": lambda m: normal(m, 1, seed=1).expand(m, m),
    "one expensive column": lambda m: normal(m, m) + 1e6 * (torch.arange(m) == m // 2),
    "diagonal forbidden": lambda m: normal(m, m) + 1e12 * torch.eye(m),
    "huge": lambda m: 1e299 * normal(m, m).clamp(-9, 9),
    "tiny": lambda m: 1e-300 * normal(m, m),
    "sorted": lambda m: torch.arange(m * m, dtype=torch.float64).view(m, m).sqrt(),
}
# Around the widths of vectors, the widest that is scanned whole (256), and the groups of a list.
SIZES = [*range(1, 10), 15, 16, 17, 33, 47, 63, 65, 129, 255, 256, 257, 319, 320, 321, 400, 513]


def check(cost: Tensor, got: Assignment, best: float, magnitude: float = 0.0) -> None:
    """The permutation is one, has the best objective, and the proof is one by its definition."""
    m = len(cost)
    c = cost.double()
    # m prices, each of which has changed m times by sums of a few costs. `magnitude` is that of
    # prices to start from, where it is larger.
    largest = max(magnitude, float(c.abs().max()))
    tolerance = 4 * EPS * m * m * largest
    assert torch.equal(got.perm.sort().values, torch.arange(m))
    assert_close(got.objective, c[torch.arange(m), got.perm].sum(), tolerance, "objective")
    assert_close(got.objective, best, tolerance, "objective")
    slack = c - got.u[:, None] - got.v
    assert (slack >= -tolerance).all()
    assert float(got.violation) <= tolerance
    assert_close(got.gap, got.objective - got.u.sum() - got.v.sum(), 4 * tolerance, "gap")
    assert abs(float(got.gap)) <= min(tolerance, 1e-9 * m * largest)


def scipys(cost: Tensor) -> float:
    entries = cost.double().numpy()
    scale = max(1.0, float(np.abs(entries).max()))  # scipy overflows sooner than we do
    return float(entries[linear_sum_assignment(entries / scale)].sum())


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("name", COSTS)
def test_the_best_of_all_permutations(name: str) -> None:
    for m in range(1, 7):
        cost = COSTS[name](m)
        best = min(
            float(cost[torch.arange(m), list(order)].sum())
            for order in itertools.permutations(range(m))
        )
        check(cost, assign(cost), best)


def test_the_best_of_5040_permutations() -> None:
    orders = torch.tensor(list(itertools.permutations(range(7))))
    for seed in range(10):
        cost = normal(7, 7, seed=seed)
        check(cost, assign(cost), float(cost[torch.arange(7), orders].sum(1).min()))


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", COSTS)
def test_the_objective_is_scipys(name: str, dtype: torch.dtype) -> None:
    if name == "huge" and dtype == torch.float32:
        pytest.skip("has no such numbers")
    for m in SIZES:
        cost = COSTS[name](m).to(dtype)
        check(cost, assign(cost), scipys(cost))


def forbidden(m: int, cost: float, seed: int = 0) -> Tensor:
    """Three or four allowed pairs per row, some permutation of them among these."""
    rng = np.random.default_rng((m, seed))
    allowed = np.zeros((m, m), bool)
    for _ in range(3):
        allowed[np.arange(m), rng.permutation(m)] = True
    allowed[:, 0] = False
    allowed[m // 2, [0, 1]] = True
    allowed[(m // 2 + 1) % m] = True
    return torch.from_numpy(np.where(allowed, rng.random((m, m)), cost))


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("cost", [1e8, 1e12, 1e15, 1e18, 1e300])
def test_huge_costs_of_forbidden_pairs_do_not_blur_the_others(cost: float) -> None:
    for m in (20, 50, 130, 300):
        for seed in range(3):
            costs = forbidden(m, cost, seed)
            i, j = linear_sum_assignment(costs.numpy())
            best = float(costs.numpy()[i, j].sum())
            assert best < m
            for got in (assign(costs), assign(costs, start=1e17 * normal(m))):
                assert float(got.objective) == pytest.approx(best, rel=1e-12)
                assert float(got.gap + m * got.violation) <= 1e-9 * best


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("size", [1e3, 1e9, 1e12, 1e17, 1e20, 1e299])
@pytest.mark.parametrize("m", [60, 270])
def test_a_start_of_another_magnitude_changes_no_objective(m: int, size: float) -> None:
    cost = normal(m, m).abs()
    best = scipys(cost)
    for start in (normal(m), torch.ones(m), torch.arange(m) == 0):
        got = assign(cost, start=size * start.double())
        assert float(got.objective) == pytest.approx(best, rel=1e-9)


def exactly(values: Tensor) -> list[Fraction]:
    return [Fraction(value) for value in values.tolist()]


@pytest.mark.parametrize("name", [*COSTS, "forbidden"])
def test_the_proof_holds_in_exact_arithmetic(name: str) -> None:
    m = 21
    cost = forbidden(m, 1e18) if name == "forbidden" else COSTS[name](m)
    got = assign(cost)
    u, v, rows = exactly(got.u), exactly(got.v), [exactly(row) for row in cost]
    worst = max(u[i] + v[j] - rows[i][j] for i in range(m) for j in range(m))
    # Rounded as a difference, and as a sum of it and what u + v had lost; nothing if positive.
    assert max(worst, Fraction(0)) == pytest.approx(float(got.violation), rel=4 * EPS, abs=0)
    slacks = [rows[i][j] - u[i] - v[j] for i, j in enumerate(got.perm.tolist())]
    size = float(sum(abs(slack) for slack in slacks))
    assert_close(got.gap, float(sum(slacks)), (m + 4) * EPS * size, "gap")


def test_the_objective_is_the_references() -> None:
    for m in (1, 2, 20, 40):
        cost = COSTS["trained neurons"](m)
        perm, v = reference.assign(cost.numpy())
        check(cost, assign(cost), float(cost[torch.arange(m), torch.from_numpy(perm)].sum()))
        _, gap, violation = reference.certificate(cost.numpy(), perm, v)
        assert max(abs(gap), violation) <= EPS * m * m


def test_columns_in_an_order_that_fills_one_group_of_a_list() -> None:
    # The cheapest columns of all rows are those whose number is 5 modulo 64.
    m = 64 * 60
    cost = normal(1, m).abs().expand(m, m).clone()
    cost[:, 5::64] = 0.01 * normal(m, 60).abs()
    cost += 1e-3 * normal(m, m, seed=3).abs()
    got = assign(cost)
    check(cost, got, float(got.objective))


def test_a_wrong_permutation_shows_in_its_gap() -> None:
    cost = COSTS["Gaussian neurons"](30)
    got = assign(cost)
    perm = got.perm.clone()
    perm[[3, 4]] = perm[[4, 3]]
    worse = float(cost[torch.arange(30), perm].sum() - got.objective)
    u, gap, _ = reference.certificate(cost.numpy(), perm.numpy(), got.v.numpy())
    assert gap == pytest.approx(worse, rel=1e-9)
    assert worse > 1e-3
    assert_close(torch.from_numpy(u), got.u, 0)


@pytest.mark.parametrize("shape", [(0, 5, 5), (4, 0, 0), (0, 0, 0), (0, 0), (3, 1, 1), (1, 1)])
def test_empty_and_single(shape: tuple[int, ...]) -> None:
    got = assign(torch.full(shape, 2.5))
    assert got.perm.shape == got.u.shape == got.v.shape == shape[:-1]
    assert got.objective.shape == got.gap.shape == got.violation.shape == shape[:-2]
    assert (got.objective == 2.5 * shape[-1]).all()
    assert (got.perm == 0).all()


def equal(one: Assignment, other: Assignment) -> bool:
    return all(
        torch.equal(s, t) for s, t in zip(vars(one).values(), vars(other).values(), strict=True)
    )


@pytest.mark.parametrize("m", [1, 40, 200, 300])
def test_bits_depend_neither_on_threads_nor_on_the_other_problems(m: int) -> None:
    costs = torch.stack([make(m).clamp(-1e9, 1e9) for make in COSTS.values()])
    together = assign(costs, threads=1)
    for threads in (2, 3, 5):
        assert equal(assign(costs, threads=threads), together)
    for p, cost in enumerate(costs):
        alone = assign(cost, threads=2)
        assert equal(alone, Assignment(*(t[p] for t in vars(together).values())))


def test_bits_of_a_big_problem_do_not_depend_on_threads() -> None:
    cost = COSTS["trained neurons"](1100)
    assert equal(assign(cost, threads=1), assign(cost, threads=3))


def test_strided_inputs_are_read_as_torch_reads_them() -> None:
    cost = normal(40, 40, 3, seed=5)
    for view in (cost[:, :, 1], cost[:, :, 0].T, cost[::2, ::2, 2], cost[:, :, 1].flip(0)):
        assert equal(assign(view), assign(view.contiguous()))


@pytest.mark.parametrize("m", [65, 270])
def test_a_start_changes_no_objective(m: int) -> None:
    for name in COSTS.keys() - {"huge"}:
        cost = COSTS[name](m)
        best = assign(cost)
        scale = float(cost.abs().max())
        for start in (best.v, 0 * best.v, scale * normal(m), 1e3 * scale * normal(m, seed=1)):
            got = assign(cost, start=start)
            check(cost, got, float(best.objective), magnitude=1e4 * scale)


@pytest.mark.parametrize("m", [20, 260])
def test_starts_of_a_stack_are_each_problems_own(m: int) -> None:
    costs = torch.stack([normal(m, m, seed=seed) for seed in range(3)])
    starts = normal(3, m, seed=9)
    together = assign(costs, start=starts)
    for p in range(3):
        alone = assign(costs[p], start=starts[p])
        assert equal(alone, Assignment(*(t[p] for t in vars(together).values())))


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factors_give_what_their_product_gives(dtype: torch.dtype) -> None:
    for m, d in [(1, 3), (2, 1), (9, 0), (63, 4), (70, 10), (130, 2), (257, 4), (300, 17)]:
        a, b = normal(m, d).to(dtype), normal(m, d, seed=1).to(dtype)
        got = assign_factors(a, b)
        cost = -(a.double() @ b.double().T)
        check(cost, got, scipys(cost))


def test_factors_of_dead_neurons_and_of_stacks() -> None:
    a, b = (torch.stack([trained_neurons(280, 2 * s + k) for s in range(3)]) for k in (0, 1))
    together = assign_factors(a, b, threads=2)
    for p in range(3):
        check(-a[p] @ b[p].T, assign_factors(a[p], b[p]), scipys(-a[p] @ b[p].T))
        alone = assign_factors(a[p], b[p], start=None)
        assert equal(alone, Assignment(*(t[p] for t in vars(together).values())))


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 2e300])
def test_costs_that_are_no_numbers_are_refused(bad: float) -> None:
    for m, at in [(3, (1, 0, 2)), (70, (0, 69, 69)), (300, (1, 250, 17))]:
        costs = torch.zeros(2, m, m, dtype=torch.float64)
        costs[at] = bad
        where = ", ".join(map(str, at))
        with pytest.raises(ValueError, match=rf"cost must be finite.*got .* at \[{where}\]"):
            assign(costs)
    with pytest.raises(ValueError, match=r"start must be finite.*at \[0, 2\]"):
        assign(torch.zeros(3, 3), start=torch.tensor([0.0, 1.0, bad], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"b must be finite.*at \[0, 1, 0\]"):
        assign_factors(
            torch.zeros(2, 1).double(), torch.tensor([[0.0], [bad]], dtype=torch.float64)
        )


def test_the_remedy_is_for_the_argument() -> None:
    nan, zeros = torch.tensor([[torch.nan]]), torch.zeros(1, 1)
    for call, remedy in (
        (lambda: assign(nan), r"nan at \[0, 0, 0\]\. Forbid a pair by a cost that is large"),
        (lambda: assign(zeros, start=nan[0]), r"start .*\. Take the v of a problem that is solved"),
        (lambda: assign_factors(nan, zeros), r"a must .*\. Look for what made it"),
        (lambda: assign(1e306 * zeros.double() + 1e306), r"at \[0, 0, 0\]\. Scale it down"),
    ):
        with pytest.raises(ValueError, match=remedy):
            call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: assign(torch.zeros(3, 4)), ValueError, r"square.*got \(3, 4\).*Pad"),
        (lambda: assign(torch.zeros(3)), ValueError, r"\(P, m, m\) or \(m, m\); got \(3,\)"),
        (lambda: assign(torch.zeros(3, 3).int()), TypeError, "cost must be float32 or float64"),
        (lambda: assign(np.zeros((3, 3))), TypeError, "got ndarray.*torch.as_tensor"),
        (lambda: assign(torch.zeros(3, 3, device="meta")), ValueError, "on the CPU; got meta"),
        (lambda: assign(torch.zeros(3, 3), torch.zeros(4)), ValueError, r"\(3,\).*got \(4,\)"),
        (lambda: assign(torch.zeros(2, 3, 3), torch.zeros(3)), ValueError, r"\(2, 3\).*got \(3,\)"),
        (lambda: assign(torch.zeros(3, 3), threads=0), ValueError, "threads"),
        (
            lambda: assign_factors(torch.zeros(3, 2), torch.zeros(4, 2)),
            ValueError,
            "b must have a's shape",
        ),
        (
            lambda: assign_factors(torch.zeros(3, 2), torch.zeros(3, 2).double()),
            ValueError,
            "and dtype",
        ),
    ],
)
def test_bad_arguments(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_ctrl_c_stops_a_long_solve_within_a_second() -> None:
    # Of rank one, which is the worst case: minutes.
    script = """
import torch, lmc_fast
g = torch.Generator().manual_seed(0)
a, b = (torch.rand(6000, 1, generator=g) for _ in range(2))
print("started", flush=True)
try:
    lmc_fast.assign_factors(a, b, threads=2)
except KeyboardInterrupt:
    print("interrupted", int(lmc_fast.assign(torch.eye(2)).objective), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            time.sleep(1.0)
            assert process.poll() is None
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted 0\n"
            assert time.monotonic() - sent < 1.0
            assert process.wait(30) == 0
        finally:
            process.kill()
