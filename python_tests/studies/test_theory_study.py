# SPDX-License-Identifier: MIT
"""The theory study: its rows, resuming, table, figure, command, and what it finds."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from invented import fill_store
from matplotlib.figure import Figure
from rich.console import Console

from lmc_fast.cli import main
from lmc_fast.grouped_minima import (
    barrier_floor,
    mixed_pairs,
    mixed_path_losses,
    sample_grouped_minimum,
)
from lmc_fast.studies import device, runner, theory
from lmc_fast.studies.config import LearningRateConfig, StudyName, TheoryConfig, WidthConfig
from lmc_fast.studies.device import cpu_alone
from lmc_fast.studies.errors import ConfigError, StoreError
from lmc_fast.studies.plot_learning_rate import learning_rate_figure
from lmc_fast.studies.plot_style import style
from lmc_fast.studies.plot_theory import theory_figure
from lmc_fast.studies.plot_width import width_figure
from lmc_fast.studies.plots import plot_study
from lmc_fast.studies.presets import PresetName, load_config
from lmc_fast.studies.provenance import PROVENANCE
from lmc_fast.studies.report_theory import theory_lines, theory_table
from lmc_fast.studies.runner import run_study
from lmc_fast.studies.store import Row, create, open_existing
from lmc_fast.studies.summary import summarise
from lmc_fast.studies.theory_summary import (
    TheoryGroup,
    TheorySummary,
    same_problem,
    summarise_theory,
)

TINY = ["widths=[5,8,30]", "deaths=[0.0,0.2]", "pairs=6", "tail_from=5"]


def config(*overrides: str) -> TheoryConfig:
    found = load_config("theory", overrides=[*TINY, *overrides])
    assert isinstance(found, TheoryConfig)
    return found


def measurements(folder: Path) -> list[Row]:
    with open_existing(folder) as store:
        return [{k: v for k, v in row.items() if k not in PROVENANCE} for row in store.rows()]


def summary_of(folder: Path) -> TheorySummary:
    with open_existing(folder) as store:
        return summarise_theory(store)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, finished."""
    path = tmp_path_factory.mktemp("theory") / "study"
    assert run_study(config(), path).computed == 18
    return path


def invented(folder: Path) -> Path:
    """Dense barriers of exactly 3 m^-2, none with r = 0.2 from m = 40 on, of 12 pairs per width."""
    settings = config("widths=[5,20,40,80]", "tail_from=20", "pairs=12")
    with create(folder, settings, {**theory.measurement_columns(settings), **PROVENANCE}) as store:
        for m in settings.widths:
            for pair in range(12):
                mixed = 0 if m == 5 else pair + 1, int(m == 20)
                barrier = 0.0 if m == 5 else 3.0 * m**-2, 1e-4 * mixed[1]
                row: Row = {"width": m, "lr": 0.0, "seed_a": 2 * pair, "seed_b": 2 * pair + 1}
                for r, K, height in zip(settings.deaths, mixed, barrier, strict=True):
                    row |= {f"mixed_r{r}": K, f"barrier_r{r}": height, f"alpha_r{r}": 0.5}
                    row |= {f"floor_r{r}": height / 10}
                store.add({**row, "version": "9.9", "commit": "abc1234"})
    return folder


def texts(figure: Figure) -> str:
    found = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(" ".join(text.split()) for text in found)


def test_rows_are_those_of_the_library(folder: Path) -> None:
    rows = measurements(folder)
    keys = [(row["width"], row["lr"], row["seed_a"], row["seed_b"]) for row in rows]
    assert keys == [(m, 0.0, 2 * p, 2 * p + 1) for m in (5, 8, 30) for p in range(6)]
    for row in rows:
        m, seeds = int(row["width"] or 0), (int(row["seed_a"] or 0), int(row["seed_b"] or 0))
        for death in (0.0, 0.2):
            a, b = (sample_grouped_minimum(5, m, seed, death) for seed in seeds)
            pairs = mixed_pairs(a, b)
            losses = mixed_path_losses(pairs, 5).losses[0]
            assert row[f"mixed_r{death}"] == len(pairs.share_a)
            assert row[f"barrier_r{death}"] == float(losses.max())
            assert row[f"alpha_r{death}"] == int(losses.argmax()) / 24
            assert row[f"floor_r{death}"] == barrier_floor(a, b)
    with open_existing(folder) as store:
        assert all(row["weights"] is None and row["backend"] for row in store.rows())
    assert list((folder / "weights").iterdir()) == []


@pytest.mark.parametrize("chunk_pairs", [1, 4])
def test_results_do_not_depend_on_the_chunks(
    tmp_path: Path, folder: Path, chunk_pairs: int
) -> None:
    run_study(config(), tmp_path, chunk_pairs=chunk_pairs)
    assert measurements(tmp_path) == measurements(folder)


def test_a_stopped_study_goes_on_where_it_was(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, done = theory.run_chunk, []

    def stops(chunk: runner.Chunk) -> runner.ChunkResult:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(chunk)
        return whole(chunk)

    monkeypatch.setattr(theory, "run_chunk", stops)
    with pytest.raises(runner.Interrupted, match="4 of 18 cells are finished"):
        run_study(config(), tmp_path, chunk_pairs=2)
    monkeypatch.setattr(theory, "run_chunk", whole)
    assert run_study(config(), tmp_path, chunk_pairs=2).computed == 14
    assert measurements(tmp_path) == measurements(folder)


def test_inputs_on_a_sphere_scale_every_loss(tmp_path: Path, folder: Path) -> None:
    """E[x_i^2] is r^2 / d = 4 / 8 there."""
    sphere = config("problem.inputs='sphere'", "problem.radius=2.0", "problem.d=8")
    run_study(sphere, tmp_path)
    for row, gaussian in zip(measurements(tmp_path), measurements(folder), strict=True):
        for name in ("barrier_r0.0", "floor_r0.2"):
            assert row[name] == pytest.approx(0.5 * float(gaussian[name] or 0), rel=1e-14)


def test_the_summary_finds_the_power_and_the_end(tmp_path: Path) -> None:
    summary = summary_of(invented(tmp_path))
    tail = summary.tail()
    assert tail is not None
    assert tail.exponent == pytest.approx((-2.0, -2.0, -2.0))
    assert (tail.first, tail.last) == (20, 80)
    assert summary.zero_from(0.2) == 40
    assert summary.zero_from(0.0) is None
    assert summary.groups[1].certificate(0.2).value == 0.0
    # 12 of 12: from 12 / (12 + z^2).
    assert summary.groups[2].certificate(0.2) == pytest.approx((1, 12 / 15.8415, 1), abs=1e-5)
    lines = "\n".join(theory_lines(summary))
    assert "mean barrier ~ m^-2.000 [-2.000, -2.000]" in lines
    assert "m^2 x mean barrier = 3.00 at m = 80" in lines
    # q = 0.16: 25 x 0.16 x 0.84 / (0.04 pi) = 26.7.
    assert "r = 0.2: no power law, zero for all pairs from m = 40; crossover 27" in lines


def test_a_mean_of_few_barriers_has_no_interval() -> None:
    def group(width: int, values: list[float]) -> TheoryGroup:
        rows = [{"barrier_r0.2": value, "mixed_r0.2": value} for value in values]
        return TheoryGroup(width, 5, rows)

    rare = group(40, [0.0] * 91 + [1e-3] * 9).barrier(0.2)
    assert rare.value == pytest.approx(9e-5)
    assert math.isnan(rare.low)
    assert math.isnan(rare.high)
    enough = group(40, [0.0] * 90 + [1e-3] * 10).barrier(0.2)
    assert 0 < enough.low < enough.value < enough.high
    # Zero by chance, and by necessity.
    assert math.isnan(group(40, [0.0] * 100).barrier(0.2).high)
    assert group(5, [0.0] * 100).barrier(0.2) == (0, 0, 0)


def test_the_table_fits_eighty_columns(tmp_path: Path) -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(theory_table(summary_of(invented(tmp_path))))
    written = out.getvalue()
    assert "…" not in written
    assert "1.9e-3 [1.9e-3, 1.9e-3]" in written  # 3 / 40^2
    assert "1.00 [0.76, 1.00]" in written


def test_the_figure_shows_means_intervals_and_the_fit(tmp_path: Path) -> None:
    with style():
        figure = theory_figure(summary_of(invented(tmp_path)))
    left, right = figure.axes
    dense = next(line for line in left.lines if line.get_label() == "r = 0 (no dead neurons)")
    np.testing.assert_allclose(dense.get_ydata()[1:], [3 / 400, 3 / 1600, 3 / 6400])
    floor = next(line for line in left.lines if "lower bound" in str(line.get_label()))
    np.testing.assert_allclose(floor.get_ydata()[1:], [3 / 4000, 3 / 16000, 3 / 64000])
    assert len(right.containers) == 2  # error bars
    # With r = 0.2 every barrier is zero from m = 40 on, by chance.
    hollow = [line for line in left.lines if line.get_markerfacecolor() == "white"]
    assert [list(line.get_xdata()) for line in hollow] == [[], [40, 80]]
    assert "hollow: fewer than 10 pairs have a barrier" in texts(figure)
    written = texts(figure)
    for expected in (
        "M = 5 orthonormal neurons", "12 pairs per width (seeds 0 to 23)", "bootstrap", "Wilson",
        "student width m", "none left out", "computed by lmc_fast 9.9 (commit abc1234)",
        "mean loss barrier", "upper bound", "death rate r = 0.2", "fit to r = 0, m = 20 to 80",
        "$m^{-2.000}$ [-2.000, -2.000]", "crossover",
    ):  # fmt: skip
        assert expected in written


def test_captions_say_what_is_not_finished_and_whose_minima_are_drawn(tmp_path: Path) -> None:
    law = invented(tmp_path / "law")
    with open_existing(law) as store:
        store._connection.execute("DELETE FROM cells WHERE width = 80 AND seed_a > 8")
    theory = summary_of(law)
    with style():
        assert "not finished: so far 5 at m = 80 " in texts(theory_figure(theory))
    width = load_config("width", overrides=["pairs=6", "widths=[3,5,8,40]"])
    rates = load_config("learning-rate", overrides=["pairs=6", "width=20", "grid=[0.5,0.9]"])
    for name, config, draw in (
        ("width", width, width_figure),
        ("rates", rates, learning_rate_figure),
    ):
        assert isinstance(config, WidthConfig | LearningRateConfig)
        fill_store(tmp_path / name, config)
        with open_existing(tmp_path / name) as store, style():
            written = texts(draw(summarise(store), theory))
        overlay = "theory: 12 pairs per width (seeds 0 to 23), computed by lmc_fast 9.9 (commit"
        assert overlay in written
        assert "theory not finished: so far 5 at m = 80" in written


def test_few_pairs_are_said_to_be_few(folder: Path) -> None:
    with style():
        assert "too few pairs" in texts(theory_figure(summary_of(folder)))


def test_a_study_without_the_dense_law_has_no_fit(tmp_path: Path) -> None:
    run_study(config("deaths=[0.1]"), tmp_path)
    summary = summary_of(tmp_path)
    assert summary.tail() is None
    assert len(theory_lines(summary)) == 1
    assert len(plot_study(tmp_path)) == 2


def test_the_command_runs_resumes_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    command = ["study", "theory", "--out", str(out), "--device", "auto"]
    for setting in TINY:
        command += ["--set", setting]
    assert main(command) == 0
    written = capsys.readouterr().out
    assert "P(zero)" in written
    assert "18 cells" in written
    assert main(command) == 0
    assert "18 were there before" in " ".join(capsys.readouterr().out.split())
    for suffix in ("png", "svg"):
        assert (out / f"barrier-of-random-minima.{suffix}").is_file()
    assert main(["export", str(out)]) == 0
    assert "barrier_r0.2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("widths=[4,8]", "m neurons are of all M = 5 types.*got m = 4.*drop small widths"),
        ("problem.teacher_width=10", "got m = 5"),
        ("widths=[8,5]", "'widths': must rise strictly"),
        ("deaths=[0.1,1.0]", "'deaths.1'.*less than 1"),
        ("deaths=[]", "'deaths': must rise strictly and not be empty"),
        ("problem.teacher_kind='random'", "orthonormal teachers alone"),
        ("lr=4.0", "unknown setting 'lr'"),
    ],
)
def test_bad_settings(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(override)


def test_images_and_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="must be one of teacher; got 'digits'"):
        load_config("theory", data="digits")
    monkeypatch.setattr(device, "resolve_device", torch.device)
    with pytest.raises(ConfigError, match="runs on the CPU alone; got device cuda:0"):
        cpu_alone("cuda:0", "theory")
    assert cpu_alone("auto", "theory") == cpu_alone("cpu", "theory") == torch.device("cpu")


def test_studies_are_not_mistaken_for_each_other(tmp_path: Path, folder: Path) -> None:
    told = "holds a theory study, not a study of trained students"
    with open_existing(folder) as store, pytest.raises(StoreError, match=told):
        summarise(store)
    width = load_config("width")
    create(tmp_path, width, {"barrier_gap": "REAL"}).close()
    with (
        open_existing(tmp_path) as store,
        pytest.raises(StoreError, match="a width study, not a theory"),
    ):
        summarise_theory(store)


def test_the_dense_law_is_drawn_over_a_width_study(tmp_path: Path) -> None:
    law = invented(tmp_path / "law")
    width = load_config("width", overrides=["pairs=6", "widths=[3,5,8,40]"])
    assert isinstance(width, WidthConfig)
    fill_store(tmp_path / "width", width)
    with open_existing(tmp_path / "width") as store, style():
        figure = width_figure(summarise(store), summary_of(law))
    label = "random minima (theory, 12 pairs)"
    line = next(line for line in figure.axes[0].lines if line.get_label() == label)
    assert list(line.get_xdata()) == [20, 40]  # at m = M they are zero, and 80 is off the axis
    np.testing.assert_allclose(line.get_ydata(), [3 / 400, 3 / 1600])
    assert label in texts(figure)
    assert len(plot_study(tmp_path / "width", tmp_path / "out", law)) == 4


def test_minima_as_sparse_are_drawn_over_a_learning_rate_study(tmp_path: Path) -> None:
    law = invented(tmp_path / "law")
    rates = load_config("learning-rate", overrides=["pairs=6", "width=20", "grid=[0.5,0.9]"])
    assert isinstance(rates, LearningRateConfig)
    fill_store(tmp_path / "rates", rates)
    with open_existing(tmp_path / "rates") as store:
        summary = summarise(store)
    # Of 20 neurons 18 are alive in every student of the second step size: r = 0.1.
    for row in summary.groups[1].rows:
        row["alive_a"] = row["alive_b"] = 18
    theory = summary_of(law)
    with style():
        axes = learning_rate_figure(summary, theory).axes[1]
    label = "random minima, as many dead (theory, 12 pairs)"
    line = next(line for line in axes.lines if line.get_label() == label)
    # `invented` has r = 0 and r = 0.2, one barrier for all pairs: means are their own intervals.
    between = (3 / 400 * 1e-4) ** 0.5
    np.testing.assert_allclose(line.get_ydata(), [3 / 400, between])
    np.testing.assert_allclose(theory.barriers_at(20, [0.1]), [(between,) * 3])
    # 1 - 16 / 20 is more than 0.2 by rounding; at m = 40 the barrier with r = 0.2 is zero.
    np.testing.assert_allclose(theory.barriers_at(20, [1 - 16 / 20]), [(1e-4,) * 3])
    assert np.isnan(theory.barriers_at(40, [0.1])[0].value)
    np.testing.assert_allclose(theory.barriers_at(40, [0.0])[0].value, 3 / 1600)


@pytest.mark.parametrize(("m", "death", "last"), [(41, 0.05, "0.06"), (20, 0.3001, "0.32")])
def test_a_theory_study_that_lacks_the_width_or_the_rates_is_named(
    tmp_path: Path, m: int, death: float, last: str
) -> None:
    theory = summary_of(invented(tmp_path))
    with pytest.raises(ConfigError, match=f"lacks m = {m} .* up to {last}: run 'lmc-fast") as error:
        theory.barriers_at(m, [0.0, death])
    words = str(error.value).split("'")[1].split()[3:]
    overrides = [word for word in words if word != "--set"]
    assert max(config(*overrides).deaths) == float(last)


@pytest.mark.parametrize("preset", ["quick", "full"])
def test_the_presets_reach_as_far_as_the_learning_rate_presets(preset: PresetName) -> None:
    """Of whose 20 neurons four are dead at the largest step size before the threshold."""
    minima, rates = (
        load_config(study, preset=preset)  # type: ignore[arg-type]
        for study in ("theory", "learning-rate")
    )
    assert isinstance(minima, TheoryConfig)
    assert isinstance(rates, LearningRateConfig)
    same_problem(rates, minima)
    assert rates.width in minima.widths
    assert minima.deaths[-1] > 4 / 20


@pytest.mark.parametrize(
    ("study", "override", "message"),
    [
        ("width", "problem.d=12", "a study of the same problem; got .*'d': 10.* for .*'d': 12"),
        ("learning-rate", "problem.d=12", "a study of the same problem"),
        ("depth", "pairs=6", "goes with a width or learning-rate study; got the study 'depth'"),
    ],
)
def test_another_problem_is_not_drawn_over(
    tmp_path: Path, study: StudyName, override: str, message: str
) -> None:
    law = invented(tmp_path / "law")
    create(tmp_path / "study", load_config(study, overrides=[override]), {"x": "REAL"}).close()
    with pytest.raises(ConfigError, match=message):
        plot_study(tmp_path / "study", None, law)


def test_an_empty_store_says_to_run_the_study(tmp_path: Path) -> None:
    create(tmp_path, config(), theory.measurement_columns(config())).close()
    with pytest.raises(StoreError, match="has no finished cell yet: run the study first"):
        plot_study(tmp_path)


def test_what_the_study_finds(tmp_path: Path) -> None:
    """Dense barriers fall as m^-2 and not as m^-1/2; with r = 0.1 they are zero far out."""
    run_study(config("widths=[5,400,1600,6400]", "deaths=[0.0,0.1]", "pairs=100"), tmp_path)
    summary = summary_of(tmp_path)
    tail = summary.tail()
    assert tail is not None
    assert tail.first == 400  # at m = M every barrier is zero
    # The interval is about 0.2 wide, finite-m corrections are below 0.05.
    assert tail.exponent.value == pytest.approx(-2.0, abs=0.25)
    narrow, wide = summary.groups[0], summary.groups[-1]
    assert narrow.mean("barrier", 0.0) == wide.mean("barrier", 0.1) == 0.0
    expected = math.sqrt(4 * 6400 / math.pi)
    assert wide.mean("mixed", 0.0) == pytest.approx(expected, rel=0.15)
    assert wide.certificate(0.0).value == 0.0
    assert wide.certificate(0.1).value == 1.0
