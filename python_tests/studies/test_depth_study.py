# SPDX-License-Identifier: MIT
"""The depth study: what it trains, what a row depends on, what is shown of it."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

pytest.importorskip("sklearn", reason="needs the extra lmc_fast[studies]")

from lmc_fast import match_modules, module_barrier
from lmc_fast.cli import main
from lmc_fast.modules.check import tensors_of
from lmc_fast.studies import depth, device
from lmc_fast.studies.cells import Chunk
from lmc_fast.studies.chunk_size import chunk_size
from lmc_fast.studies.config import DepthConfig
from lmc_fast.studies.depth_networks import build, images, initialise, load_student, train_student
from lmc_fast.studies.depth_summary import LABELS, DepthSummary, summarise_depth
from lmc_fast.studies.device import cpu_alone
from lmc_fast.studies.errors import CheckpointError, ConfigError, StoreError
from lmc_fast.studies.html_report import write_report
from lmc_fast.studies.plot_depth import depth_figure
from lmc_fast.studies.plot_style import style
from lmc_fast.studies.plots import plot_study
from lmc_fast.studies.presets import load_config, parse_config, to_toml
from lmc_fast.studies.provenance import PROVENANCE
from lmc_fast.studies.report_depth import depth_table
from lmc_fast.studies.runner import run_study
from lmc_fast.studies.store import CellKey, Row, create, open_existing
from lmc_fast.studies.summary import summarise

TINY = ["widths=[4,8]", "pairs=2", "steps=30", "alphas=5", 'architectures=["mlp2","cnn"]',
        "problem.train_samples=200", "problem.test_samples=50"]  # fmt: skip


def config(*overrides: str) -> DepthConfig:
    found = load_config("depth", overrides=[*TINY, *overrides])
    assert isinstance(found, DepthConfig)
    return found


def summary_of(folder: Path) -> DepthSummary:
    with open_existing(folder) as store:
        return summarise_depth(store)


def measurements(folder: Path) -> list[Row]:
    with open_existing(folder) as store:
        return [{k: v for k, v in row.items() if k not in PROVENANCE} for row in store.rows()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("depth")
    run_study(config(), path)
    return path


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("mlp1", [(8, 64), (8,), (10, 8), (10,)]),
        ("mlp3", [(8, 64), (8,), (8, 8), (8,), (8, 8), (8,), (10, 8), (10,)]),
        ("cnn", [(2, 1, 3, 3), (2,), (2, 2, 3, 3), (2,), (10, 8), (10,)]),
    ],
)
def test_networks_have_the_layers_they_are_named_for(name: str, shapes: list[object]) -> None:
    network = build(name, 8, 64, 10)  # type: ignore[arg-type]
    assert [tuple(p.shape) for p in network.parameters()] == shapes
    initialise(network, 3)
    other = build(name, 8, 64, 10)  # type: ignore[arg-type]
    initialise(other, 3)
    ours, theirs = tensors_of(network), tensors_of(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    weight = next(network.parameters()).detach()
    bound = 1 / math.sqrt(weight[0].numel())
    assert 0.5 * bound < float(weight.abs().max()) <= bound
    assert network(torch.zeros(3, 64)).shape == (3, 10)


def test_a_row_does_not_depend_on_chunks_or_threads(folder: Path, tmp_path: Path) -> None:
    run_study(config(), tmp_path / "one", chunk_pairs=1, threads=1)
    run_study(config(), tmp_path / "three", threads=3)
    wanted = measurements(folder)
    assert len(wanted) == 4
    assert measurements(tmp_path / "one") == wanted
    assert measurements(tmp_path / "three") == wanted


def test_a_kill_loses_few_networks() -> None:
    few = chunk_size(None, config(), depth.sizes(config(), None), torch.device("cpu"), 1)
    threads = torch.get_num_threads()
    # Two architectures: four networks' pairs for each thread.
    assert few(4) == 2 * threads
    assert chunk_size(5, config(), depth.sizes(config(), None), torch.device("cpu"), 1)(4) == 5


def test_a_dry_run_lists_widths_and_steps(capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for text in TINY for word in ("--set", text)]
    assert main(["study", "depth", *words, "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    names = [f"{name}," for name in config().architectures]
    names[-1] = names[-1].rstrip(",")
    assert ["4", *names, "0.003", "30", "2", "0"] in lines
    assert ["8", *names, "0.003", "30", "2", "0"] in lines


def test_torchs_threads_are_left_as_they_were(folder: Path) -> None:
    before = torch.get_num_threads()
    depth.run_chunk(Chunk(config("widths=[4]", "pairs=1"), 4, 0.003, ((0, 1),), threads=2))
    assert torch.get_num_threads() == before


def test_a_row_holds_the_barrier_of_the_students_kept(folder: Path) -> None:
    row = measurements(folder)[-1]
    with open_existing(folder) as store:
        kept = str(store.rows()[-1]["weights"])
    pair = [load_student(folder / kept, "mlp2", int(row[f"seed_{side}"] or 0)) for side in "ab"]
    with pytest.raises(
        CheckpointError, match="no mlp3 of seed 0; it has mlp2, cnn of seeds 0 to 3"
    ):
        load_student(folder / kept, "mlp3", 0)
    with pytest.raises(CheckpointError, match="holds no networks of a depth study"):
        load_student(folder / "study.sqlite", "mlp2", 0)
    a, b = pair
    given = images(depth.problem_of(config()), 64)
    moved = match_modules(a, b, given["train"][0]).apply(b)
    for split, (x, y) in given.items():
        for matching, other in (("none", b), ("weights", moved)):
            found = module_barrier(a, other, x, y, loss="cross_entropy", alphas=5)
            # Here by any number of threads, whose sums round differently.
            height = row[f"barrier_{matching}_{split}_mlp2"]
            assert float(found.height) == pytest.approx(height, rel=1e-3, abs=1e-5)
            assert found.curve.accuracies is not None
            assert row[f"accuracy_{split}_a_mlp2"] == pytest.approx(
                float(found.curve.accuracies[0, 0])
            )


def test_students_that_learn_nothing_are_counted_and_left_out(tmp_path: Path) -> None:
    run_study(config("widths=[4]", "lr=1e-9"), tmp_path)
    row = measurements(tmp_path)[0]
    assert row["failed_a_mlp2"] == 1
    assert row["diverged_a_mlp2"] == 0
    assert row["barrier_weights_test_mlp2"] is None
    summary = summary_of(tmp_path)
    assert summary.groups[0].failed("cnn") == 4
    assert "Of 8 networks 8 failed" in summary.exclusions()
    depth_table(summary)
    assert len(plot_study(tmp_path)) == 2


def test_students_that_diverge_are_told_apart(tmp_path: Path) -> None:
    run_study(config("widths=[4]", "pairs=1", "optimizer=sgd", "lr=1e30"), tmp_path)
    row = measurements(tmp_path)[0]
    assert row["failed_a_mlp2"] == row["diverged_a_mlp2"] == 1
    assert row["loss_train_a_mlp2"] is None


def test_few_samples_may_lack_a_class(tmp_path: Path) -> None:
    few = config("widths=[4]", "pairs=1", "problem.train_samples=4", "batch_size=4", "steps=60")
    assert int(images(depth.problem_of(few), 4)["train"][1].max()) < 9
    run_study(few, tmp_path)
    row = measurements(tmp_path)[0]
    assert row["barrier_weights_test_mlp2"] is not None
    with open_existing(tmp_path) as store:
        kept = str(store.rows()[0]["weights"])
    assert load_student(tmp_path / kept, "mlp2", 1)[-1].out_features == 10


def test_the_figure_says_what_is_not_finished(folder: Path, tmp_path: Path) -> None:
    with open_existing(folder) as store:
        rows = store.rows()
    columns = {**depth.measurement_columns(config()), **PROVENANCE}
    with create(tmp_path, config(), columns) as store:
        for row in rows[:3]:
            store.add({name: value for name, value in row.items() if name != "config_hash"})
    for path, line in ((folder, 0), (tmp_path, 1)):
        with style():
            title = depth_figure(summary_of(path)).get_suptitle()
        assert title.count("not finished: so far 1 at m = 8") == line


def test_a_seed_decides_start_and_batches() -> None:
    given = images(depth.problem_of(config()), 64)["train"]
    first, again, other = (
        tensors_of(train_student(config(), "mlp1", 4, seed, given).network) for seed in (5, 5, 6)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def invented(folder: Path, pairs: int = 12) -> DepthSummary:
    """Barriers 1/m when matched and 1 when not; the first network of every width has failed."""
    settings = config("widths=[4,8,16]", f"pairs={pairs}")
    columns = depth.measurement_columns(settings)
    with create(folder, settings, {**columns, **PROVENANCE}) as store:
        for m in settings.widths:
            for pair in range(pairs):
                row: Row = {
                    "width": m,
                    "lr": settings.lr,
                    "seed_a": 2 * pair,
                    "seed_b": 2 * pair + 1,
                }
                for name, kind in columns.items():
                    row[name] = 0 if kind == "INTEGER" else 0.5
                    if name.startswith("barrier"):
                        row[name] = 1 / m if "weights" in name else 1.0
                    if pair == 0 and name == "failed_a_cnn":
                        row[name] = 1
                    if pair == 0 and name.startswith("barrier") and name.endswith("cnn"):
                        row[name] = None
                store.add({**row, "version": "0.0", "commit": "abc"})
    return summary_of(folder)


def test_means_are_over_pairs_without_a_failure(tmp_path: Path) -> None:
    summary = invented(tmp_path)
    group = summary.groups[1]
    assert len(group.sound("cnn")) == 11
    assert len(group.sound("mlp2")) == 12
    assert group.mean("barrier", "cnn", "weights", "test") == (0.125, 0.125, 0.125)
    assert group.accuracy("cnn", "test") == 0.5
    assert summary.exclusions().startswith("Of 144 networks 3 failed")


def test_the_table_fits_eighty_columns(tmp_path: Path) -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(depth_table(invented(tmp_path)))
    written = out.getvalue()
    assert "…" not in written
    assert "1.2e-1 [1.2e-1, 1.2e-1]" in written
    assert "11/12" in written
    assert "mlp2: 2 hidden layers" in written


def test_the_figure_shows_means_seeds_and_versions(tmp_path: Path) -> None:
    with style():
        figure = depth_figure(invented(tmp_path))
    train = figure.axes[0]
    matched = next(line for line in train.lines if line.get_label() == "2 hidden layers")
    np.testing.assert_allclose(matched.get_ydata(), [0.25, 0.125, 0.0625])
    assert sum(line.get_linestyle() == ":" for line in train.lines) == 2
    assert len(train.collections) == 2  # the intervals of matched means
    written = figure.get_suptitle()
    for expected in ("seeds 0 to 23", "12 pairs per width", "95% bootstrap", "3 failed",
                     "lmc_fast 0.0 (commit abc)", "30 steps"):  # fmt: skip
        assert expected in written
    assert "accuracy barrier" in figure.axes[2].get_ylabel()


def test_few_pairs_are_said_to_be_few(folder: Path) -> None:
    with style():
        assert "too few for intervals" in depth_figure(summary_of(folder)).get_suptitle()


def test_the_page_shows_every_mean(folder: Path, tmp_path: Path) -> None:
    page = write_report(folder, tmp_path / "page.html").read_text()
    for expected in (
        "The loss barrier modulo permutation in deeper networks", "2 hidden layers, not",
        "Mean loss barrier, test (nats)", "Seeds 0 to 3", "chart-accuracy_drop-test",
    ):  # fmt: skip
        assert expected in page


def test_every_stored_curve_can_be_chosen_on_the_page(folder: Path, tmp_path: Path) -> None:
    page = write_report(folder, tmp_path / "page.html").read_text()
    assert 'id="choose-pair"' in page
    (text,) = re.findall(r'<script type="application/json" id="curves">(.*?)</script>', page)
    stored = json.loads(text)
    assert stored["splits"] == ["train", "test"]
    assert [look[0] for look in stored["looks"]] == ["no matching", "matched layer by layer"]
    # Architectures and widths with a pair of which neither network failed.
    groups = summary_of(folder).groups
    places = [(n, g.width) for n in config().architectures for g in groups if g.sound(n)]
    assert len(places) >= 3
    assert [g["name"] for g in stored["groups"]] == [f"{LABELS[n]}, m = {m}" for n, m in places]
    with open_existing(folder) as store:
        for (name, m), group in zip(places, stored["groups"], strict=True):
            raw = np.frombuffer(base64.b64decode(group["losses"]), "<f4")
            losses = raw.reshape(len(group["pairs"]), 2, 2, len(stored["alphas"]))
            for (a, b, heights), of_pair in zip(group["pairs"], losses, strict=True):
                curves = store.curves(CellKey(m, config().lr, a, b))
                found = {(c.split, c.matching): c.losses for c in curves}
                for i, split in enumerate(stored["splits"]):
                    for j, matching in enumerate(("none", "weights")):
                        wanted = found[split, f"{matching}_{name}"]
                        np.testing.assert_allclose(of_pair[i, j], wanted, rtol=1e-6)
                        assert heights[i][j] is not None


def test_the_command_runs_resumes_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    command = ["study", "depth", "--out", str(out), "--device", "auto"]
    for setting in TINY:
        command += ["--set", setting]
    assert main(command) == 0
    written = capsys.readouterr().out
    assert "4 cells" in written
    assert "matched" in written
    assert main(command) == 0
    assert "4 were there before" in " ".join(capsys.readouterr().out.split())
    for suffix in ("png", "svg"):
        assert (out / f"barrier-vs-depth.{suffix}").is_file()
    assert main(["export", str(out)]) == 0
    assert "barrier_weights_test_mlp2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('architectures=["mlp5"]', "setting 'architectures.0'"),
        ('architectures=["cnn","cnn"]', "none of them twice"),
        ("architectures=[]", "at least one name"),
        ("alphas=2", "setting 'alphas'"),
        ("definition=midpoint", None),
        ("matchings=[]", "unknown setting 'matchings'"),
    ],
)
def test_bad_settings(override: str, message: str | None) -> None:
    if message is None:
        with pytest.raises(ConfigError, match="an even number of alphas"):
            config(override, "alphas=4")
        return
    with pytest.raises(ConfigError, match=message):
        config(override)


def test_teachers_gpus_and_missing_samples_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "resolve_device", torch.device)
    with pytest.raises(ConfigError, match="must be one of digits, mnist; got 'teacher'"):
        load_config("depth", data="teacher")
    with pytest.raises(ConfigError, match="depth study is of images"):
        parse_config("depth", {"problem": {"data": "teacher"}})
    with pytest.raises(ConfigError, match="the depth study runs on the CPU alone; got device cuda"):
        cpu_alone("cuda:0", "depth")
    with pytest.raises(ConfigError, match="at most the 1438 samples there are; got 5000"):
        run_study(config("problem.train_samples=5000"), tmp_path)


def test_digits_are_the_default_and_settings_come_back() -> None:
    settings = load_config("depth")
    assert settings.problem.data == "digits"
    assert load_config("width").problem.data == "teacher"
    assert 'architectures = ["mlp1"' in to_toml(settings)
    assert load_config("depth", data="mnist", preset="full").problem.data == "mnist"


def test_studies_are_not_mistaken_for_each_other(tmp_path: Path, folder: Path) -> None:
    told = "holds a depth study, not a study of trained students"
    with open_existing(folder) as store, pytest.raises(StoreError, match=told):
        summarise(store)
    create(tmp_path, load_config("width"), {"barrier_gap": "REAL"}).close()
    with (
        open_existing(tmp_path) as store,
        pytest.raises(StoreError, match="a width study, not a depth"),
    ):
        summarise_depth(store)


def test_what_the_study_finds(tmp_path: Path) -> None:
    """Matching lowers the barrier at every depth, and more so in wide networks."""
    settings = load_config("depth", overrides=["widths=[8,64]", "pairs=2", "alphas=5"])
    run_study(settings, tmp_path)
    narrow, wide = summary_of(tmp_path).groups
    for name in ("mlp1", "mlp2", "mlp3", "mlp4", "cnn"):
        before, after = (g.mean("barrier", name, "weights", "test").value for g in (narrow, wide))
        assert after < before / 2
        assert after < wide.mean("barrier", name, "none", "test").value / 2
        assert wide.accuracy(name, "train") > 0.9
