# SPDX-License-Identifier: MIT
"""Learning-rate study: sparsity and barrier up to the step size at which training diverges.

The experiment described in the paper (arXiv 2503.06001); every setting is a parameter. The
divergence threshold is found first, from a calm run whose sharpness lambda puts the edge of
stability at 2 / lambda, and the grid is placed in units of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch.linalg import vector_norm

from .config import LearningRateConfig
from .device import CPU
from .errors import StudyError
from .store import Probe
from .tasks import make_task

_MOST_STEPS = 60
# Students that neither learn nor move by this share of their weights train too little.
_HARDLY = 0.01
# Factors by which the bracket grows with and without an estimate of the edge.
_NEAR, _FAR = 1.2, 2.0


class Bracket(NamedTuple):
    """The divergence threshold lies between two step sizes."""

    low: float
    high: float

    @property
    def threshold(self) -> float:
        """Geometric mean of the two ends."""
        return math.sqrt(self.low * self.high)

    def within(self, config: LearningRateConfig) -> bool:
        """Whether it is as tight as ``bracket_tolerance`` asks for."""
        return (self.high - self.low) / self.high <= config.bracket_tolerance


@dataclass(frozen=True)
class ProbeTask:
    """One step size to try, as a picklable unit of work for :func:`run_probe`."""

    config: LearningRateConfig
    lr: float
    threads: int | None = None
    data_dir: Path | None = None
    device: torch.device = CPU


def run_probe(work: ProbeTask) -> Probe:
    """Train ``bracket_students`` students at one step size; count those that fail.

    Raises
    ------
    StudyError
        No student learnt, and none moved: a smaller step size would be of no use.
    """
    begun = time.perf_counter()
    config = work.config
    task = make_task(config, work.data_dir, work.device)
    seeds = range(config.first_seed, config.first_seed + config.bracket_students)
    trained = task.train(seeds, config.width, work.lr, work.threads)
    sound = ~trained.failed
    if not bool(sound.any() | trained.diverged.any()):
        begun_at = task.start(seeds, config.width).w1
        moved = vector_norm(trained.weights.w1 - begun_at) / vector_norm(begun_at)
        if moved < _HARDLY:
            raise StudyError(
                f"no student learnt anything with steps = {config.steps} at lr = {work.lr:.3g}, "
                f"nor diverged: they moved by {float(moved):.1%} only; raise steps or pilot_lr"
            )
    curvature = task.sharpness(trained.take(sound)) if bool(sound.any()) else None
    return Probe(
        lr=work.lr,
        students=len(seeds),
        diverged=int(trained.failed.sum()),
        sharpness=None if curvature is None else float(torch.median(curvature)),
        seconds=time.perf_counter() - begun,
    )


def bracket_of(probes: Sequence[Probe], share: float) -> Bracket | None:
    """Tightest bracket that the probes tried so far give; None while one end is open.

    Parameters
    ----------
    probes : sequence of Probe
    share : float
        A step size is above the threshold when at least this share of its students diverge.
    """
    above = [probe.lr for probe in probes if _diverges(probe, share)]
    below = [probe.lr for probe in probes if not _diverges(probe, share)]
    below = [lr for lr in below if not above or lr < min(above)]
    return Bracket(max(below), min(above)) if above and below else None


def edge_of_stability(probes: Sequence[Probe]) -> float | None:
    """2 / sharpness of the calmest students tried: above it their minima are not stable.

    Gradient descent then finds other minima, with fewer alive neurons, up to the divergence
    threshold. None where no sharpness is known.
    """
    calmest = min(probes, key=lambda probe: probe.lr, default=None)
    return 2 / calmest.sharpness if calmest is not None and calmest.sharpness else None


def find_threshold(
    config: LearningRateConfig, known: Sequence[Probe], probe: Callable[[float], Probe]
) -> Bracket:
    """Bracket the divergence threshold to ``bracket_tolerance`` of its upper end.

    Parameters
    ----------
    config : LearningRateConfig
    known : sequence of Probe
        Tried before; none is tried again.
    probe : callable
        Tries one step size.

    Raises
    ------
    StudyError
        Every step size tried diverges, none does, or students learn nothing.
    """
    share = config.diverged_share
    tried = {found.lr: found for found in known}

    def diverges(lr: float) -> bool:
        if lr not in tried:
            tried[lr] = probe(lr)
        return _diverges(tried[lr], share)

    low = config.first_lr()
    high = low
    for _ in range(_MOST_STEPS):
        if not diverges(low):
            break
        low, high = low / 2, low
    else:
        raise StudyError(
            f"students diverge at every step size from {config.first_lr():.3g} down to {low:.3g}: "
            "lower pilot_lr, or check the problem"
        )
    if high == low:
        calm = tried[low].sharpness
        # 2 / lambda is where gradient descent on a quadratic of that curvature stops converging:
        # with it the threshold is near, without it anywhere above.
        high = max(_NEAR * low, 2 / calm) if calm else _FAR * low
        factor = _NEAR if calm else _FAR
        while diverges(high) and high / factor > low:
            if not diverges(high / factor):
                low = high / factor
                break
            high /= factor
        for _ in range(_MOST_STEPS):
            if diverges(high):
                break
            low, high = high, factor * high
        else:
            raise StudyError(
                f"no step size up to {high:.3g} makes at least {share:.0%} of the students "
                "diverge: raise pilot_lr or steps"
            )
    while not Bracket(low, high).within(config):
        middle = math.sqrt(low * high)
        if diverges(middle):
            high = middle
        else:
            low = middle
    return Bracket(low, high)


def settings(config: LearningRateConfig, bracket: Bracket) -> list[tuple[int, float]]:
    """Width and step size of every group of cells: the grid in units of the threshold."""
    return [(config.width, bracket.threshold * multiple) for multiple in config.grid]


def _diverges(probe: Probe, share: float) -> bool:
    return probe.diverged >= share * probe.students
