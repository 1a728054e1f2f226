# SPDX-License-Identifier: MIT
"""Rows of a store, grouped by width and step size: what tables and plots show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np

from . import width
from .cells import SIDES, column, splits_of
from .config import LearningRateConfig, StudyConfig, TeacherProblem, WidthConfig
from .errors import StoreError
from .learning_rate import Bracket, bracket_of, edge_of_stability
from .presets import config_from_json
from .statistics import (
    ROUNDING,
    Array,
    Interval,
    Peak,
    highest_mean,
    mean_interval,
)
from .store import Row, Store
from .tail import TailFit, bent_tail, tail_fit


@dataclass(frozen=True)
class Group:
    """All pairs of one width and step size.

    Attributes
    ----------
    width, lr
        m and the step size.
    pairs : int
        Pairs with a row.
    sound : list of Row
        What means are taken over: pairs without a failed student, and in a width study without one
        that is stuck.
    failed : int
        Students that diverged or ended no better than the zero network.
    stuck : int
        Other students at least as wide as the teacher that did not reach ``converged_loss``.
    """

    width: int
    lr: float
    rows: list[Row]
    sound: list[Row]
    failed: int
    stuck: int

    @property
    def pairs(self) -> int:
        """Pairs with a row."""
        return len(self.rows)

    @property
    def students(self) -> int:
        """Students with a row."""
        return 2 * len(self.rows)

    def values(self, quantity: str, matching: str, split: str) -> Array:
        """A measurement of every sound pair, (P,)."""
        return _numbers(self.sound, column(quantity, matching, split))

    def student_values(self, name: str) -> Array:
        """A measurement of every sound student, also those whose partner failed."""
        parts = []
        for side in SIDES:
            kept = [row for row in self.rows if not row[f"failed_{side}"]]
            parts.append(_numbers(kept, f"{name}_{side}"))
        return np.concatenate(parts)

    def edge(self) -> Array:
        """lr x sharpness / 2 of every sound student: 1 at the edge of stability."""
        return self.lr * self.student_values("sharpness") / 2

    def barrier(self, matching: str, split: str) -> Interval:
        """Mean barrier over sound pairs, with its bootstrap interval."""
        return mean_interval(self.values("barrier", matching, split))

    def median(self, matching: str, split: str) -> float:
        """Median barrier over sound pairs, NaN without any: far below a mean that few carry."""
        values = self.values("barrier", matching, split)
        return float(np.median(values)) if len(values) else np.nan


class Extremes(NamedTuple):
    """Smallest and largest value of a ratio over the widths, and where they are taken."""

    low: float
    low_width: int
    high: float
    high_width: int


@dataclass(frozen=True)
class Summary:
    """A study as its store tells it.

    ``bracket`` holds the divergence threshold and ``edge`` is the edge of stability, both step
    sizes of a learning-rate study; None in a width study, or while unknown.
    """

    config: WidthConfig | LearningRateConfig
    groups: list[Group]
    bracket: Bracket | None
    edge: float | None

    @property
    def splits(self) -> tuple[str, ...]:
        """Where losses are measured; the first is the one that is trained on."""
        return splits_of(self.config)

    @property
    def rows(self) -> list[Row]:
        """All pairs with a row."""
        return [row for group in self.groups for row in group.rows]

    @property
    def failed(self) -> int:
        """Students that diverged or ended no better than the zero network."""
        return sum(group.failed for group in self.groups)

    @property
    def stuck(self) -> int:
        """Sound students that did not converge, see :class:`Group`."""
        return sum(group.stuck for group in self.groups)

    @property
    def students(self) -> int:
        """Students with a row."""
        return sum(group.students for group in self.groups)

    def best_matching(self) -> str:
        """The matching to show where there is room for one."""
        for name in ("gap", "weights", "activations"):
            if name in self.config.matchings:
                return name
        return self.config.matchings[0]

    def median_of(self) -> str | None:
        """The matching whose medians are shown beside means: few pairs may carry a teacher's."""
        teacher = isinstance(self.config.problem, TeacherProblem)
        wide = isinstance(self.config, WidthConfig)
        return self.best_matching() if teacher and wide else None

    def tail(self, matching: str, split: str) -> TailFit | None:
        """Power law fitted to the mean barrier of a width study's wide students."""
        found = self._tail(matching, split)
        return None if found is None else tail_fit(*found)

    def bent_tail(self, matching: str, split: str) -> tuple[TailFit, TailFit] | None:
        """Power laws of both halves of that tail, where one does not fit it."""
        found = self._tail(matching, split)
        return None if found is None else bent_tail(*found)

    def _tail(self, matching: str, split: str) -> tuple[list[int], list[Array], int] | None:
        """Widths, barriers, and the width from which the tail is fitted."""
        if not isinstance(self.config, WidthConfig):
            return None
        widths, samples = self._barriers(matching, split)
        if not widths:
            return None
        heights = np.array([np.mean(values) for values in samples])
        return widths, samples, width.tail_start(self.config, np.array(widths), heights)

    def peak(self, matching: str, split: str) -> Peak | None:
        """Where a width study's mean barrier is highest: with a teacher, beyond m = M."""
        if not isinstance(self.config, WidthConfig):
            return None
        return highest_mean(*self._barriers(matching, split), width.peak_start(self.config))

    def _barriers(self, matching: str, split: str) -> tuple[list[int], list[Array]]:
        """Every width with a sound pair, and its barriers."""
        kept = [group for group in self.groups if group.sound]
        samples = [group.values("barrier", matching, split) for group in kept]
        return [group.width for group in kept], samples

    def matcher_gain(self, name: str, split: str) -> Extremes | None:
        """Mean barrier of a matching over that of the best; beyond m = M with a teacher."""
        return self._extremes(
            lambda group: (
                group.barrier(name, split).value / group.barrier(self.best_matching(), split).value
            )
        )

    def residual(self) -> Extremes | None:
        """Median endpoint loss over the mean matched barrier; beyond m = M, with a teacher."""
        if not isinstance(self.config.problem, TeacherProblem):
            return None
        best, split = self.best_matching(), self.splits[0]
        return self._extremes(
            lambda group: (
                float(np.median(group.student_values("loss"))) / group.barrier(best, split).value
            )
        )

    def _extremes(self, ratio: Callable[[Group], float]) -> Extremes | None:
        if not isinstance(self.config, WidthConfig):
            return None
        first, best = width.peak_start(self.config), self.best_matching()
        kept = [
            group
            for group in self.groups
            if group.width >= first and group.barrier(best, self.splits[-1]).value > ROUNDING
        ]
        if not kept:
            return None
        found = sorted((ratio(group), group.width) for group in kept)
        return Extremes(*found[0], *found[-1])


def pair_counts(groups: Sequence[Group]) -> str:
    """Pairs with a row of each group: ``64``, or ``12 to 64`` where they differ."""
    counts = [group.pairs for group in groups]
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def fate_of_stuck(summary: Summary) -> str:
    """What becomes of students that did not converge, in words."""
    return "their pairs too" if isinstance(summary.config, WidthConfig) else "kept"


def summarise(store: Store) -> Summary:
    """Group the rows of a store.

    Raises
    ------
    StoreError
        The store has no finished cell yet, or is a theory or depth study's.
    """
    config = config_from_json(store.config_text)
    if not isinstance(config, WidthConfig | LearningRateConfig):
        raise store.not_of("a study of trained students")
    rows = store.rows()
    if not rows:
        raise StoreError(f"{store.folder} has no finished cell yet: run the study first")

    def setting(row: Row) -> tuple[int, float]:
        return int(row["width"] or 0), float(row["lr"] or 0)

    # The store's order is by width and step size already.
    groups = [_group(config, m, lr, list(part)) for (m, lr), part in groupby(rows, setting)]
    probes = store.probes()
    share = config.diverged_share if isinstance(config, LearningRateConfig) else 1.0
    return Summary(config, groups, bracket_of(probes, share), edge_of_stability(probes))


def _group(config: StudyConfig, m: int, lr: float, rows: list[Row]) -> Group:
    problem = config.problem
    least = np.inf
    if isinstance(problem, TeacherProblem) and m >= problem.teacher_width:
        least = problem.converged_loss

    def failed(row: Row, side: str) -> bool:
        return bool(row[f"failed_{side}"])

    def stuck(row: Row, side: str) -> bool:
        return not failed(row, side) and float(row[f"loss_{side}"] or 0) > least

    def left_out(row: Row) -> bool:
        # With the step size, how far students get is what is studied.
        lost = any(stuck(row, side) for side in SIDES) and isinstance(config, WidthConfig)
        return lost or any(failed(row, side) for side in SIDES)

    def count(what: Callable[[Row, str], bool]) -> int:
        return sum(what(row, side) for row in rows for side in SIDES)

    sound = [row for row in rows if not left_out(row)]
    return Group(m, lr, rows, sound, count(failed), count(stuck))


def _numbers(rows: Sequence[Row], name: str) -> Array:
    found = [row[name] for row in rows if row[name] is not None]
    return np.array(found, dtype=np.float64)
