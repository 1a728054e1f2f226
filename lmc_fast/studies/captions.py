# SPDX-License-Identifier: MIT
"""What stands over every figure beside its subject: seeds, pairs, exclusions, and the code.

A caption is a list of lines; :func:`wrapped` fits them to a figure's width.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

from .config import GridConfig, LearningRateConfig
from .provenance import versions
from .statistics import FEWEST
from .store import Row
from .summary import Summary, fate_of_stuck
from .theory_summary import TheorySummary

# Of 8 points, as measured; lines are broken a little before the edge.
_CHARACTERS_PER_INCH = 17


def wrapped(lines: Iterable[str], inches: float) -> str:
    """Lines as one text that is not wider than a figure; a broken line is of even parts."""
    most = int(inches * _CHARACTERS_PER_INCH)
    return "\n".join(part for line in lines for part in _even(line, most))


def _even(line: str, most: int) -> list[str]:
    """As few parts as need be, the widest as short as can be."""

    def parts(width: int) -> list[str]:
        return textwrap.wrap(line, width, break_on_hyphens=False)

    count = len(parts(most))
    least = next(width for width in range(1, most + 1) if len(parts(width)) <= count)
    return parts(least)


def seeds(config: GridConfig) -> str:
    """``seeds 0 to 127``."""
    return f"seeds {config.first_seed} to {config.first_seed + 2 * config.pairs - 1}"


def code(rows: Iterable[Row]) -> str:
    """Every version that computed some of the rows."""
    return "computed by " + ", ".join(versions(rows))


def fine_print(summary: Summary, per: str, of_students: str | None = None) -> list[str]:
    """Lines on seeds, pairs, bands, exclusions and code; ``per`` is width or step size.

    Bands are of mean barriers, or of the mean that ``of_students`` names, over twice as many.
    """
    config = summary.config
    subject = f"{of_students} ({FEWEST} students" if of_students else f"barriers ({FEWEST} pairs"
    bands = f"95% bootstrap intervals of mean {subject} or more)"
    few = config.pairs * (2 if of_students else 1) < FEWEST
    rows = summary.rows
    counts = [
        len(g.student_values("alive")) if of_students else len(g.sound) for g in summary.groups
    ]
    return [
        f"{config.pairs:,} pairs per {per} ({seeds(config)})"
        + (": too few for intervals" if few else f", bands: {bands}"),
        *hollow(counts, "students" if of_students else "pairs"),
        *_unfinished(summary),
        *count_failures(summary),
        code(rows),
    ]


def hollow(counts: Iterable[int], of: str = "pairs") -> list[str]:
    """A line on means that are drawn hollow; none where all are of enough values."""
    few = [count < FEWEST for count in counts if count > 0]
    if not any(few):
        return []
    where = "" if all(few) else ", off the lines"
    return [f"hollow{where}: means of fewer than {FEWEST} {of}"]


def _unfinished(summary: Summary) -> list[str]:
    config = summary.config
    if not isinstance(config, LearningRateConfig):
        there = {group.width: group.pairs for group in summary.groups}
        return unfinished_widths(config.widths, there, config.pairs)
    lines = _fewer({f"lr = {g.lr:.4g}": g.pairs for g in summary.groups}, config.pairs)
    missing = len(config.grid) - len(summary.groups)
    return [*lines, *([f"not finished: no pair yet at {missing} step sizes"] if missing else [])]


def unfinished_widths(widths: Iterable[int], there: Mapping[int, int], wanted: int) -> list[str]:
    """A line on widths that have fewer pairs than they are to have; none without any."""
    return _fewer({f"m = {m}": there.get(m, 0) for m in widths}, wanted)


def _fewer(there: Mapping[str, int], wanted: int) -> list[str]:
    short_of = [f"{pairs} at {name}" for name, pairs in there.items() if pairs < wanted]
    if not short_of:
        return []
    few = ", ".join(short_of[:3]) + (" ..." if len(short_of) > 3 else "")
    return [f"not finished: so far {few}"]


def overlay(theory: TheorySummary) -> list[str]:
    """Lines on the random minima of a theory study that are drawn over another's figure."""
    config = theory.config
    rows = [row for group in theory.groups for row in group.rows]
    there = {group.width: len(group.rows) for group in theory.groups}
    return [
        f"theory: {config.pairs:,} pairs per width ({seeds(config)}), {code(rows)}",
        *(f"theory {line}" for line in unfinished_widths(config.widths, there, config.pairs)),
    ]


def count_failures(summary: Summary) -> list[str]:
    """A line on students that are missing from means or did not converge; none without any."""
    parts = []
    if summary.failed:
        parts.append(f"{summary.failed:,} failed (diverged or dead; their pairs are left out)")
    if summary.stuck:
        parts.append(f"{summary.stuck:,} did not converge ({fate_of_stuck(summary)})")
    return [f"of {summary.students:,} students " + ", ".join(parts)] if parts else []
