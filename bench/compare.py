# SPDX-License-Identifier: MIT
"""What moved between two result files: rows whose quartile ranges no longer overlap."""

import json
from pathlib import Path
from typing import Any

from .timer import OURS


def moved(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """One line per row whose time of ours moved beyond the spread, and per row that is in one only.

    The time is taken relative to the row's own baselines (the geometric mean of the ratios) where
    both files have the same ones, so that a faster or busier machine moves nothing. Ours under
    other conditions is no baseline: it moves with ours.
    """
    old, new = ({(r["op"], r["size"]): r for r in file["rows"]} for file in (before, after))
    lines = [f"only before: {op} {size}" for op, size in old.keys() - new.keys()]
    lines += [f"only after:  {op} {size}" for op, size in new.keys() - old.keys()]
    for key in sorted(old.keys() & new.keys()):
        a, b = old[key], new[key]
        names = {n for n in a["ratio"].keys() & b["ratio"].keys() if not n.startswith(f"{OURS},")}
        machine = 1.0
        for name in names:
            machine *= (b["median_s"][name] / a["median_s"][name]) ** (1 / len(names))
        (low_a, high_a), (low_b, high_b) = (r["quartiles_s"][OURS] for r in (a, b))
        low_b, high_b = low_b / machine, high_b / machine
        if low_b > high_a or high_b < low_a:
            change = b["median_s"][OURS] / machine / a["median_s"][OURS]
            word = "slower" if change > 1 else "faster"
            lines.append(f"{word}: {' '.join(key)}: {change:.2f} times the time before")
    return lines


def compare(before: Path, after: Path) -> list[str]:
    """:func:`moved` of two files."""
    return moved(json.loads(before.read_text()), json.loads(after.read_text()))
