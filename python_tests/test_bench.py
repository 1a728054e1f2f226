# SPDX-License-Identifier: MIT
"""The benchmark's own arithmetic: what --compare reports, scaled times, restricted contestants."""

import sys
from pathlib import Path

import pytest
import torch

from lmc_fast import _native

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import timer
from bench.compare import moved
from bench.matchers import METHODS, measure, refine_times, table
from bench.restricted import restricted, settings
from bench.scaling import cliff


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


def test_compare_takes_ours_under_other_conditions_for_no_baseline() -> None:
    before, after = file(1.0, 4.0), file(1.5, 4.0)
    for document, time in ((before, 2.0), (after, 3.0)):
        document["rows"][0]["median_s"]["lmc_fast, 1 thread"] = time
        document["rows"][0]["ratio"]["lmc_fast, 1 thread"] = 2.0
    assert moved(before, after) == ["slower: op n=1: 1.50 times the time before"]


def test_a_share_of_the_work_is_scaled_to_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"lmc_fast": [1.0, 2.0, 3.0], "eager": [4.0]}
    monkeypatch.setattr(timer, "interleaved", lambda *_: seconds)
    verified: list[bool] = []
    case = timer.Case(
        "op", "n=1", {}, lambda: verified.append(True), work=8e9, share={"eager": 0.25}
    )
    row = timer.run(case, 3, {"float32_gflops": 16.0})
    assert verified == [True]
    assert row.median_s == {"lmc_fast": 2.0, "eager": 16.0}
    assert row.quartiles_s == {"lmc_fast": (1.5, 2.5), "eager": (16.0, 16.0)}
    assert row.ratio == {"eager": 8.0}
    assert (row.gflops, row.ceiling_share) == (4.0, 0.25)


def test_contestants_take_turns_and_slow_ones_sit_out(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    time = {"a": 0.5, "b": 2.0}

    def clock(call, timer, number: int) -> float:
        call()
        return time[calls[-1]] * number

    monkeypatch.setattr(timer, "timeit", clock)
    contestants = {name: lambda name=name: calls.append(name) for name in time}
    seconds = timer.interleaved(contestants, rounds=3)
    assert seconds == {"a": [0.5] * 3, "b": [2.0] * 2}
    assert calls == [*"aab", *"aab", *"aa", *"aa"]


def test_settings_hold_inside_and_are_undone_after_an_error() -> None:
    before = torch.get_num_threads(), _native.cpu_target()
    with settings(before[0] + 1, "baseline"):
        assert (torch.get_num_threads(), _native.cpu_target()) == (before[0] + 1, "baseline")
    assert (torch.get_num_threads(), _native.cpu_target()) == before
    with pytest.raises(ZeroDivisionError), settings(before[0] + 1, "baseline"):
        _ = 1 / 0
    with pytest.raises(ValueError), settings(before[0] + 1, "no such target"):
        pass
    assert (torch.get_num_threads(), _native.cpu_target()) == before


def test_restricted_contestants_are_held_back_and_leave_nothing_behind() -> None:
    before = torch.get_num_threads(), _native.cpu_target()
    with settings(2, _native.supported_cpu_targets()[-1]):
        now = torch.get_num_threads(), _native.cpu_target()
        contestants = restricted(lambda: (torch.get_num_threads(), _native.cpu_target()))
        seen = {name: call() for name, call in contestants.items()}
        assert (torch.get_num_threads(), _native.cpu_target()) == now
    assert seen.pop("lmc_fast, 1 thread") == (1, now[1])
    assert seen == ({"lmc_fast, avx2": (2, "avx2")} if now[1] == "avx512" else {})
    with settings(1, "baseline"):
        assert restricted(lambda: None) == {}
    assert (torch.get_num_threads(), _native.cpu_target()) == before


def test_a_cliff_is_a_time_above_that_of_both_neighbours() -> None:
    sizes = [7, 8, 9, 15, 16, 17, 32]
    assert cliff(sizes, [1.0, 1.0, 1.0, 2.0, 3.0, 2.0, 9.0]) == 1.5
    assert cliff(sizes, [7.0, 8.0, 9.0, 15.0, 16.0, 17.0, 32.0]) == 1.0


def test_matchers_are_never_better_than_the_least_barrier() -> None:
    row = measure(4, 4.0, pairs=3, steps=100, samples=64)
    assert set(row.reached) == set(METHODS)
    for method, reached in row.reached.items():
        assert (reached >= row.least * (1 - 1e-6) - row.zero).all()
        same = sum(
            abs(float(r - best)) <= 1e-6 * float(best) + row.zero
            for r, best in zip(reached, row.least, strict=True)
        )
        assert row.found(method) == same
    zero, cells = torch.zeros(2), len(METHODS)
    reached = dict.fromkeys(METHODS, zero + 1.0)
    row = row._replace(least=zero + 0.5, reached=reached, edge=1.0, certified=0)
    assert (
        table([row]).splitlines()[-1] == "| 4 | 4 | 1.00 | 2 | 0 | 0 | 0.5 |" + " 2x (0) |" * cells
    )
    row = row._replace(least=zero)
    assert table([row]).splitlines()[-1] == "| 4 | 4 | 1.00 | 2 | 0 | 2 | 0 |" + " 1 (0) |" * cells


def test_times_of_refine_name_the_barriers() -> None:
    cells = refine_times(4, pairs=2, steps=100).strip("| ").split(" | ")
    assert cells[0] == "4"
    assert len(cells) == 4
    for cell in cells[1:]:
        before, after = (float(number) for number in cell.split(": ")[1].split(" to "))
        assert after <= before
