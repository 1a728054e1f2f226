# SPDX-License-Identifier: MIT
"""Rows of a depth study, grouped by width: what its table and figures show."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from .cells import SIDES
from .config import ArchitectureName, DepthConfig
from .depth import column
from .errors import StoreError
from .presets import config_from_json
from .statistics import Array, Interval, mean_interval
from .store import Row, Store

LABELS: dict[ArchitectureName, str] = {
    "mlp1": "1 hidden layer",
    "mlp2": "2 hidden layers",
    "mlp3": "3 hidden layers",
    "mlp4": "4 hidden layers",
    "cnn": "CNN (m/4 channels)",
}


@dataclass(frozen=True)
class DepthGroup:
    """All pairs of one width."""

    width: int
    rows: list[Row]

    def sound(self, architecture: str) -> list[Row]:
        """Pairs of which neither network failed: what means are taken over."""
        return [
            row
            for row in self.rows
            if not any(row[column(f"failed_{side}", architecture)] for side in SIDES)
        ]

    def failed(self, architecture: str) -> int:
        """Networks that diverged, or ended no better than the zero network."""
        flags = (column(f"failed_{side}", architecture) for side in SIDES)
        return sum(int(row[flag] or 0) for flag in flags for row in self.rows)

    def values(self, quantity: str, architecture: str, matching: str, split: str) -> Array:
        """A measurement of every sound pair, (P,)."""
        name = column(quantity, architecture, matching, split)
        return np.array([row[name] for row in self.sound(architecture)], dtype=np.float64)

    def mean(self, quantity: str, architecture: str, matching: str, split: str) -> Interval:
        """Its mean over sound pairs, with its bootstrap interval."""
        return mean_interval(self.values(quantity, architecture, matching, split))

    def accuracy(self, architecture: str, split: str) -> float:
        """Mean accuracy of the networks of sound pairs; NaN without any."""
        names = [column(f"accuracy_{split}_{side}", architecture) for side in SIDES]
        found = [row[name] for row in self.sound(architecture) for name in names]
        return float(np.mean(np.array(found, dtype=np.float64))) if found else float("nan")


@dataclass(frozen=True)
class DepthSummary:
    """A depth study as its store tells it."""

    config: DepthConfig
    groups: list[DepthGroup]

    def exclusions(self) -> str:
        """How many networks are missing from means, and why."""
        names = self.config.architectures
        count = 2 * len(names) * sum(len(group.rows) for group in self.groups)
        failed = sum(group.failed(name) for group in self.groups for name in names)
        if not failed:
            return f"None of {count:,} networks failed."
        return (
            f"Of {count:,} networks {failed:,} failed (diverged, or no better than a constant): "
            "their pairs are left out."
        )


def summarise_depth(store: Store) -> DepthSummary:
    """Group the rows of a depth study's store.

    Raises
    ------
    StoreError
        The store has no finished cell yet, or is another study's.
    """
    config = config_from_json(store.config_text)
    if not isinstance(config, DepthConfig):
        raise store.not_of("a depth study")
    rows = store.rows()
    if not rows:
        raise StoreError(f"{store.folder} has no finished cell yet: run the study first")
    # The store's order is by width already.
    parts = groupby(rows, lambda row: int(row["width"] or 0))
    return DepthSummary(config, [DepthGroup(m, list(part)) for m, part in parts])
