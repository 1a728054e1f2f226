# SPDX-License-Identifier: MIT
"""The one timer: verify first, then time all contestants of a case in turn, round after round."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.utils.benchmark import Timer

OURS = "lmc_fast"


@dataclass
class Case:
    """One row: what is computed, by whom, and how its result is verified.

    Attributes
    ----------
    op, size : str
        Which op, and the sizes as printed.
    contestants : dict of str to callable
        The first is ours, the others are baselines; each does the same work.
    verify : callable
        Raises AssertionError unless our result is right (against the float64 reference).
    work : float, optional
        Floating-point operations of one call, when that is a meaningful count.
    quick : bool
        Whether ``--quick`` runs it.
    """

    op: str
    size: str
    contestants: dict[str, Callable[[], Any]]
    verify: Callable[[], None]
    work: float | None = None
    quick: bool = True


@dataclass
class Row:
    """Seconds per call of each contestant: median, and the quartiles as spread."""

    op: str
    size: str
    threads: int
    median_s: dict[str, float]
    quartiles_s: dict[str, tuple[float, float]]
    rounds: int
    gflops: float | None
    ratio: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON file."""
        return asdict(self)


def run(case: Case, threads: int, rounds: int) -> Row:
    """Verify ``case``, warm up, and time its contestants interleaved."""
    torch.set_num_threads(threads)
    case.verify()
    timers = {
        name: Timer("call()", globals={"call": call}, num_threads=threads)
        for name, call in case.contestants.items()
    }
    # Short calls are repeated within a round, so that one round takes about 20 ms.
    repeats = {}
    for name, timer in timers.items():
        timer.timeit(1)
        repeats[name] = max(1, int(0.02 / max(timer.timeit(1).mean, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            seconds[name].append(timer.timeit(repeats[name]).mean)
    median = {name: statistics.median(s) for name, s in seconds.items()}
    quartiles = {}
    for name, s in seconds.items():
        low, _, high = statistics.quantiles(s, n=4, method="inclusive")
        quartiles[name] = (low, high)
    ours = median[OURS]
    return Row(
        case.op,
        case.size,
        threads,
        median,
        quartiles,
        rounds,
        None if case.work is None else case.work / ours / 1e9,
        {name: m / ours for name, m in median.items() if name != OURS},
    )
