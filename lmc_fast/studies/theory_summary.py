# SPDX-License-Identifier: MIT
"""Rows of a theory study, grouped by width: what its table and figure show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from .config import GridConfig, LearningRateConfig, TheoryConfig, WidthConfig
from .errors import ConfigError, StoreError
from .presets import config_from_json
from .statistics import FEWEST, Array, Interval, mean_interval, share_interval
from .store import Row, Store
from .tail import TailFit, tail_fit
from .theory import column, problem_of

DENSE = 0.0
_SAME_RATE = 1e-9
_RATE_STEP = 0.02
# What the loss of a problem in closed form depends on, up to a rotation of the teacher.
_LOSS = ("data", "d", "teacher_width", "teacher_kind", "inputs", "radius")


@dataclass(frozen=True)
class TheoryGroup:
    """All pairs of one width."""

    width: int
    teacher_width: int
    rows: list[Row]

    def values(self, quantity: str, death: float) -> Array:
        """A measurement of every pair at one death rate, (P,)."""
        name = column(quantity, death)
        return np.array([row[name] for row in self.rows], dtype=np.float64)

    def mean(self, quantity: str, death: float) -> float:
        """Mean of a measurement over pairs."""
        return float(np.mean(self.values(quantity, death)))

    def barrier(self, death: float) -> Interval:
        """Mean barrier over pairs, with its bootstrap interval.

        Where few barriers are not zero, those few make the mean, and the bootstrap knows nothing of
        the larger ones that were not drawn: there is no interval then, and the certificate's says
        how rare they are.
        """
        values = self.values("barrier", death)
        found = mean_interval(values)
        if 0 < np.count_nonzero(values) < FEWEST or not (values.any() or self.always_zero):
            return Interval(found.value, np.nan, np.nan)
        return found

    @property
    def always_zero(self) -> bool:
        """Whether every barrier is zero by necessity: a neuron of each type and no more."""
        return self.width == self.teacher_width

    def certificate(self, death: float) -> Interval:
        """Share of pairs that some permutation joins with zero barrier, with Wilson's interval."""
        mixed = self.values("mixed", death)
        return share_interval(int((mixed == 0).sum()), len(mixed))


@dataclass(frozen=True)
class TheorySummary:
    """A theory study as its store tells it."""

    config: TheoryConfig
    groups: list[TheoryGroup]

    def tail(self) -> TailFit | None:
        """Power law fitted to the mean dense barrier; None without r = 0 among the death rates.

        With r > 0 there is none to fit: the barrier falls exponentially beyond the crossover.
        """
        if DENSE not in self.config.deaths:
            return None
        return tail_fit(
            [group.width for group in self.groups],
            [group.values("barrier", DENSE) for group in self.groups],
            self.config.tail_from,
        )

    def barriers_at(self, m: int, deaths: Sequence[float]) -> list[Interval]:
        """Mean barriers at a width, between the two nearest death rates; NaN where one is zero.

        Logarithms of means and of their intervals are interpolated linearly in the rate.

        Raises
        ------
        ConfigError
            The width, or a rate as high, is not there; the message has the study to run.
        """
        rates = np.array(sorted(self.config.deaths))
        group = next((group for group in self.groups if group.width == m), None)
        # A mean of counts may miss its own rate by rounding.
        if group is None or max(deaths, default=0.0) > rates[-1] + _SAME_RATE:
            steps = max(1, math.ceil((max(deaths, default=0.0) - _SAME_RATE) / _RATE_STEP))
            needed = ",".join(f"{k * _RATE_STEP:.2f}" for k in range(steps + 1))
            raise ConfigError(
                f"--theory lacks m = {m} with death rates up to {needed.split(',')[-1]}: run "
                f"'lmc-fast study theory --set widths=[{m}] --set deaths=[{needed}]', and the "
                "same problem"
            )
        with np.errstate(divide="ignore"):
            logs = np.log([group.barrier(float(rate)) for rate in rates])
        logs[np.isinf(logs[:, 0])] = np.nan
        found = [np.interp(deaths, rates, column) for column in logs.T]
        return [Interval(*map(float, np.exp(row))) for row in np.transpose(found)]

    def zero_from(self, death: float) -> int | None:
        """Smallest width above M from which on every pair has zero barrier; None without one."""
        found = None
        for group in reversed(self.groups):
            if group.always_zero:
                break
            if group.certificate(death).value < 1:
                break
            found = group.width
        return found


def same_problem(config: GridConfig, theory: TheoryConfig) -> None:
    """Check that a study's students have the losses of a theory study's minima.

    Raises
    ------
    ConfigError
        Another study than width or learning rate, or another problem, teacher width, kind or
        inputs; or no dense law.
    """
    if DENSE not in theory.deaths:
        raise ConfigError(f"--theory needs a study with 0 among its deaths; got {theory.deaths}")
    if not isinstance(config, WidthConfig | LearningRateConfig):
        raise ConfigError(
            f"--theory goes with a width or learning-rate study; got the study '{config.study}'"
        )
    ours, theirs = (
        problem.model_dump(include=set(_LOSS)) for problem in (config.problem, theory.problem)
    )
    if ours != theirs:
        raise ConfigError(
            f"--theory needs a study of the same problem; got {theirs} for {ours}: "
            "run 'lmc-fast study theory' with the other study's problem"
        )


def summarise_theory(store: Store) -> TheorySummary:
    """Group the rows of a theory study's store.

    Raises
    ------
    StoreError
        The store has no finished cell yet, or is another study's.
    """
    config = config_from_json(store.config_text)
    if not isinstance(config, TheoryConfig):
        raise store.not_of("a theory study")
    rows = store.rows()
    if not rows:
        raise StoreError(f"{store.folder} has no finished cell yet: run the study first")
    # The store's order is by width already.
    parts = groupby(rows, lambda row: int(row["width"] or 0))
    M = problem_of(config).teacher_width
    return TheorySummary(config, [TheoryGroup(m, M, list(part)) for m, part in parts])
