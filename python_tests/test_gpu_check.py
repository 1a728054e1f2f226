# SPDX-License-Identifier: MIT
"""tools/gpu_check.py, as far as it runs without a GPU."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools import gpu_check

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_runs_and_the_status_says_so() -> None:
    command = [sys.executable, "tools/gpu_check.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
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


def test_every_test_that_needs_a_gpu_is_run() -> None:
    steps = gpu_check.steps(None, False)
    run = {argument for step in steps for argument in step.command}
    mark = re.compile(r"^(gpu = |@|    )pytest\.mark\.gpu\b", re.MULTILINE)
    texts = {str(file): file.read_text() for file in (ROOT / "python_tests").rglob("test_*.py")}
    marked = {file for file, text in texts.items() if mark.search(text)}
    assert marked
    assert marked <= run
    sanitized = {file for file in marked if "sanitize_quick" in texts[file]}
    for step in steps:
        if step.name.endswith("check"):
            assert sanitized <= set(step.command), step.name


def test_what_is_not_installed_is_a_reason_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_check.missing("json", "pytest") == ""
    assert gpu_check.missing("json", "no_such_module") == "not installed: no_such_module"
    monkeypatch.setattr(gpu_check, "missing", lambda *names: "why" * ("pydantic" in names))
    skipped = {step.name: step.skipped for step in gpu_check.steps(None, False)}
    assert skipped["study tests"] == skipped["bench study"] == "why"
    assert skipped["GPU tests"] == skipped["bench"] == ""


def test_benchmarks_write_files_of_their_own_and_the_study_takes_no_part_in_quick_ones() -> None:
    steps = {step.name: step for step in gpu_check.steps(Path("folder/figures.json"), True)}
    assert steps["bench"].command[-3:] == ["--quick", "--out", "folder/figures.json"]
    assert steps["bench study"].command[-2:] == ["--out", "folder/figures-study.json"]
    assert steps["bench study"].skipped


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
