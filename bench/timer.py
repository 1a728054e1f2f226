# SPDX-License-Identifier: MIT
"""The one timer: verify first, then time all contestants of a case in turn, round after round."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.utils.benchmark import Timer

OURS = "lmc_fast"
SECONDS = 6.0  # of measured time after which a contestant sits out the rest of a case


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
    dtype : torch.dtype
        In which ``work`` is done.
    quick : bool
        Whether ``--quick`` runs it.
    share : dict of str to float, optional
        The fraction of the work that a contestant does, where its time is linear in the work and
        all of it would take minutes. Its times are divided by it, and its name says so.
    """

    op: str
    size: str
    contestants: dict[str, Callable[[], Any]]
    verify: Callable[[], None]
    work: float | None = None
    dtype: torch.dtype = torch.float32
    quick: bool = True
    share: dict[str, float] = field(default_factory=dict)


@dataclass
class Row:
    """Seconds per call of each contestant: median over its rounds, and quartiles as spread."""

    op: str
    size: str
    threads: int
    median_s: dict[str, float]
    quartiles_s: dict[str, tuple[float, float]]
    rounds: dict[str, int]
    gflops: float | None
    ceiling_share: float | None
    ratio: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return what goes into the JSON file."""
        return asdict(self)


def run(case: Case, threads: int, rounds: int, ceilings: dict[str, float]) -> Row:
    """Verify ``case``, warm up, and time its contestants interleaved."""
    case.verify()
    timers = {
        name: Timer("call()", globals={"call": call}, num_threads=threads)
        for name, call in case.contestants.items()
    }
    # The first call warms up. Short calls are repeated within a round, so that one round takes
    # about 20 ms. Long ones take part in fewer rounds, for SECONDS in all, and those of more than
    # a second are not held up by a warm-up.
    repeats, seconds = {}, {}
    for name, timer in timers.items():
        first = timer.timeit(1).mean
        seconds[name] = [first] if first > 1 else []
        repeats[name] = 1 if first > 1 else max(1, int(0.02 / max(timer.timeit(1).mean, 1e-7)))
    for _ in range(rounds):
        for name, repeat in repeats.items():
            if sum(seconds[name]) < SECONDS:
                seconds[name].append(timers[name].timeit(repeat).mean)
    for name, share in case.share.items():
        seconds[name] = [s / share for s in seconds[name]]
    median = {name: statistics.median(s) for name, s in seconds.items()}
    quartiles = {}
    for name, s in seconds.items():
        low, _, high = statistics.quantiles(s, n=4, method="inclusive") if s[1:] else s * 3
        quartiles[name] = (low, high)
    ours = median[OURS]
    gflops = None if case.work is None else case.work / ours / 1e9
    ceiling = ceilings[f"{str(case.dtype)[6:]}_gflops"]
    return Row(
        case.op,
        case.size,
        threads,
        median,
        quartiles,
        {name: len(s) for name, s in seconds.items()},
        gflops,
        None if gflops is None else gflops / ceiling,
        {name: m / ours for name, m in median.items() if name != OURS},
    )
