# SPDX-License-Identifier: MIT
"""Rows of a store, grouped by width and step size: what tables and plots show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from . import width
from .cells import SIDES, column, splits_of
from .config import LearningRateConfig, StudyConfig, TeacherProblem, TheoryConfig, WidthConfig
from .errors import StoreError
from .learning_rate import Bracket, bracket_of, edge_of_stability
from .presets import config_from_json
from .statistics import Array, Interval, TailFit, mean_interval, tail_fit
from .store import Row, Store


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
        Pairs without a failed student: what means are taken over.
    failed : int
        Students that diverged or ended no better than the zero network.
    stuck : int
        Sound students at least as wide as the teacher that did not reach ``converged_loss``.
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

    def tail(self, matching: str, split: str) -> TailFit | None:
        """Power law fitted to the mean barrier of a width study's wide students."""
        if not isinstance(self.config, WidthConfig):
            return None
        kept = [group for group in self.groups if group.sound]
        if not kept:
            return None
        widths = [group.width for group in kept]
        samples = [group.values("barrier", matching, split) for group in kept]
        heights = np.array([np.mean(values) for values in samples])
        first = width.tail_start(self.config, np.array(widths), heights)
        return tail_fit(widths, samples, first)


def summarise(store: Store) -> Summary:
    """Group the rows of a store.

    Raises
    ------
    StoreError
        The store has no finished cell yet, or is a theory study's.
    """
    config = config_from_json(store.config_text)
    if isinstance(config, TheoryConfig):
        raise StoreError(f"{store.folder} holds the study '{config.study}': use summarise_theory")
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
    sound = [row for row in rows if not any(row[f"failed_{side}"] for side in SIDES)]
    failed = sum(int(row[f"failed_{side}"] or 0) for row in rows for side in SIDES)
    group = Group(m, lr, rows, sound, failed, 0)
    problem = config.problem
    if not isinstance(problem, TeacherProblem) or m < problem.teacher_width:
        return group
    stuck = int(np.sum(group.student_values("loss") > problem.converged_loss))
    return Group(m, lr, rows, sound, failed, stuck)


def _numbers(rows: Sequence[Row], name: str) -> Array:
    found = [row[name] for row in rows if row[name] is not None]
    return np.array(found, dtype=np.float64)
