# SPDX-License-Identifier: MIT
"""The one timer: verify first, then time all contestants of a case in turn, round after round."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import sleep
from timeit import timeit
from typing import Any

import torch
from torch.utils.benchmark import timer

OURS = "lmc_fast"
SECONDS = 3.0  # sum of seconds per call after which a contestant sits out the rest of a case
SETTLE = 0.05  # seconds in which the threads of the one before (JAX's) give its memory back
WARM = 0.5  # seconds of a call that needs no other to warm it up


@dataclass
class Case:
    """One row: what is computed, by whom, and how its result is verified.

    Attributes
    ----------
    op, size : str
        Which op, and the sizes as printed.
    contestants : dict of str to callable
        The first is OURS. Names that begin with it and a comma are ours under other conditions,
        the others are baselines. Each does the same work.
    verify : callable
        Raises AssertionError unless our result is right (against the float64 reference).
    work : float, optional
        Floating-point operations of one call, when that is a meaningful count.
    dtype : torch.dtype
        In which ``work`` is done.
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


def interleaved(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Let the contestants take turns; seconds per call in each round of each.

    By the clock of ``torch.utils.benchmark``; its ``Timer`` would make two more calls before every
    one that it times, which trebles the time of a slow baseline.
    """
    # Every call is warmed up by one before it (the caches are another's), but for those of more
    # than WARM. Short ones are repeated within a round, so that a round takes about 20 ms; long
    # ones take part in fewer rounds, for SECONDS in all.
    repeats, seconds = {}, {}
    for name, call in contestants.items():
        first = _seconds_per_call(call)
        seconds[name] = [first] if first > WARM else []
        repeats[name] = 1 if first > WARM else max(1, int(0.02 / _seconds_per_call(call)))
    slow = {name for name, known in seconds.items() if known}
    for _ in range(rounds):
        for name, call in contestants.items():
            if sum(seconds[name]) < SECONDS:
                if len(contestants) > 1:
                    sleep(SETTLE)
                if name not in slow:
                    call()
                seconds[name].append(_seconds_per_call(call, repeats[name]))
    return seconds


def _seconds_per_call(call: Callable[[], Any], number: int = 1) -> float:
    return max(timeit(call, timer=timer, number=number) / number, 1e-7)


def quartiles(seconds: list[float]) -> tuple[float, float]:
    """Lower and upper quartile."""
    if len(seconds) == 1:
        return seconds[0], seconds[0]
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, high


def run(case: Case, rounds: int, ceilings: dict[str, float]) -> Row:
    """Verify ``case`` and time its contestants interleaved."""
    case.verify()
    seconds = interleaved(case.contestants, rounds)
    for name, share in case.share.items():
        seconds[name] = [s / share for s in seconds[name]]
    median = {name: statistics.median(s) for name, s in seconds.items()}
    ours = median[OURS]
    gflops = None if case.work is None else case.work / ours / 1e9
    ceiling = ceilings[f"{str(case.dtype)[6:]}_gflops"]
    return Row(
        case.op,
        case.size,
        torch.get_num_threads(),
        median,
        {name: quartiles(s) for name, s in seconds.items()},
        {name: len(s) for name, s in seconds.items()},
        gflops,
        None if gflops is None else gflops / ceiling,
        {name: m / ours for name, m in median.items() if name != OURS},
    )
