# SPDX-License-Identifier: MIT
"""The benchmark's own arithmetic: what --compare reports, and the measured ceilings."""

import sys
from pathlib import Path

import pytest
import torch

from lmc_fast import _native

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ceiling_loop_does_the_operations_it_counts(dtype: torch.dtype) -> None:
    sink = torch.zeros(2, dtype=dtype)
    operations = _native.ceiling_multiply_add(sink, 100, 2)
    # Every chain of x = x / 2 + 1 ends at 2, and each counts two operations a round.
    chains = operations / (2 * 100 * 2)
    assert sink.tolist() == [2.0 * chains] * 2
    assert _native.ceiling_multiply_add(sink, 300, 2) == 3 * operations


def test_the_copy_copies_every_share() -> None:
    source, target = torch.arange(1001.0), torch.zeros(1001)
    _native.ceiling_copy(source, target, 3)
    assert torch.equal(source, target)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        _native.ceiling_copy(source, target, 0)
