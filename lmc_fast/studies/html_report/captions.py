# SPDX-License-Identifier: MIT
"""What stands below every figure: seeds, sample sizes, exclusions and the code's version."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import AnyConfig, cell_count
from ..provenance import versions
from ..statistics import FEWEST
from ..store import Row
from ..summary import Summary, fate_of_stuck


def sentence(words: str) -> str:
    """Words with a capital and a full stop."""
    return words[:1].upper() + words[1:] + "."


def sample(config: AnyConfig, rows: Sequence[Row], per: str) -> str:
    """Which seeds, and how many pairs; ``per`` is width or step size."""
    first, last = config.first_seed, config.first_seed + 2 * config.pairs - 1
    bands = (
        f"with 95% bootstrap intervals ({FEWEST} or more)"
        if config.pairs >= FEWEST
        else f"too few for bootstrap intervals (below {FEWEST})"
    )
    return (
        f"Seeds {first} to {last}, {config.pairs:,} pairs per {per}, {bands}; "
        f"{len(rows):,} of {cell_count(config):,} pairs are there."
    )


def exclusions(summary: Summary) -> str:
    """How many students are missing from means, and why."""
    rows = summary.rows
    diverged = sum(int(row[f"diverged_{side}"] or 0) for row in rows for side in ("a", "b"))
    pairs = sum(group.pairs - len(group.sound) for group in summary.groups)
    written = (
        f"Of {summary.students:,} students {summary.failed:,} failed ({diverged:,} diverged, "
        f"{summary.failed - diverged:,} ended no better than the zero network); "
        f"{pairs:,} pairs are left out."
    )
    if summary.stuck:
        written += f" {summary.stuck:,} did not converge ({fate_of_stuck(summary)})."
    return written


def code(rows: Sequence[Row]) -> str:
    """Which version computed the numbers."""
    return "Computed by " + ", ".join(versions(rows)) + "."
