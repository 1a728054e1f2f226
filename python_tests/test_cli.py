# SPDX-License-Identifier: MIT
"""The command line: help, exit statuses, one line per error, and what commands write."""

from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("typer", reason="needs the extra lmc_fast[studies]")

from safetensors.torch import save_file

import lmc_fast
from lmc_fast import cli
from lmc_fast.cli import main

TINY = ["--set", "widths=[3,5]", "--set", "pairs=3", "--set", "steps=10", "--set", "alphas=5"]
Capture = pytest.CaptureFixture[str]


def fails(arguments: list[str], capsys: Capture, status: int = 1) -> str:
    """The one line a failing command prints."""
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("lmc-fast: ")
    return lines[0]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["study", "plot", "report", "export", "barrier", "info", "--debug"]),
        (["study"], ["--preset", "--set", "--out", "--data-dir", "--device", "resumes"]),
        (["plot"], ["DIR", "PNG and SVG"]),
        (["report"], ["DIR", "--out", "needs no network"]),
        (["export"], ["--csv", "standard output"]),
        (["barrier"], ["--match", "--definition", "--save-plot", "safetensors", "pickle"]),
        (["info"], ["CPU target", "CUDA"]),
    ],
)
def test_help_names_what_there_is(command: list[str], words: list[str], capsys: Capture) -> None:
    assert main([*command, "--help"]) == 0
    written = capsys.readouterr().out
    for word in words:
        assert word in written


def test_a_study_runs_resumes_draws_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", "width", *TINY]) == 0
    (folder,) = (tmp_path / "studies").glob("width-quick-????????")
    written = capsys.readouterr().out
    assert f"6 cells in studies/{folder.name}\n" in written
    assert f"studies/{folder.name}/barrier-vs-width.png" in written
    assert main(["study", "width", *TINY]) == 0
    assert "(6 were there before)" in capsys.readouterr().out

    assert main(["plot", str(folder), "--out", "figures"]) == 0
    drawn = capsys.readouterr().out.split()
    assert all(Path(name).is_file() for name in drawn)
    assert len(drawn) == 4

    assert main(["export", str(folder), "--csv", "--out", "rows.csv"]) == 0
    with open("rows.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["width"] for row in rows] == ["3", "3", "3", "5", "5", "5"]
    assert all(float(row["barrier_gap"]) >= 0 for row in rows)
    capsys.readouterr()
    assert main(["export", str(folder), "--csv"]) == 0
    assert capsys.readouterr().out == Path("rows.csv").read_text()


def test_settings_come_from_a_file_and_can_be_printed(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("pairs = 17\n")
    assert main(["study", "width", "--config", str(file), "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert "pairs = 17\n" in printed
    file.write_text(printed)
    assert main(["study", "width", "--config", str(file), "--print-config"]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["fly"], 2, "fly"),
        (["study", "breadth"], 2, "Invalid value for 'study': 'breadth' is not one of 'width'"),
        (["study", "width", "--colour"], 2, "--colour"),
        (["study", "width", "--threads", "0"], 2, "--threads"),
        (["study", "width", "--device", "mps"], 1, "must be cpu, cuda, cuda:N or auto; got mps"),
        (["study"], 2, "study"),
        (["study", "width", "--set", "pirs=3"], 1, "the nearest valid one is 'pairs'"),
        (["study", "width", "--config", "gone.toml"], 1, "cannot read the configuration gone.toml"),
        (["plot", "nowhere"], 1, "nowhere holds no study"),
        (["export", "nowhere"], 1, "nowhere holds no study"),
        (["barrier", "a.pt", "b.pt"], 1, "there is no checkpoint a.pt"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], status: int, message: str, capsys: Capture
) -> None:
    assert message in fails(arguments, capsys, status)


def test_missing_images_are_one_error_and_leave_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    out = tmp_path / "out"
    command = ["study", "width", "--data", "mnist", "--data-dir", str(tmp_path), "--out", str(out)]
    told = fails(command, capsys)
    assert "were not found" in told
    assert "no network" in told
    assert "--data-dir" in told
    assert not out.exists()


def test_a_gpu_that_is_not_there_is_one_error_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "out"
    told = fails(["study", "width", *TINY, "--device", "cuda", "--out", str(out)], capsys)
    assert "--device cuda needs a GPU, but torch" in told
    assert told.endswith("pass --device cpu")
    assert not out.exists()


def test_the_device_stands_above_the_bar_and_in_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """Without a GPU the default is the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    exported = []
    for name, options in (("asked", ["--device", "cpu"]), ("default", [])):
        assert main(["study", "width", *TINY, *options, "--out", str(tmp_path / name)]) == 0
        target = lmc_fast.backend().cpu_target
        heading = capsys.readouterr().err.splitlines()[0]
        assert heading.startswith(f"width-quick on cpu {target}: takes about ")
        assert heading.endswith("as shipped; these settings differ")
        assert main(["export", str(tmp_path / name)]) == 0
        exported.append([*csv.DictReader(capsys.readouterr().out.splitlines())])
        assert {row["backend"] for row in exported[-1]} == {f"cpu {target}"}
    for asked, default in zip(*exported, strict=True):
        for column in asked:
            if "seconds" not in column and column != "finished_at":
                assert asked[column] == default[column], column


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """What `lmc-fast export DIR | head -1` does."""
    fill = ["study", "width", *TINY, "--set", "pairs=200", "--set", "steps=1"]
    assert main([*fill, "--out", str(tmp_path)]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "lmc_fast", "export", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("config_hash,")
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == cli.FAILED


def test_no_command_prints_the_help_and_no_empty_error(capsys: Capture) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert "study" in captured.out
    assert captured.err == ""


def test_another_configuration_in_the_folder_is_refused(tmp_path: Path, capsys: Capture) -> None:
    command = ["study", "width", *TINY, "--out", str(tmp_path)]
    assert main(command) == 0
    capsys.readouterr()
    told = fails([*command, "--set", "pairs=4"], capsys)
    assert "(pairs: stored 3, given 4)" in told


def test_an_unexpected_error_has_its_traceback_with_debug_only(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def breaks() -> None:
        raise ZeroDivisionError("by zero")

    # `lmc_fast.backend` is the function; the module of that name is behind it.
    monkeypatch.setattr(importlib.import_module("lmc_fast.backend"), "backend", breaks)
    line = fails(["info"], capsys)
    assert "unexpected ZeroDivisionError: by zero; run again with --debug" in line
    for arguments in (["--debug", "info"], ["info", "--debug"]):
        assert main(arguments) == 1
        assert "Traceback" in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    for name in [name for name in sys.modules if name.startswith("lmc_fast.studies")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "typer", None)
    line = fails(["info"], capsys)
    assert "typer is not installed" in line
    assert "pip install 'lmc_fast[studies]'" in line


def test_info_says_what_runs_where(capsys: Capture) -> None:
    assert main(["info"]) == 0
    written = capsys.readouterr().out
    facts = lmc_fast.backend()
    for fact in (facts.version, facts.cpu_target, "CUDA", "threads"):
        assert fact in written


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lmc_fast", "plot", "nowhere"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("lmc-fast: error: nowhere holds no study")
    assert "Traceback" not in done.stderr


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A teacher as a safetensors file, and the same with its neurons reordered as a torch file."""
    net = lmc_fast.teacher(6, 3)
    moved = net.permuted(torch.tensor([2, 0, 1]))
    a, b = tmp_path / "a.safetensors", tmp_path / "b.pt"
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, a)
    torch.save(moved.state_dict(), b)
    return a, b


def test_barrier_of_two_checkpoints(pair: tuple[Path, Path], capsys: Capture) -> None:
    a, b = (str(path) for path in pair)
    command = ["barrier", a, b, "--teacher-width", "3", "--alphas", "11"]
    assert main(command) == 0
    height = float(lmc_fast.barrier(
        lmc_fast.teacher(6, 3), lmc_fast.teacher(6, 3).permuted(torch.tensor([2, 0, 1])),
        teacher=lmc_fast.teacher(6, 3), alphas=11,
    ).height)  # fmt: skip
    written = capsys.readouterr().out
    assert f"{height:.5g}" in written
    assert "definition 'chord', 11 alphas" in written
    assert main([*command, "--match", "gap"]) == 0
    written = capsys.readouterr().out
    assert "neurons matched by 'gap'" in written
    assert "100%" in written
    assert f"{height:.5g}" in written


def test_barrier_on_images_shows_accuracy(tmp_path: Path, capsys: Capture) -> None:
    for seed, name in enumerate("ab"):
        weights = lmc_fast.init_students([seed], 8, 64, scale=1.0, c=10)
        save_file({"w1": weights.w1[0], "w2": weights.w2[0]}, tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    plot = tmp_path / "curve.png"
    assert main(["barrier", *files, "--data", "digits", "--save-plot", str(plot)]) == 0
    written = capsys.readouterr().out
    assert "train" in written
    assert "test" in written
    assert "%" in written
    assert "…" not in written  # nothing cut off
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("match", ["gap", "activations"])
def test_networks_with_biases_are_matched_on_the_images(
    match: str, tmp_path: Path, capsys: Capture
) -> None:
    weights = lmc_fast.init_students([0], 8, 64, scale=1.0, c=10)
    w1, w2 = weights.w1[0], weights.w2[0]
    b1, b2 = torch.linspace(-0.3, 0.3, 8).to(w1), torch.linspace(-1, 1, 10).to(w1)
    order = torch.tensor([3, 0, 7, 1, 2, 6, 4, 5])
    save_file({"w1": w1, "b1": b1, "w2": w2, "b2": b2}, tmp_path / "a.safetensors")
    moved = {"w1": w1[order], "b1": b1[order], "w2": w2[:, order].contiguous(), "b2": b2}
    save_file(moved, tmp_path / "b.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    assert main(["barrier", *files, "--data", "digits", "--match", match]) == 0
    written = capsys.readouterr().out
    assert f"neurons matched by '{match}'" in written
    assert "100%" in written
    told = fails(["barrier", *files, "--match", match], capsys)
    assert f"--match {match}" in told
    assert "needs images, which a teacher has none of" in told


def test_a_studys_weights_know_their_problem(tmp_path: Path, capsys: Capture) -> None:
    setting = ["--set", "problem.teacher_width=3", "--set", "problem.teacher_seed=4"]
    assert main(["study", "width", *TINY, *setting, "--out", str(tmp_path)]) == 0
    assert main(["export", str(tmp_path)]) == 0
    exported = capsys.readouterr().out
    header = exported.index("config_hash,")
    row = next(csv.DictReader(exported[header:].splitlines()))
    file = tmp_path / row["weights"]
    ends = [f"{file}@{row[f'seed_{side}']}" for side in "ab"]
    assert main(["barrier", *ends, "--alphas", "5", "--match", "gap"]) == 0
    written = capsys.readouterr().out
    assert f"{float(row['barrier_gap']):.5g}" in written
    assert f"{float(row['loss_a']):.5g}" in written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--save-plot", "curve.docx"], "--save-plot must end in .png or .svg"),
        (["--data", "digits"], "'problem.teacher_width' does not go with data 'digits': drop it"),
        (["--match", "activations"], "--match activations needs images, which a teacher has none"),
        (["--definition", "midpoint", "--alphas", "4"], "an even number of alphas"),
    ],
)
def test_barriers_that_make_no_sense(
    pair: tuple[Path, Path], change: list[str], message: str, capsys: Capture
) -> None:
    command = ["barrier", *map(str, pair), "--teacher-width", "3", *change]
    # The plot's name is judged once there is a result.
    if "--save-plot" in change:
        assert main(command) == 1
        assert message in capsys.readouterr().err
    else:
        assert message in fails(command, capsys)


def test_networks_of_another_input_dimension_than_the_images(
    pair: tuple[Path, Path], capsys: Capture
) -> None:
    """The pair has d = 6, digits have 64 pixels."""
    told = fails(["barrier", *map(str, pair), "--data", "digits"], capsys)
    assert "x must be (n, d) = (*, 6)" in told
    assert "64)" in told


@pytest.mark.parametrize("config", ["bert-base", "[1]", '{"problem": 3}', '{"problem": {}}'])
def test_metadata_of_other_programs_is_ignored(
    tmp_path: Path, config: str, capsys: Capture
) -> None:
    file = tmp_path / "a.safetensors"
    save_file({"w1": torch.eye(5, 6), "w2": torch.ones(1, 5)}, file, {"config": config})
    assert main(["barrier", str(file), str(file)]) == 0
    assert "chord" in capsys.readouterr().out


def test_networks_of_two_problems_are_refused_unless_one_is_named(
    tmp_path: Path, capsys: Capture
) -> None:
    files = []
    for seed in (0, 4):
        file = tmp_path / f"{seed}.safetensors"
        known = {"data": "teacher", "d": 6, "teacher_seed": seed, "converged_loss": 1e-3 + seed}
        problem = {"problem": known}
        tensors = {"w1": torch.eye(5, 6), "w2": torch.ones(1, 5)}
        save_file(tensors, file, {"config": json.dumps(problem)})
        files.append(str(file))
    told = fails(["barrier", *files], capsys)
    assert "trained on different problems (teacher_seed: 0 and 4)" in told
    assert main(["barrier", *files, "--teacher-seed", "4"]) == 0
    named = capsys.readouterr().out
    assert main(["barrier", files[1], files[1]]) == 0
    assert capsys.readouterr().out == named


class Bomb:
    """Unpickles into a call."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_with_code_is_refused_and_not_run(
    pair: tuple[Path, Path], tmp_path: Path, capsys: Capture
) -> None:
    trace = tmp_path / "it-ran"
    torch.save({"hidden.weight": Bomb(trace)}, tmp_path / "bomb.pt")
    told = fails(["barrier", str(tmp_path / "bomb.pt"), str(pair[1])], capsys)
    assert "bomb.pt was not loaded: it holds code or objects" in told
    assert not trace.exists()


def test_networks_of_two_widths_are_refused(tmp_path: Path, capsys: Capture) -> None:
    for m in (3, 4):
        save_file({"w1": torch.ones(m, 2), "w2": torch.ones(1, m)}, tmp_path / f"{m}.safetensors")
    files = [str(tmp_path / f"{m}.safetensors") for m in (3, 4)]
    assert "must have the same width m; got 3 and 4" in fails(["barrier", *files], capsys)
