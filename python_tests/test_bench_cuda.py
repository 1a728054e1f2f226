# SPDX-License-Identifier: MIT
"""python -m bench.cuda, as far as it runs without a GPU."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.cuda import closed_form, products, sample_steps, settings, study, training
from bench.cuda.__main__ import report
from bench.cuda.device import interleaved
from bench.cuda.facts import results_file
from bench.cuda.floors import floor
from bench.cuda.graphs import GraphedDescent
from bench.cuda.measure import measure
from bench.cuda.networks import Network
from bench.cuda.paths import LOOP
from bench.cuda.paths import Path as AlphaPath
from bench.cuda.population import PopulationDescent, PopulationLoss
from bench.cuda.products import LEVEL_1, TF32_OFF, TF32_ON, Size
from bench.cuda.report import HEADINGS, plain, table, target_lines
from bench.cuda.rows import ROWS, chosen_rows
from bench.cuda.samples import Samples
from bench.timer import OURS
from lmc_fast.ops import _cuda

ROOT = Path(__file__).parents[1]
CEILINGS = {"bfloat16": 8e14, "float32": 5e13, "float64": 6e13, "copy": 4e12}
SMALL = {
    "one output": Network(50, 40, 7, level_1=True, targets=((TF32_OFF, OURS, 6),)),
    "outputs": Network(50, 40, 7, c=3),
    "float64": Network(50, 40, 7, dtype=torch.float64),
    "path": AlphaPath(50, 40, 7, A=51, targets=((LOOP, OURS, 2),)),
    "path float64": AlphaPath(50, 40, 7, c=2, A=4, dtype=torch.float64),
}


class Cpu:
    """In place of the GPU; a call takes a second."""

    name = "cpu"

    def peak(self, call: Callable[[], Any]) -> tuple[Any, int]:
        return call(), 2**20

    def seconds(self, call: Callable[[], Any]) -> float:
        call()
        return 1.0

    def clean(self) -> None:
        pass


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "BLOCK", 640)  # 16 samples of 40 neurons: not a divisor of 50


def test_operations_are_those_of_the_products_that_the_kernels_issue() -> None:
    one, several, double, path, _ = SMALL.values()
    product = 2 * 50 * 40 * 7
    for precision, forward, mask in (("float32", 6, 3), ("tf32", 3, 2), ("bf16", 1, 1)):
        assert one.operations(precision, True) == ("bfloat16", (forward + mask) * product)
        assert several.operations(precision, True) == ("bfloat16", 3 * forward * product)
        assert path.operations(precision, True) == ("bfloat16", 2 * forward * product)
    assert one.operations("float32", False) == ("float32", 2 * product)
    assert several.operations("float32", False) == ("float32", 3 * product)
    assert double.operations("float32", True) == ("float64", 2 * product)


def test_bytes_are_those_of_inputs_results_and_sign_bits() -> None:
    inputs, results = 50 * 7 + 40 * 7 + 40 + 50, 50 + 40 * 7 + 40
    assert SMALL["one output"].bytes() == 4 * (inputs + results) + 2 * 50 * 40 / 8
    arrays = 50 * 7 + 2 * (40 * 7 + 2 * 40) + 2 * 50
    assert SMALL["path float64"].bytes() == 8 * arrays + 8 * 4


def test_the_floor_is_the_larger_of_two_times() -> None:
    assert floor(10.0, 5.0, 3.0, 3.0) == (2.0, "arithmetic")
    assert floor(10.0, 5.0, 9.0, 3.0) == (3.0, "memory")


@pytest.mark.parametrize("size", SMALL.values(), ids=SMALL)
def test_rows_verify_and_compare_all_contestants(size: Size) -> None:
    row = measure(size.case(Cpu()), 3, CEILINGS, Cpu())
    assert row["left_out"] == {}
    ours = {name for name in row["median_s"] if name.startswith(OURS)}
    assert set(row["floor"]) == ours
    assert (LEVEL_1 in ours) == size.level_1
    assert len(ours) == (1 if size.dtype == torch.float64 else 4 if size.level_1 else 3)
    bound = 1e-12 if size.dtype == torch.float64 else 1e-5
    assert all(error < bound for errors in row["errors"].values() for error in errors.values())
    assert row["median_s"][OURS] == 1.0
    json.dumps(row)


def test_loops_over_few_alphas_are_scaled_and_targets_found() -> None:
    row = measure(SMALL["path"].case(Cpu()), 3, CEILINGS, Cpu())
    loop = "eager loop, TF32 off (6 alphas, scaled to 51)"
    products = "two products, TF32 off (26 alphas, scaled to 51)"
    assert row["ratio"][loop] == pytest.approx(51 / 6)
    assert row["ratio"][products] == pytest.approx(51 / 26)
    (target,) = row["targets"]
    assert (target["baseline"], target["ours"], target["wanted"]) == (loop, "lmc_fast", 2)
    assert target["reached"] == pytest.approx(8.5)
    assert (
        target["error_ratio"] == row["errors"][loop]["losses"] / row["errors"]["lmc_fast"]["losses"]
    )
    target["error_ratio"] = 3
    (line,) = target_lines([row])
    wanted = f"{loop} / lmc_fast = 8.50, target 2: reached; its error is 3.00 times ours"
    assert line.endswith(wanted)


@pytest.mark.parametrize("wrong", ["nan", "gradient"])
def test_a_wrong_result_is_not_timed(wrong: str) -> None:
    case = SMALL["one output"].case(Cpu())
    right = case.contestants[OURS]

    def ours() -> tuple[torch.Tensor, ...]:
        f, dw1, dw2 = right()
        if wrong == "nan":
            f[7] = torch.nan
            return f, dw1, dw2
        return f, dw1.roll(1, 0), dw2

    case.contestants[OURS] = ours
    row = measure(case, 3, CEILINGS, Cpu())
    assert row["median_s"] == {}
    wanted = "f nan" if wrong == "nan" else "dw1 "
    assert f"wrong: relative error of {wanted}" in row["left_out"][OURS]
    assert len(table([row])) == 1


def test_who_runs_out_of_memory_is_left_out_and_the_row_stays() -> None:
    case = SMALL["one output"].case(Cpu())

    def eager() -> tuple[torch.Tensor, ...]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 16 GiB")

    case.contestants[TF32_OFF] = eager
    row = measure(case, 3, CEILINGS, Cpu())
    assert row["left_out"] == {TF32_OFF: "out of memory: CUDA out of memory"}
    assert TF32_ON in row["median_s"]
    assert row["targets"] == []


def test_contestants_take_turns_after_an_untimed_round() -> None:
    calls: list[str] = []

    def seconds(call: Callable[[], None]) -> float:
        call()
        return {"a": 0.5, "b": 2.0}[calls[-1]]

    contestants = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = interleaved(contestants, 3, seconds)
    assert times == {"a": [0.5] * 3, "b": [2.0] * 2}
    assert "".join(calls) == "ab" + "ab" + "ab" + "a"


def test_settings_hold_inside_and_are_undone_after_an_error() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    for on in (True, False):
        with settings.tf32(on), settings.without_tensor_cores():
            assert torch.backends.cuda.matmul.allow_tf32 == on
            assert not _cuda.TENSOR_CORES
        with pytest.raises(ZeroDivisionError), settings.tf32(on), settings.without_tensor_cores():
            _ = 1 / 0
        assert torch.backends.cuda.matmul.allow_tf32 == before
        assert _cuda.TENSOR_CORES


def test_the_table_of_invented_numbers() -> None:
    row = {
        "size": "n=1",
        "median_s": {"lmc_fast": 0.001, "eager": 0.0123},
        "quartiles_s": {"lmc_fast": (0.0009, 0.0012), "eager": (0.012, 0.013)},
        "ratio": {"eager": 12.3},
        "errors": {"lmc_fast": {"f": 1e-7}, "eager": {"f": 2.5e-4}},
        "peak_bytes": {"lmc_fast": 2**20, "eager": 2**30},
        "floor": {"lmc_fast": {"share": 0.5, "by": "memory"}},
        "left_out": {"compiled": "out of memory"},
    }
    lines = plain(HEADINGS, table([row])).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "size contestant time (quartiles) ratio of floor error memory",
        "n=1 lmc_fast 1 (0.9 to 1.2) ms 1 50% (memory) f 1.0e-07 1 MiB",
        "eager 12.3 (12 to 13) ms 12 f 2.5e-04 1024 MiB",
        "compiled out of memory",
    ]
    assert lines[2].index("eager") == lines[1].index("lmc_fast")


def test_rows_are_chosen_and_quartered() -> None:
    assert chosen_rows(False) == ROWS
    quick = chosen_rows(True, "two_layer_relu forward+backward n=16384 m=16384")
    assert [(size.n, size.m, size.targets) for size in quick] == [(16384, 16384, ())]
    assert results_file("NVIDIA X 100 (SXM)").name == "nvidia-x-100-sxm.json"


TRAINING = {
    "gd": Samples(S=9, n=70, m=12, d=5, steps=40),
    "sgd": Samples(S=9, n=70, m=12, d=5, steps=40, batch=16),
    "fresh": Samples(S=9, n=0, m=12, d=5, steps=40, batch=16, M=3),
    "population": PopulationDescent(5, 12, 3, 6, steps=40),
    "population loss": PopulationLoss(5, 12, 3, 6),
}


@pytest.mark.parametrize("name", TRAINING)
def test_training_rows_verify_and_compare_all_contestants(name: str) -> None:
    given = TRAINING[name]
    row = measure(given.case(Cpu()), 3, CEILINGS, Cpu())
    assert row["left_out"] == {}
    double = name.startswith("population")
    errors = [error for found in row["errors"].values() for error in found.values()]
    assert len(errors) >= 3
    assert all(error < (1e-13 if double else 1e-4) for error in errors)
    assert list(row["floor"]) == [OURS]
    # A second a call is too slow.
    assert name == "population loss" or " 4 steps S=" in row["size"]
    if name == "gd":
        loop = "student loop, TF32 off (4 students, 4 steps, scaled to 9 and 4)"
        assert row["ratio"][loop] == pytest.approx(9 / 4)
    json.dumps(row)


def test_work_of_training() -> None:
    gd, sgd, fresh, descent, once = TRAINING.values()
    assert isinstance(gd, Samples)
    assert isinstance(sgd, Samples)
    assert isinstance(descent, PopulationDescent)
    assert isinstance(once, PopulationLoss)
    work = gd.work(7)
    assert (work.unit, work.operations) == ("float32", 7 * 9 * 2 * (2 * 70 * 12 * 5))
    assert work.bytes == 4 * (2 * 9 * 12 * 5 + 70 * 5 + 70)
    assert sgd.work(1).operations == fresh.work(1).operations == 9 * 2 * (2 * 16 * 12 * 5)
    work = descent.work(7)
    assert (work.unit, work.operations) == ("float64", 7 * 2 * 5 * 12 * 15 * (3 * 6 + 60))
    assert 7 * once.work().operations == work.operations


def test_a_wrong_training_is_not_timed() -> None:
    case = TRAINING["gd"].case(Cpu())
    right = case.checks[OURS]
    case.checks[OURS] = lambda: (right()[0].roll(1, 0),)
    row = measure(case, 3, CEILINGS, Cpu())
    assert row["median_s"] == {}
    assert "wrong: relative error of change" in row["left_out"][OURS]


def test_a_baseline_that_fails_is_left_out_and_ours_is_not() -> None:
    case = TRAINING["population loss"].case(Cpu())

    def fails() -> tuple[torch.Tensor, ...]:
        raise RuntimeError("operation not permitted\nwhen the stream is capturing")

    (name,) = (name for name in case.contestants if name.startswith("closed"))
    case.contestants[name] = fails
    row = measure(case, 3, CEILINGS, Cpu())
    assert row["left_out"] == {name: "failed: operation not permitted"}
    assert OURS in row["median_s"]
    case.contestants[OURS] = fails
    with pytest.raises(RuntimeError, match="not permitted"):
        measure(case, 3, CEILINGS, Cpu())


@pytest.mark.parametrize(
    ("second", "steps"), [(0.001, 200), (0.05, 200), (0.1, 100), (0.11, 88), (9.0, 4)]
)
def test_slow_devices_take_fewer_steps(
    monkeypatch: pytest.MonkeyPatch, second: float, steps: int
) -> None:
    device, calls = Cpu(), []
    monkeypatch.setattr(device, "seconds", lambda call: call() or second)
    assert training.affordable(200, calls.append, device) == steps  # type: ignore[arg-type]
    assert calls == [20, 20]


def test_graphed_steps_start_over_in_every_call() -> None:
    start = torch.zeros(2, 1, 1)
    descent = GraphedDescent(start, lambda w1: lambda: w1.add_(1))
    assert descent(8)[0].tolist() == [[[8.0]], [[8.0]]]
    assert descent(4)[0].tolist() == [[[4.0]], [[4.0]]]
    assert not start.any()
    with pytest.raises(ValueError, match="multiple of 4"):
        descent(6)


def test_fresh_samples_are_drawn_for_every_step() -> None:
    x, v1 = torch.zeros(2, 3, 4), torch.eye(2, 4)
    w1 = torch.ones(2, 5, 4)
    step = sample_steps.fresh_products(True, x, v1, 0.1, w1)
    seen = []
    for _ in range(2):
        step()
        seen.append(x.clone())
    assert not torch.equal(*seen)
    assert not torch.equal(seen[0][0], seen[0][1])
    assert not torch.equal(w1, torch.ones_like(w1))


def test_the_closed_form_follows_the_weights_it_was_given() -> None:
    w1, v1 = torch.randn(2, 3, 4, dtype=torch.float64), torch.eye(2, 4, dtype=torch.float64)
    form = closed_form.ClosedForm(w1, v1)
    before = form.gradient()
    w1.mul_(2)
    loss, after = form.loss_and_gradient()
    assert not torch.allclose(before, after)
    again = closed_form.ClosedForm(w1.clone(), v1).loss_and_gradient()
    assert torch.equal(loss, again[0])
    assert torch.equal(after, again[1])


def test_the_width_study_is_timed_whole_or_scaled() -> None:
    pytest.importorskip("pydantic", reason="needs the extra lmc_fast[studies]")
    small = ["widths=[3,5]", "pairs=20", "steps=10", "alphas=5"]
    row = study.measure(60.0, "cpu", small)
    assert row["size"] == "full preset, m=3 and 5: 20 pairs, 10 steps"
    cpu = f"CPU, {torch.get_num_threads()} threads"
    assert list(row["median_s"]) == [OURS, cpu]
    assert row["errors"] == {OURS: {"mean loss": 0.0}}
    (target,) = row["targets"]
    assert target["reached"] == row["ratio"][cpu] == row["median_s"][cpu] / row["median_s"][OURS]
    assert report({"rows": [row], "failed": []}) == []
    # 16 pairs of 20, of one width of two.
    row = study.measure(0.0, "cpu", small)
    share = 16 * 3 * 8 / (20 * (3 * 8 + 5 * 10))
    assert list(row["median_s"]) == [OURS, f"{cpu} ({share:.0%} of the work, scaled to all)"]
    assert row["size"].endswith(f"10 steps (on the GPU {share:.0%} of the work, scaled to all)")
    row["targets"][0]["reached"] = 12.0
    (line,) = target_lines([row])
    assert line.endswith("/ lmc_fast = 12, target 10: reached")
    json.dumps(row)


def test_without_the_studies_extra_the_study_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmc_fast.studies.presets", None)
    row = study.measure()
    assert row["left_out"][OURS].startswith("needs the extra lmc_fast[studies]")
    (line,) = report({"rows": [], "failed": [row]})
    assert line.startswith("FAILED: width study full preset: lmc_fast: needs the extra")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("options", [[], ["--study"]])
def test_without_a_gpu_nothing_runs_and_the_status_says_so(options: list[str]) -> None:
    command = [sys.executable, "-m", "bench.cuda", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("no GPU: nothing was run")
