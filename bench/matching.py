# SPDX-License-Identifier: MIT
"""Matching P pairs of networks against a loop over cost matrices with scipy's and lapx's solvers.

Costs included; ``bench/assignment.py`` times the solvers alone.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import lmc_fast

from .timer import OURS, Case

try:
    import lap
except ImportError:
    lap = None

SIZES = [(256, 40, 10), (16, 256, 64), (1, 1500, 784)]  # P, m, d

Solver = Callable[[np.ndarray], np.ndarray]


def why_skipped() -> str | None:
    """Return the reason why lapx takes no part, or None when it does."""
    return None if lap else "lapx is not installed: pip install 'lmc_fast[bench]'"


def cases(quick: bool) -> Iterator[Case]:
    """Rows of this op, all or the quick one."""
    for size in SIZES[:1] if quick else SIZES:
        yield _case(*size)


def _scipy(cost: np.ndarray) -> np.ndarray:
    return linear_sum_assignment(cost)[1]


def _lapx(cost: np.ndarray) -> np.ndarray:
    return lap.lapjv(cost, return_cost=False)[0].astype(np.int64)


def _loop(a: Tensor, b: Tensor, solve: Solver) -> Tensor:
    """The weight matching of Git Re-Basin, a pair at a time."""
    return torch.stack(
        [torch.from_numpy(solve(-(p @ q.T).numpy())) for p, q in zip(a, b, strict=True)]
    )


def _case(P: int, m: int, d: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(P, m, d, generator=generator, dtype=torch.float64) for _ in range(2))
    solvers: dict[str, Solver] = {"loop, scipy": _scipy} | ({"loop, lapx": _lapx} if lap else {})

    def ours() -> Tensor:
        return lmc_fast.match(a, b, cost="weights").perm

    def loop(solve: Solver) -> Callable[[], Tensor]:
        return lambda: _loop(a, b, solve)

    loops = {name: loop(solve) for name, solve in solvers.items()}

    def verify() -> None:
        def inner(perm: Tensor) -> Tensor:
            return (a * b.gather(1, perm[:, :, None].expand(b.shape))).sum((1, 2))

        for call in loops.values():
            torch.testing.assert_close(inner(ours()), inner(call()), rtol=1e-9, atol=0.0)

    return Case("matching", f"weights P={P} m={m} d={d} float64", {OURS: ours, **loops}, verify)
