# SPDX-License-Identifier: MIT
"""Assignment alone, costs given, against scipy's solver and those of lapx."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import lmc_fast
from lmc_fast.deficit_cost import gap_cost

from .timer import OURS, Case

try:
    import lap
except ImportError:
    lap = None

Solver = Callable[[np.ndarray], np.ndarray]


def trained_neurons(m: int, seed: int) -> Tensor:
    """(m, 10) float64, like those of trained students.

    Dirichlet shares of a teacher's five orthonormal neurons, noise of 1e-3, a tenth of them dead.
    """
    rng = np.random.default_rng(seed)
    kind, share = rng.integers(5, size=m), rng.standard_gamma(1.0, m)
    alive = rng.random(m) >= 0.1
    share *= alive
    share /= np.maximum(np.bincount(kind, share, 5)[kind], 1e-300)
    noise = 1e-3 * rng.normal(size=(m, 10))
    return torch.from_numpy((share[:, None] * np.eye(5, 10)[kind] + noise) * alive[:, None])


def gaussian_neurons(m: int, seed: int) -> Tensor:
    """(m, 64) float64."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(m, 64)))


def nearly_dead_neurons(m: int, seed: int) -> Tensor:
    """(m, 64) float64: Gaussian, but half of them a million times smaller."""
    small = np.random.default_rng([seed, 1]).random((m, 1)) < 0.5
    return gaussian_neurons(m, seed) * torch.from_numpy(np.where(small, 1e-6, 1.0))


def inner_product_cost(u: Tensor, v: Tensor) -> Tensor:
    """Of weight matching: (m, m)."""
    return -u @ v.T


NEURONS = {
    "trained": trained_neurons,
    "Gaussian": gaussian_neurons,
    "nearly dead": nearly_dead_neurons,
}
COSTS = {"weights": inner_product_cost, "gap": gap_cost}
SIZES = [(256, 256), (1, 1000), (1, 4000)]  # P, m


def cases(quick: bool) -> Iterator[Case]:
    """Rows of this op, all or the quick one."""
    for P, m in SIZES[1:2] if quick else SIZES:
        for neurons in NEURONS:
            for cost in COSTS:
                yield _case(neurons, cost, P, m)


def _scipy(cost: np.ndarray) -> np.ndarray:
    return linear_sum_assignment(cost)[1]


def _lapjv(cost: np.ndarray) -> np.ndarray:
    return lap.lapjv(cost, return_cost=False)[0].astype(np.int64)


def _lapjvs(cost: np.ndarray) -> np.ndarray:
    return np.asarray(lap.lapjvs(cost, return_cost=False)[0], dtype=np.int64)


def _case(neurons: str, cost: str, P: int, m: int) -> Case:
    make = NEURONS[neurons]
    costs = torch.stack([COSTS[cost](make(m, 2 * p), make(m, 2 * p + 1)) for p in range(P)])
    matrices = costs.numpy()
    solvers: dict[str, Solver] = {"scipy": _scipy}
    # lapx's solvers take minutes for wide matrices of nearly tied costs.
    if lap and (m <= 1000 or neurons == "Gaussian"):
        solvers |= {"lapx lapjv": _lapjv, "lapx lapjvs": _lapjvs}

    def loop(solve: Solver) -> Callable[[], np.ndarray]:
        return lambda: np.stack([solve(matrix) for matrix in matrices])

    def verify() -> None:
        ours = lmc_fast.assign(costs)
        scale = costs.abs().amax((1, 2)) * m
        assert (ours.gap.abs() + m * ours.violation <= 1e-9 * scale).all()
        perm = torch.from_numpy(loop(_scipy)())
        best = costs.gather(2, perm[:, :, None]).sum((1, 2))
        assert ((ours.objective - best).abs() <= 1e-9 * scale).all()

    narrow = costs.float()
    contestants = {
        OURS: lambda: lmc_fast.assign(costs),
        f"{OURS}, float32": lambda: lmc_fast.assign(narrow),
        **{name: loop(solve) for name, solve in solvers.items()},
    }
    return Case("assignment", f"{neurons} {cost} P={P} m={m} float64", contestants, verify)
