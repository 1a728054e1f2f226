# SPDX-License-Identifier: MIT
"""What needs a GPU, as far as it runs without: python -m bench.cuda and tools/gpu_check.py."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import cuda
from tools import gpu_check

ROOT = Path(__file__).parents[1]
CEILINGS = {"bfloat16": 8e14, "float32": 5e13, "float64": 6e13, "copy": 4e12}
SMALL = {
    "one output": cuda.Size(
        cuda.NETWORK, 50, 40, 7, level_1=True, targets=((cuda.TF32_OFF, cuda.OURS, 6),)
    ),
    "outputs": cuda.Size(cuda.NETWORK, 50, 40, 7, c=3),
    "float64": cuda.Size(cuda.NETWORK, 50, 40, 7, dtype=torch.float64),
    "path": cuda.Size(cuda.PATH, 50, 40, 7, A=51, targets=((cuda.LOOP, cuda.OURS, 2),)),
    "path float64": cuda.Size(cuda.PATH, 50, 40, 7, c=2, A=4, dtype=torch.float64),
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
    monkeypatch.setattr(cuda, "BLOCK", 640)  # 16 samples of 40 neurons: not a divisor of 50


def test_operations_are_those_of_the_products_that_the_kernels_issue() -> None:
    one, several, double, path, _ = SMALL.values()
    product = 2 * 50 * 40 * 7
    for precision, forward, mask in (("float32", 6, 3), ("tf32", 3, 2), ("bf16", 1, 1)):
        assert cuda.flops(one, precision, True) == ("bfloat16", (forward + mask) * product)
        assert cuda.flops(several, precision, True) == ("bfloat16", 3 * forward * product)
        assert cuda.flops(path, precision, True) == ("bfloat16", 2 * forward * product)
    assert cuda.flops(one, "float32", False) == ("float32", 2 * product)
    assert cuda.flops(several, "float32", False) == ("float32", 3 * product)
    assert cuda.flops(double, "float32", True) == ("float64", 2 * product)


def test_bytes_are_those_of_inputs_results_and_sign_bits() -> None:
    inputs, results = 50 * 7 + 40 * 7 + 40 + 50, 50 + 40 * 7 + 40
    assert cuda.fewest_bytes(SMALL["one output"]) == 4 * (inputs + results) + 2 * 50 * 40 / 8
    arrays = 50 * 7 + 2 * (40 * 7 + 2 * 40) + 2 * 50
    assert cuda.fewest_bytes(SMALL["path float64"]) == 8 * arrays + 8 * 4


def test_the_floor_is_the_larger_of_two_times() -> None:
    assert cuda.floor(10.0, 5.0, 3.0, 3.0) == (2.0, "arithmetic")
    assert cuda.floor(10.0, 5.0, 9.0, 3.0) == (3.0, "memory")


@pytest.mark.parametrize("size", SMALL.values(), ids=SMALL)
def test_rows_verify_and_compare_all_contestants(size: cuda.Size) -> None:
    row = cuda.measure(cuda.case(size, "cpu"), 3, CEILINGS, Cpu())
    assert row["left_out"] == {}
    ours = {name for name in row["median_s"] if name.startswith(cuda.OURS)}
    assert set(row["floor"]) == ours
    assert (cuda.LEVEL_1 in ours) == size.level_1
    assert len(ours) == (1 if size.dtype == torch.float64 else 4 if size.level_1 else 3)
    bound = 1e-12 if size.dtype == torch.float64 else 1e-5
    assert all(error < bound for errors in row["errors"].values() for error in errors.values())
    assert row["median_s"][cuda.OURS] == 1.0
    json.dumps(row)


def test_loops_over_few_alphas_are_scaled_and_targets_found() -> None:
    row = cuda.measure(cuda.case(SMALL["path"], "cpu"), 3, CEILINGS, Cpu())
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
    (line,) = cuda.target_lines([row])
    wanted = f"{loop} / lmc_fast = 8.50, target 2: reached; its error is 3.00 times ours"
    assert line.endswith(wanted)


@pytest.mark.parametrize("wrong", ["nan", "gradient"])
def test_a_wrong_result_is_not_timed(wrong: str) -> None:
    case = cuda.case(SMALL["one output"], "cpu")
    right = case.contestants[cuda.OURS]

    def ours() -> tuple[torch.Tensor, ...]:
        f, dw1, dw2 = right()
        if wrong == "nan":
            f[7] = torch.nan
            return f, dw1, dw2
        return f, dw1.roll(1, 0), dw2

    case.contestants[cuda.OURS] = ours
    row = cuda.measure(case, 3, CEILINGS, Cpu())
    assert row["median_s"] == {}
    wanted = "f nan" if wrong == "nan" else "dw1 "
    assert f"wrong: relative error of {wanted}" in row["left_out"][cuda.OURS]
    assert len(cuda.table([row])) == 1


def test_who_runs_out_of_memory_is_left_out_and_the_row_stays() -> None:
    case = cuda.case(SMALL["one output"], "cpu")

    def eager() -> tuple[torch.Tensor, ...]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 16 GiB")

    case.contestants[cuda.TF32_OFF] = eager
    row = cuda.measure(case, 3, CEILINGS, Cpu())
    assert row["left_out"] == {cuda.TF32_OFF: "out of memory: CUDA out of memory"}
    assert cuda.TF32_ON in row["median_s"]
    assert row["targets"] == []


def test_contestants_take_turns_after_an_untimed_round() -> None:
    calls: list[str] = []

    def seconds(call: Callable[[], None]) -> float:
        call()
        return {"a": 0.5, "b": 2.0}[calls[-1]]

    contestants = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = cuda.interleaved(contestants, 3, seconds)
    assert times == {"a": [0.5] * 3, "b": [2.0] * 2}
    assert "".join(calls) == "ab" + "ab" + "ab" + "a"


def test_settings_hold_inside_and_are_undone_after_an_error() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    for on in (True, False):
        with cuda.tf32(on), cuda.without_tensor_cores():
            assert torch.backends.cuda.matmul.allow_tf32 == on
            assert not cuda._cuda.TENSOR_CORES
        with pytest.raises(ZeroDivisionError), cuda.tf32(on), cuda.without_tensor_cores():
            _ = 1 / 0
        assert torch.backends.cuda.matmul.allow_tf32 == before
        assert cuda._cuda.TENSOR_CORES


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
    lines = cuda.plain(cuda.HEADINGS, cuda.table([row])).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "size contestant time (quartiles) ratio of floor error memory",
        "n=1 lmc_fast 1 (0.9 to 1.2) ms 1 50% (memory) f 1.0e-07 1 MiB",
        "eager 12.3 (12 to 13) ms 12 f 2.5e-04 1024 MiB",
        "compiled out of memory",
    ]
    assert lines[2].index("eager") == lines[1].index("lmc_fast")


def test_rows_are_chosen_and_quartered() -> None:
    assert cuda.sizes(False) == cuda.SIZES
    quick = cuda.sizes(True, "two_layer_relu forward+backward n=16384 m=16384")
    assert [(size.n, size.m, size.targets) for size in quick] == [(16384, 16384, ())]
    assert cuda.results_file("NVIDIA X 100 (SXM)").name == "nvidia-x-100-sxm.json"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", [["-m", "bench.cuda"], ["tools/gpu_check.py"]])
def test_without_a_gpu_nothing_runs_and_the_status_says_so(command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("no GPU: nothing was run")


def step(code: str, **further: Any) -> gpu_check.Step:
    return gpu_check.Step("a step", [sys.executable, "-c", code], 10, **further)


def outcome(step: gpu_check.Step, tmp_path: Path, limit: float = 60.0) -> tuple[str, str]:
    found = gpu_check.run(step, limit, dict(os.environ), tmp_path / "log")
    return found.result, found.note


def test_steps_pass_fail_time_out_and_are_skipped(tmp_path: Path) -> None:
    assert outcome(step("print('3 passed')", wanted=" passed"), tmp_path) == ("passed", "3 passed")
    assert outcome(step("print('3 skipped')", wanted=" passed"), tmp_path)[0] == "FAILED"
    assert outcome(step("raise SystemExit(7)"), tmp_path) == ("FAILED", "exit status 7")
    assert outcome(step("import time; time.sleep(60)"), tmp_path, 0.5) == ("TIMED OUT", "limit 0 s")
    assert outcome(step("1 / 0", skipped="no such tool"), tmp_path) == ("skipped", "no such tool")
    missing = gpu_check.Step("a step", [str(tmp_path / "nothing")], 10)
    assert outcome(missing, tmp_path)[0] == "FAILED"


def test_an_unsupported_device_is_no_failure_of_the_kernels() -> None:
    sanitized = gpu_check.Step("memcheck", [], 10)
    text = "========= Error: Device not supported."
    assert gpu_check.judge(sanitized, 1, text)[0] == "skipped"
    assert gpu_check.judge(sanitized, 99, "========= ERROR SUMMARY: 2 errors\n") == (
        "FAILED",
        "ERROR SUMMARY: 2 errors",
    )


def test_limits_fit_into_nine_minutes_and_time_left_over_is_shared() -> None:
    assert sum(step.limit for step in gpu_check.steps(None, False)) < 9 * 60
    rest = [step("", skipped=reason) for reason in ("", "why", "")]
    assert gpu_check.allowance(rest, 60.0) == 30.0
    assert gpu_check.allowance(rest[1:], 60.0) == 0.0
    assert gpu_check.allowance(rest[2:], 60.0) == 60.0


def test_steps_see_the_build_and_never_the_source_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    assert gpu_check.environment()["PYTHONPATH"] == str(tmp_path)
    monkeypatch.setattr(gpu_check, "FOLDER", tmp_path)
    gpu_check.make_environment()
    found = subprocess.run(
        [gpu_check.python(), "-c", "import sys, torch; print(sys.path[-1])"],
        env=gpu_check.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(ROOT)


def test_the_summary_is_one_line_a_step() -> None:
    lines = gpu_check.summary(
        [
            gpu_check.Outcome("build", "passed", 61.25, ""),
            gpu_check.Outcome("GPU tests", "FAILED", 2.0, "1 failed, 3 passed"),
        ]
    ).splitlines()
    assert lines == [
        "build      passed       61.2 s",
        "GPU tests  FAILED        2.0 s  1 failed, 3 passed",
    ]
