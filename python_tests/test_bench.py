# SPDX-License-Identifier: MIT
"""The benchmark's own arithmetic: what --compare reports."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.compare import moved


def file(ours: float, eager: float, spread: float = 0.1) -> dict:
    quartiles = (ours * (1 - spread), ours * (1 + spread))
    row = {
        "op": "op",
        "size": "n=1",
        "median_s": {"lmc_fast": ours, "eager": eager},
        "quartiles_s": {"lmc_fast": quartiles, "eager": (eager, eager)},
        "ratio": {"eager": eager / ours},
    }
    return {"rows": [row]}


def test_compare_reports_what_moved_beyond_the_spread() -> None:
    assert moved(file(1.0, 4.0), file(1.1, 4.0)) == []
    assert moved(file(1.0, 4.0), file(1.5, 4.0)) == ["slower: op n=1: 1.50 times the time before"]
    assert moved(file(1.0, 4.0), file(0.5, 4.0)) == ["faster: op n=1: 0.50 times the time before"]


def test_compare_takes_a_slower_machine_into_account() -> None:
    assert moved(file(1.0, 4.0), file(2.0, 8.0)) == []
    assert moved({"rows": []}, file(1.0, 4.0)) == ["only after:  op n=1"]
