# SPDX-License-Identifier: MIT
"""Running, stopping and resuming a study, alone and among others."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

import lmc_fast
from lmc_fast.studies import chunk_size, kinds, learning_rate, runner
from lmc_fast.studies.cells import Chunk, ChunkResult, measurement_columns
from lmc_fast.studies.checkpoints import load_checkpoint
from lmc_fast.studies.config import LearningRateConfig, StudyName, WidthConfig
from lmc_fast.studies.errors import ConfigError, StoreError, StudyError
from lmc_fast.studies.plots import plot_study
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.provenance import PROVENANCE
from lmc_fast.studies.runner import InlineExecutor, Interrupted, drain, run_study
from lmc_fast.studies.store import Probe, Row, create, open_existing
from lmc_fast.studies.tasks import make_task


def measurements(folder: Path) -> list[Row]:
    """Rows without what says where, when and how fast they were computed."""
    with open_existing(folder) as store:
        return [
            {k: v for k, v in row.items() if k not in PROVENANCE and "seconds" not in k}
            for row in store.rows()
        ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: WidthConfig) -> list[Row]:
    """Measurements of the tiny study from a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run_study(tiny, folder)
    return measurements(folder)


def test_every_pair_becomes_one_complete_row(
    tmp_path: Path, tiny: WidthConfig, whole: list[Row]
) -> None:
    outcome = run_study(tiny, tmp_path)
    assert (outcome.cells, outcome.computed) == (8, 8)
    keys = [(row["width"], row["lr"], row["seed_a"], row["seed_b"]) for row in whole]
    assert keys == [(m, 4 / m, 2 * p, 2 * p + 1) for m in (3, 5) for p in range(4)]
    with open_existing(tmp_path) as store:
        rows = store.rows()
    for row in rows:
        assert set(row) == {"config_hash", "width", "lr", "seed_a", "seed_b",
                            *measurement_columns(tiny), *PROVENANCE}  # fmt: skip
        assert None not in row.values()
        assert row["config_hash"] == tiny.digest()
        assert 0 <= row["barrier_gap"] <= row["barrier_none"]
        assert row["steps_a"] == 20
        assert row["seconds"] > 0


def test_rows_agree_with_the_library_used_by_hand(tiny: WidthConfig, whole: list[Row]) -> None:
    """The last pair at m = 5, trained, matched and measured through the public functions."""
    import lmc_fast

    row = whole[-1]
    teacher = lmc_fast.teacher(10, 5)
    start = lmc_fast.init_students([6, 7], 5, 10, scale=1 / 5)
    trained = lmc_fast.train_ensemble(start.w1, lr=4 / 5, steps=20, teacher=teacher)
    assert trained.loss.tolist() == [row["loss_a"], row["loss_b"]]
    a, b = trained.w1[:1], trained.w1[1:]
    for name in ("none", "gap", "weights"):
        found = lmc_fast.barrier(a, b, teacher=teacher, alphas=5, match=name)
        assert found.matching is not None
        assert row[f"barrier_{name}"] == pytest.approx(float(found.height), rel=1e-12)
        assert row[f"alpha_{name}"] == float(found.alpha)
        assert row[f"moved_{name}"] == float(found.matching.moved)


def test_running_again_computes_nothing_and_changes_nothing(
    tmp_path: Path, tiny: WidthConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(tiny, tmp_path)
    with open_existing(tmp_path) as store:
        before = store.rows()

    def never(chunk: Chunk) -> None:
        raise AssertionError(f"{chunk.name} was computed again")

    monkeypatch.setattr(runner, "run_chunk", never)
    assert run_study(tiny, tmp_path).computed == 0
    with open_existing(tmp_path) as store:
        assert store.rows() == before


@pytest.mark.parametrize("chunk_pairs", [1, 3, 4])
def test_results_do_not_depend_on_the_chunks(
    tmp_path: Path, tiny: WidthConfig, whole: list[Row], chunk_pairs: int
) -> None:
    run_study(tiny, tmp_path, chunk_pairs=chunk_pairs)
    assert measurements(tmp_path) == whole


def test_learning_rate_results_do_not_depend_on_the_chunks(
    tmp_path: Path, tiny_rates: LearningRateConfig
) -> None:
    for size in (1, 4):
        run_study(tiny_rates, tmp_path / str(size), chunk_pairs=size)
    alone, together = measurements(tmp_path / "1"), measurements(tmp_path / "4")
    assert len(alone) == 8
    assert all(row["sharpness_a"] for row in alone)
    assert alone == together


@pytest.mark.parametrize("method", ["thread", "process"])
def test_any_executor_will_do(
    tmp_path: Path, tiny: WidthConfig, whole: list[Row], method: str
) -> None:
    pool: Executor = (
        ThreadPoolExecutor(2)
        if method == "thread"
        else ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    )
    with pool:
        run_study(tiny, tmp_path, executor=pool, chunk_pairs=2, window=3)
    assert measurements(tmp_path) == whole


def test_random_matching_does_not_depend_on_the_chunks(tmp_path: Path, tiny: WidthConfig) -> None:
    config = tiny.model_copy(update={"matchings": ("random",), "steps": 1})
    for size in (1, 4):
        run_study(config, tmp_path / str(size), chunk_pairs=size)
    assert measurements(tmp_path / "1") == measurements(tmp_path / "4")


def test_weights_in_the_folder_are_the_trained_ones(
    tmp_path: Path, tiny: WidthConfig, whole: list[Row]
) -> None:
    import lmc_fast

    run_study(tiny, tmp_path)
    with open_existing(tmp_path) as store:
        row = store.rows()[-1]
    file = tmp_path / str(row["weights"])
    student = load_checkpoint(file.with_name(f"{file.name}@{row['seed_b']}"))
    loss = lmc_fast.population_loss(student.w1, student.w2, lmc_fast.teacher(10, 5))
    assert float(loss) == pytest.approx(row["loss_b"], rel=1e-9)
    assert torch.equal(load_checkpoint(file).w1[7], student.w1[0])


class StopAfter(InlineExecutor):
    """Raises KeyboardInterrupt instead of computing the n-th chunk, as Ctrl-C would."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().submit(fn, *args, **kwargs)


def test_an_interrupt_keeps_what_is_finished_and_says_how_to_resume(
    tmp_path: Path, tiny: WidthConfig, whole: list[Row]
) -> None:
    # A window of one: what was computed is written before the next chunk is begun.
    with pytest.raises(Interrupted, match=r"3 of 8 cells are finished and kept in .* resume"):
        run_study(tiny, tmp_path, executor=StopAfter(3), chunk_pairs=1, window=1)
    assert measurements(tmp_path) == whole[:3]
    assert run_study(tiny, tmp_path, chunk_pairs=4).computed == 5
    assert measurements(tmp_path) == whole


KILLED = """
import os, signal, sys
from pathlib import Path
from lmc_fast.studies import checkpoints, runner, store
from lmc_fast.studies.presets import config_from_json

place, count = sys.argv[3], [0]

def deadly(module, name, at):
    real = getattr(module, name)
    def wrapped(*arguments, **named):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)
    setattr(module, name, wrapped)

if place == "half-written weights":
    # In the middle of the second chunk's file: written, and not yet under its name.
    deadly(checkpoints.os, "replace", 2)
elif place == "inside a transaction":
    # After the fifth row was inserted, before its curves and its COMMIT.
    deadly(store, "_blob", 4 * 9 + 1)
else:
    deadly(store.Store, "add", 4)
runner.run_study(config_from_json(sys.argv[1]), Path(sys.argv[2]), chunk_pairs=2)
"""
PLACES = {"half-written weights": 2, "inside a transaction": 4, "between rows": 3}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, tiny: WidthConfig) -> dict[str, Path]:
    """Folders of studies whose processes were killed, run side by side."""
    root = tmp_path_factory.mktemp("killed")
    folders = {place: root / place for place in PLACES}
    running = [
        subprocess.Popen([sys.executable, "-c", KILLED, tiny.canonical(), str(folder), place])
        for place, folder in folders.items()
    ]
    assert [process.wait(120) for process in running] == [-signal.SIGKILL] * len(PLACES)
    return folders


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_study_resumes_to_the_same_rows(
    killed: dict[str, Path], tiny: WidthConfig, whole: list[Row], place: str
) -> None:
    folder = killed[place]
    assert measurements(folder) == whole[: PLACES[place]]
    outcome = run_study(tiny, folder)
    assert outcome.computed == 8 - PLACES[place]
    assert measurements(folder) == whole
    with open_existing(folder) as store:
        for row in store.rows():
            load_checkpoint(folder / str(row["weights"]))


TOGETHER = """
import sys
from pathlib import Path
from lmc_fast.studies.presets import config_from_json
from lmc_fast.studies.runner import run_study

print("ready", flush=True)
sys.stdin.readline()
print(run_study(config_from_json(sys.argv[1]), Path(sys.argv[2]), chunk_pairs=1).computed)
"""


def test_two_processes_share_a_folder(tmp_path: Path, tiny: WidthConfig, whole: list[Row]) -> None:
    command = [sys.executable, "-c", TOGETHER, tiny.canonical(), str(tmp_path / "shared")]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    # Both now create the store at the same moment.
    computed = [int(process.communicate("go\n", timeout=120)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(computed) == 8
    assert measurements(tmp_path / "shared") == whole


def test_processes_that_share_a_folder_find_one_grid(
    tmp_path: Path, tiny_rates: LearningRateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process is always first to store a probe, with a sharpness that differs."""
    real = learning_rate.run_probe

    def beaten(work: learning_rate.ProbeTask) -> Probe:
        found = real(work)
        with open_existing(tmp_path) as other:
            other.add_probe(found._replace(sharpness=found.sharpness and 1.5 * found.sharpness))
        return found

    monkeypatch.setattr(learning_rate, "run_probe", beaten)
    assert run_study(tiny_rates, tmp_path).computed == 8
    # Whoever resumes knows the stored probes only.
    assert run_study(tiny_rates, tmp_path).computed == 0


def test_control_c_reaches_a_running_study(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "lmc_fast", "study", "width", "--out", str(tmp_path), "--chunk", "1",
        "--set", "widths=[3,5]", "--set", "pairs=4000", "--set", "steps=20", "--set", "alphas=5",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    # Rows of the first file are written once there is a second.
    while len([*(tmp_path / "weights").glob("*.safetensors")]) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "of 8000 cells are finished and kept in" in told
    assert "run the same command again to resume" in told
    assert "Traceback" not in told
    assert measurements(tmp_path)


@pytest.mark.parametrize("full", ["weights", "rows"])
def test_a_full_disk_ends_in_one_error_and_loses_nothing(
    tmp_path: Path, tiny: WidthConfig, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    # Curves of 501 points: every row needs pages of its own.
    config = tiny.model_copy(update={"alphas": 501})
    run_study(config, tmp_path / "whole")
    whole = measurements(tmp_path / "whole")
    if full == "weights":
        synced = iter([True, False])

        def fsync(_: int) -> None:
            if not next(synced):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fsync)
        expected = "No space left on device; finished cells are kept"
    else:
        limit_pages(monkeypatch)
        expected = "the disk .* is full; finished cells are kept"
    with pytest.raises(StoreError, match=expected):
        run_study(config, tmp_path / "full", chunk_pairs=2)
    monkeypatch.undo()
    kept = measurements(tmp_path / "full")
    assert kept == whole[: len(kept)]
    assert 0 < len(kept) < len(whole)
    assert not list((tmp_path / "full" / "weights").glob("*.partial"))
    run_study(config, tmp_path / "full")
    assert measurements(tmp_path / "full") == whole


def limit_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a store grow by three rows and no further: SQLite then reports a full disk itself."""
    real = runner.Store.add

    def add(store: Any, *arguments: Any) -> bool:
        if len(store.finished()) == 3:
            pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
            store._connection.execute(f"PRAGMA max_page_count = {pages}")
        return real(store, *arguments)

    monkeypatch.setattr(runner.Store, "add", add)


def test_a_failing_chunk_keeps_the_rows_before_it(
    tmp_path: Path, tiny: WidthConfig, whole: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.run_chunk

    def fails_later(chunk: Chunk) -> Any:
        if chunk.width == 5:
            raise MemoryError("no memory for m = 5")
        return real(chunk)

    monkeypatch.setattr(runner, "run_chunk", fails_later)
    with pytest.raises(MemoryError, match="no memory for m = 5"):
        run_study(tiny, tmp_path, window=1)
    assert measurements(tmp_path) == whole[:4]


def test_a_failing_chunk_keeps_the_rows_of_its_neighbours(
    tmp_path: Path, tiny: WidthConfig, whole: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All four in flight begin before the first fails, and finish after it."""
    real, together = runner.run_chunk, threading.Barrier(4)

    def first_fails(chunk: Chunk) -> Any:
        together.wait(60)
        if chunk.pairs[0][0] == 0:
            raise MemoryError("no memory for seed 0")
        time.sleep(0.2)
        return real(chunk)

    monkeypatch.setattr(runner, "run_chunk", first_fails)
    with (
        ThreadPoolExecutor(4) as pool,
        pytest.raises(MemoryError, match="no memory for seed 0"),
    ):
        run_study(tiny, tmp_path, executor=pool, chunk_pairs=1, window=4)
    assert measurements(tmp_path) == whole[1:4]


def test_a_pool_that_breaks_on_submission_keeps_what_is_running() -> None:
    class Breaking(ThreadPoolExecutor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if args == (2,):
                raise BrokenExecutor("a worker died")
            return super().submit(fn, *args, **kwargs)

    together = threading.Barrier(2)

    def work(i: int) -> int:
        together.wait(60)
        return i * i

    kept: list[int] = []
    with Breaking(2) as pool, pytest.raises(BrokenExecutor, match="a worker died"):
        kept.extend(drain(pool, work, range(9), window=3))
    assert sorted(kept) == [0, 1]


def test_rows_keep_the_weights_they_were_measured_on(tmp_path: Path, tiny: WidthConfig) -> None:
    """Two processes compute one chunk with a difference in the last bits; the first is kept."""
    chunk = Chunk(tiny, 3, 4 / 3, ((0, 1), (2, 3)))
    first = runner.run_chunk(chunk)
    tensors = {**first.tensors, "w1": first.tensors["w1"] * (1 + 1e-15)}
    second = replace(first, tensors=tensors)
    with create(tmp_path, tiny, {**measurement_columns(tiny), **PROVENANCE}) as store:
        assert runner._keep(store, first) == 2
        assert runner._keep(store, second) == 0
        for row in store.rows():
            found = load_checkpoint(tmp_path / str(row["weights"]))
            assert torch.equal(found.w1, first.tensors["w1"])


def test_provenance_is_that_of_the_worker(
    tmp_path: Path, tiny: WidthConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny.model_copy(update={"pairs": 1, "widths": (3,)})
    # Read when a worker loads the library, which this process did before.
    monkeypatch.setenv("LMC_FAST_CPU_TARGET", "baseline")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        run_study(config, tmp_path, executor=pool)
    with open_existing(tmp_path) as store:
        assert [row["backend"] for row in store.rows()] == ["cpu baseline"]


# What a store of a version without --device says of a row's origin.
BEFORE_DEVICES = {
    "weights": "TEXT", "version": "TEXT", "commit": "TEXT", "machine": "TEXT", "backend": "TEXT",
    "seconds": "REAL", "finished_at": "TEXT",
}  # fmt: skip


def test_a_study_begun_before_there_were_devices_is_finished(
    tmp_path: Path, tiny: WidthConfig, whole: list[Row]
) -> None:
    first = runner.run_chunk(Chunk(tiny, 3, 4 / 3, ((0, 1), (2, 3))))
    with create(tmp_path, tiny, {**measurement_columns(tiny), **BEFORE_DEVICES}) as store:
        old = {**first.provenance, "backend": "cpu of old"}
        runner._keep(store, replace(first, provenance=old))
    assert run_study(tiny, tmp_path, device="cpu").computed == 6
    assert measurements(tmp_path) == whole
    with open_existing(tmp_path) as store:
        backends = [row["backend"] for row in store.rows()]
    assert backends == ["cpu of old"] * 2 + [f"cpu {lmc_fast.backend().cpu_target}"] * 6


def test_every_chunk_and_probe_is_sent_to_the_device(
    tmp_path: Path, tiny_rates: LearningRateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is pretended: what is meant for it is computed on the CPU."""
    gpu, sent = torch.device("cuda", 1), []
    real_chunk, real_probe, cpu = runner.run_chunk, learning_rate.run_probe, torch.device("cpu")

    def run_chunk(chunk: Chunk) -> ChunkResult:
        sent.append(chunk.device)
        found = real_chunk(replace(chunk, device=cpu))
        return replace(found, chunk=chunk)

    def run_probe(work: learning_rate.ProbeTask) -> Probe:
        sent.append(work.device)
        return real_probe(replace(work, device=cpu))

    monkeypatch.setattr(runner, "run_chunk", run_chunk)
    monkeypatch.setattr(learning_rate, "run_probe", run_probe)
    monkeypatch.setattr(kinds, "resolve_device", lambda asked: {"cuda:1": gpu}[asked])
    monkeypatch.setattr(kinds, "make_task", lambda config, *_: make_task(config))
    monkeypatch.setattr(chunk_size, "free_memory", lambda device: {gpu: 2**36}[device])
    assert run_study(tiny_rates, tmp_path, device="cuda:1").computed == 8
    # All pairs of a step size at once, for there is memory enough.
    assert len(sent) == 2 + len(probes(tmp_path))
    assert set(sent) == {gpu}
    monkeypatch.undo()
    assert run_study(tiny_rates, tmp_path).computed == 0


def probes(folder: Path) -> list[Probe]:
    with open_existing(folder) as store:
        return store.probes()


def test_a_gpu_that_is_too_small_is_one_error(
    tmp_path: Path, tiny: WidthConfig, whole: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.run_chunk

    def fails_later(chunk: Chunk) -> ChunkResult:
        if chunk.width == 5:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB. GPU 0")
        return real(chunk)

    monkeypatch.setattr(runner, "run_chunk", fails_later)
    wanted = (
        r"cpu has too little memory: pass a smaller --chunk, .* kept .* \(CUDA out of memory\)$"
    )
    with pytest.raises(StudyError, match=wanted):
        run_study(tiny, tmp_path, window=1)
    assert measurements(tmp_path) == whole[:4]


def test_diverged_students_are_flagged_and_their_pairs_have_no_barrier(
    tmp_path: Path, tiny: WidthConfig
) -> None:
    config = tiny.model_copy(update={"lr": 400.0, "widths": (3,)})
    run_study(config, tmp_path)
    for row in measurements(tmp_path):
        assert (row["failed_a"], row["failed_b"]) == (1, 1)
        assert row["barrier_gap"] is None
        assert row["moved_weights"] is None


def test_results_come_as_they_finish_and_items_are_asked_for_late() -> None:
    asked = []

    def items() -> Iterator[int]:
        for i in range(6):
            asked.append(i)
            yield i

    with ThreadPoolExecutor(2) as pool:
        results = drain(pool, lambda i: i * i, items(), window=2)
        first = next(results)
        assert len(asked) == 2
        assert sorted([first, *results]) == [0, 1, 4, 9, 16, 25]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch_size=5000", "'batch_size' must be at most the 1438 samples there are; got 5000"),
        ("problem.train_samples=63", "'batch_size' must be at most the 63 samples there are"),
        ("problem.train_samples=2000", "train_samples' must be at most the 1438 samples"),
        ("problem.test_samples=2000", "test_samples' must be at most the 359 samples"),
    ],
)
def test_more_samples_than_there_are_is_refused_before_a_folder_is_made(
    tmp_path: Path, setting: str, message: str
) -> None:
    config = load_config("width", data="digits", overrides=[setting])
    with pytest.raises(ConfigError, match=message):
        run_study(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


IMAGES = ["pairs=2", "steps=20", "alphas=3"]


@pytest.mark.parametrize(
    ("study", "overrides"),
    [
        ("width", ["widths=[8,16]", "lr=0.5", "method=gd", "batch_size=none"]),
        ("width", ["widths=[8,16]", "lr=0.5"]),
        ("learning-rate", ["grid=[0.1,0.5]", "bracket_students=2", "bracket_tolerance=0.4"]),
    ],
)
def test_a_study_on_images(tmp_path: Path, study: StudyName, overrides: list[str]) -> None:
    config = load_config(study, data="digits", overrides=[*IMAGES, *overrides])
    assert run_study(config, tmp_path).computed == 4
    for row in measurements(tmp_path):
        for side in "ab":
            assert row[f"failed_{side}"] == 0
            assert 0.1 < row[f"accuracy_train_{side}"] <= 1
            assert 0.1 < row[f"accuracy_test_{side}"] <= 1
            assert 0 < row[f"loss_test_{side}"] < math.log(10)
        for matching in config.matchings:
            for split in ("train", "test"):
                assert row[f"barrier_{matching}_{split}"] >= 0
                assert -1 <= row[f"accuracy_drop_{matching}_{split}"] <= 1
        assert f"barrier_{matching}" not in row
        assert "sharpness_a" not in row
    drawn = {path.name for path in plot_study(tmp_path)}
    names = ("barrier-along-alpha", f"barrier-vs-{study}")
    assert drawn == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}


@pytest.mark.parametrize("name", ["chunk_pairs", "window"])
def test_sizes_below_one_are_refused(tmp_path: Path, tiny: WidthConfig, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
        run_study(tiny, tmp_path, **{name: 0})  # type: ignore[arg-type]
