# SPDX-License-Identifier: MIT
"""Several studies side by side: how they are named, run, resumed, summed up and drawn."""

from __future__ import annotations

import io
import json
import shlex
import sqlite3
from pathlib import Path
from typing import cast

import pytest
from invented import fill_store
from rich.console import Console

from lmc_fast.cli import main
from lmc_fast.studies.comparison import (
    Comparison,
    load_comparison,
    read_comparison,
    shipped,
    slug,
    write_index,
)
from lmc_fast.studies.comparison_table import comparison_table
from lmc_fast.studies.config import (
    DataName,
    LearningRateConfig,
    StudyName,
    TeacherProblem,
    WidthConfig,
)
from lmc_fast.studies.errors import ConfigError, StoreError
from lmc_fast.studies.plot_comparison import comparison_figure
from lmc_fast.studies.plot_style import style
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.store import Probe, create
from lmc_fast.studies.store_format import DATABASE, INDEX, is_comparison
from lmc_fast.studies.tasks import make_task

ALL = [(study, name) for study in ("width", "learning-rate") for name in shipped(study)]


def filled(folder: Path, comparison: Comparison, skip: str = "") -> Path:
    write_index(folder, comparison)
    for variant in comparison.variants:
        if variant.label != skip:
            fill_store(folder / variant.folder, variant.config)
    return folder


def text_of(folder: Path) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(comparison_table(read_comparison(folder)))
    return out.getvalue()


@pytest.mark.parametrize(("study", "name"), ALL)
def test_what_is_shipped_can_be_loaded_and_drawn(
    study: StudyName, name: str, tmp_path: Path
) -> None:
    chosen = load_comparison(study, name, overrides=["pairs=2"])
    assert len({variant.config.digest() for variant in chosen.variants}) == len(chosen.variants)
    assert len({variant.folder for variant in chosen.variants}) == len(chosen.variants)
    assert {variant.config.pairs for variant in chosen.variants} == {2}
    compared = read_comparison(filled(tmp_path, chosen))
    assert list(compared.summaries) == [variant.label for variant in chosen.variants]
    with style():
        figure = comparison_figure(compared)
    labels = figure.axes[-1].get_legend_handles_labels()[1]
    assert [v.label for v in chosen.variants] == labels[: len(chosen.variants)]
    assert chosen.question in figure.get_suptitle()


def test_all_combinations_of_what_is_varied() -> None:
    chosen = load_comparison("width", None, vary=["problem.d=[6, 7]", "pairs=[2,3]"])
    assert [variant.label for variant in chosen.variants] == [
        "d = 6, pairs = 2", "d = 6, pairs = 3", "d = 7, pairs = 2", "d = 7, pairs = 3",
    ]  # fmt: skip
    last = chosen.variants[-1].config
    assert (last.pairs, cast("TeacherProblem", last.problem).d) == (3, 7)
    assert chosen.name == "problem.d, pairs"


def test_names_make_folders() -> None:
    assert [slug(text) for text in ("1/m", "GD, n = 500", "0.01")] == [
        "1-over-m", "gd-n-500", "0.01",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("study", "name", "vary", "message"),
    [
        ("width", None, [], "comparisons of 'width': dimension, teacher"),
        ("width", "dimension", ["pairs=[2]"], "give either --vary"),
        ("width", "colour", [], "has the comparisons dimension.*got 'colour'"),
        ("width", None, ["pairs=3"], r"must be KEY=\[VALUE, ...\].*got 'pairs=3'"),
        ("width", None, ["pears=[3]"], "unknown setting 'pears'"),
        ("width", None, ["lr=[1e-16,1e16]"], "'lr = 1e-16' and 'lr = 1e.16' would share"),
        ("theory", None, ["pairs=[3]"], "'theory' has no comparisons"),
        ("theory", "dimension", [], "'theory' has no comparisons"),
        ("depth", None, [], "'depth' has no comparisons"),
    ],
)
def test_errors_say_what_to_give(
    study: StudyName, name: str | None, vary: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_comparison(study, name, vary=vary)


@pytest.mark.parametrize(
    ("name", "vary", "overrides", "message"),
    [
        ("teacher", [], ["steps=500"], "'teacher' 'steps' is set by every variant: drop them"),
        ("teacher", [], ["widths=[21,22]"], "'widths' is set by every variant"),
        ("dimension", [], ["problem.d=7"], "'problem.d' is set by every variant"),
        ("dimension", [], ["problem=7"], "'problem' is set by every variant"),
        ("training", [], ["pairs=2", "lr=3"], "'lr' is set by w2 trained, SGD, batch 16, SGD, ba"),
        (None, ["lr=[2,4]"], ["lr=3"], "in the comparison 'lr' 'lr' is set by every variant"),
    ],
)
def test_settings_that_variants_set_are_refused(
    name: str | None, vary: list[str], overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"without effect.*{message}"):
        load_comparison("width", name, vary=vary, overrides=overrides)


def test_a_file_gives_what_variants_leave_open(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("steps = 700\n")
    with pytest.raises(ConfigError, match="'steps' is set by every variant"):
        load_comparison("width", "teacher", file=file)
    shared = load_comparison("width", "dimension", file=file).variants
    assert {cast("WidthConfig", variant.config).steps for variant in shared} == {700}
    varied = load_comparison("width", None, vary=["steps=[5,6]"], file=file).variants
    assert [cast("WidthConfig", variant.config).steps for variant in varied] == [5, 6]


@pytest.mark.parametrize(
    ("name", "vary", "data"),
    [
        ("training", [], None),
        (None, ["problem.samples=[50, 60]", 'method=["gd"]'], None),
        (None, ["batch_size=[5, 6]"], "digits"),
    ],
)
def test_the_command_of_a_comparison_makes_it_again(
    name: str | None, vary: list[str], data: DataName | None, tmp_path: Path
) -> None:
    """Without the file, whose settings are in it."""
    file = tmp_path / "mine.toml"
    file.write_text(
        'study = "width"\nwidths = [3, 6]\ntail_from = "none"\ndefinition = "midpoint"\n'
    )
    given = ["pairs=3", "definition=endpoint_mean"]
    chosen = load_comparison("width", name, vary=vary, preset="full", data=data, file=file,
                             overrides=given)  # fmt: skip
    words = shlex.split(chosen.command)
    start = ["lmc-fast", "compare", "width", *([name] if name else [])]
    assert words[: len(start)] == start
    options = list(zip(words[len(start) :: 2], words[len(start) + 1 :: 2], strict=True))
    assert dict(options)["--preset"] == "full"
    assert dict(options).get("--data") == data
    vary, overrides = ([v for k, v in options if k == option] for option in ("--vary", "--set"))
    again = load_comparison("width", name, vary=vary, preset="full", data=data, overrides=overrides)
    assert again == chosen
    assert again.variants[0].config.definition == "endpoint_mean"


def test_a_comparison_of_before_has_no_command(tmp_path: Path) -> None:
    chosen = load_comparison("width", None, vary=["pairs=[2,3]"], overrides=["widths=[4,6]"])
    filled(tmp_path, chosen)
    assert read_comparison(tmp_path).command == chosen.command
    index = json.loads((tmp_path / INDEX).read_text())
    del index["command"]
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert read_comparison(tmp_path).command == ""


def test_shipped_comparisons_are_not_of_images() -> None:
    told = "'width' has the settings of a teacher's students; got data 'digits': give --vary"
    with pytest.raises(ConfigError, match=told):
        load_comparison("learning-rate", "width", data="digits")
    with pytest.raises(ConfigError, match=told):
        load_comparison("learning-rate", "width", overrides=["problem.data=digits"])
    varied = load_comparison("learning-rate", None, vary=["width=[8,9]"], data="digits")
    assert {variant.config.pairs for variant in varied.variants} == {12}


def test_a_comparison_is_not_taken_for_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = load_comparison("width", None, vary=["pairs=[2,3]"], overrides=["widths=[4,6]"])
    folder = str(filled(tmp_path, chosen))
    for words in (["export", folder], ["study", "width", "--out", folder],
                  ["plot", str(tmp_path / "pairs-2"), "--theory", folder]):  # fmt: skip
        assert main(words) == 1
        told = capsys.readouterr().err
        assert f"is a comparison: give the folder of one of its studies, such as {folder}" in told
    assert main(["plot", folder, "--theory", str(tmp_path / "pairs-2")]) == 1
    assert "--theory goes with one study" in capsys.readouterr().err
    assert main(["plot", str(tmp_path / "pairs-2"), "--theory", str(tmp_path / "pairs-3")]) == 1
    assert "pairs-3 holds a width study, not a theory study" in capsys.readouterr().err


def test_the_table_has_peak_and_exponent_of_every_width_study(tmp_path: Path) -> None:
    """Invented barriers are lr / m = 4 / m^2 times something of the pair."""
    chosen = load_comparison("width", None, vary=["pairs=[12,20]"],
                             overrides=["widths=[4,6,10,20,40]"])  # fmt: skip
    written = text_of(filled(tmp_path, chosen))
    assert "pairs = 12" in written
    assert written.count("6 [6, 6]*") == 2
    assert written.count("10 to 40") == 2
    assert written.count("-2.00") == 2
    assert "0 of 60" in written
    # 1e-9 over ten times 4 / 40^2 and the mean of the pairs' factors, 0.98 to 1.02.
    assert written.count("4.0e-8 (m = 40)") + written.count("3.9e-8 (m = 40)") == 2
    assert "0 of 100" in written


def test_the_table_says_where_the_fewest_neurons_live(tmp_path: Path) -> None:
    """What differs at one m / M may be how many of the m are left."""
    chosen = load_comparison("width", None, vary=["pairs=[12,20]"], overrides=["widths=[6,10,20]"])
    filled(tmp_path, chosen)
    with sqlite3.connect(tmp_path / "pairs-12" / DATABASE) as connection:
        connection.execute("UPDATE cells SET alive_a = 7, alive_b = 8 WHERE width = 10")
        connection.execute("UPDATE cells SET alive_a = 19 WHERE width = 20")
    connection.close()
    written = text_of(tmp_path)
    assert "75.0% (m = 10)" in written
    assert "100.0% (m = 6)" in written


@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_too_few_pairs_for_intervals_are_named(study: StudyName, tmp_path: Path) -> None:
    few = load_comparison(study, None, vary=["problem.d=[5,6]"], overrides=["pairs=9"])
    enough = load_comparison(study, None, vary=["problem.d=[5,6]"], overrides=["pairs=10"])
    for name, chosen, told in (("few", few, True), ("enough", enough, False)):
        written = text_of(filled(tmp_path / name, chosen))
        assert ("too few pairs for intervals (below 10)" in written) == told
        assert ("95% bootstrap intervals over pairs" in written) != told
        with style():
            title = comparison_figure(read_comparison(tmp_path / name)).get_suptitle()
        assert ("9 pairs each (seeds 0 to 17), too few for intervals" in title) == told


def test_a_study_that_has_not_begun_is_left_out(tmp_path: Path) -> None:
    chosen = load_comparison("width", None, vary=["pairs=[2,3]"], overrides=["widths=[4,6]"])
    filled(tmp_path, chosen, skip="pairs = 3")
    assert list(read_comparison(tmp_path).summaries) == ["pairs = 2"]
    write_index(tmp_path / "new", chosen)
    with pytest.raises(StoreError, match="no finished cell yet"):
        read_comparison(tmp_path / "new")
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(StoreError, match=r"is damaged.*run the comparison again"):
        read_comparison(tmp_path)


def test_other_settings_leave_a_comparison_as_it_is(tmp_path: Path) -> None:
    chosen = load_comparison("width", None, vary=["pairs=[2,3]"], overrides=["widths=[4,6]"])
    before = (filled(tmp_path, chosen) / INDEX).read_text()
    other = load_comparison("width", None, vary=["pairs=[2,4]"], overrides=["widths=[4,8]"])
    with pytest.raises(StoreError, match=r"pairs-2 holds results of another.*widths.*--out"):
        write_index(tmp_path, other)
    assert (tmp_path / INDEX).read_text() == before
    with pytest.raises(StoreError, match="holds a study: give another --out"):
        write_index(tmp_path / "pairs-2", chosen)


@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_the_figure_says_what_is_not_finished_and_survives_what_failed(
    study: StudyName, tmp_path: Path
) -> None:
    chosen = load_comparison(study, None, vary=["problem.d=[5,6,7]"], overrides=["pairs=12"])
    filled(tmp_path, chosen, skip="d = 7")
    for folder, change in (
        ("d-5", "DELETE FROM cells WHERE seed_a > 20 AND width < 30"),
        ("d-6", "UPDATE cells SET failed_a = 1"),
    ):
        with sqlite3.connect(tmp_path / folder / DATABASE) as connection:
            connection.execute(change)
        connection.close()
    compared = read_comparison(tmp_path)
    assert compared.unfinished == ("d = 5", "d = 7")
    with style():
        figure = comparison_figure(compared)
    title = " ".join(figure.get_suptitle().split())
    assert "teacher with M = 5 orthonormal neurons, d = 5 or 6; " in title
    assert "first weights of scale" in title
    assert "11 to 12 pairs each (seeds 0 to 23), bands" in title
    assert "not finished: d = 5, d = 7" in title
    assert "matched by gap; " in title
    assert ("(failed or not converged)" if study == "width" else "(failed)") in title
    labels = figure.axes[-1].get_legend_handles_labels()[1]
    assert labels[:2] == [
        "d = 5",
        f"d = 6 ({'none converged' if study == 'width' else 'all failed'})",
    ]
    assert len(figure.axes[-1].get_lines()[1].get_xdata()) == 0
    if study == "learning-rate":
        # Both panels have bands where the caption speaks of them.
        assert all(
            any(len(path.vertices) for band in axes.collections for path in band.get_paths())
            for axes in figure.axes
        )
    assert ("11 to 12" if study == "width" else " 11 ") in text_of(tmp_path)


def test_teachers_of_other_widths_are_compared_relative_to_their_loss(tmp_path: Path) -> None:
    chosen = load_comparison("width", "teacher", overrides=["pairs=2"])
    with style():
        figure = comparison_figure(read_comparison(filled(tmp_path, chosen)))
    axes = figure.axes[0]
    assert "loss of the zero network" in axes.get_ylabel()
    assert axes.get_xlabel() == "student width m / teacher width M"
    config = chosen.variants[0].config
    assert isinstance(config, WidthConfig)
    m, zero = config.widths[-1], make_task(config).zero_loss
    x, y = axes.get_lines()[0].get_xydata()[-1]  # type: ignore[index]
    assert x == m / 2
    # 1 + sin(pair) / 10 is 1 and 1.084; 'gap' is ten times the last matching.
    assert y == pytest.approx(10 * config.lr_at(m) / m * (1 + 0.0841471 / 2) / zero, rel=1e-6)


def test_the_command_runs_resumes_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    words = ["compare", "width", "--vary", "problem.d=[5, 6]", "--set", "widths=[3,6]", "--set",
             "pairs=2", "--set", "steps=20", "--out", out]  # fmt: skip
    assert main([*words, "--dry-run"]) == 0
    assert "4 cells, 0 finished" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(words) == 0
    assert is_comparison(tmp_path / "out")
    assert "comparison.png" in capsys.readouterr().out
    assert main(words) == 0
    assert capsys.readouterr().out.count("(4 were there before)") == 2
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("4 cells, 4 finished") == 2
    assert main(["plot", out]) == 0
    assert main(["export", str(tmp_path / "out" / "d-5")]) == 0


@pytest.mark.parametrize(
    ("study", "columns", "words"),
    [
        ("width", "m learning rate steps pairs finished", ["4 1 4,000 3 0", "a pair of students"]),
        ("theory", "m death rates pairs finished", ["4 0, 0.2 3 0", "at each death rate"]),
        ("depth", "m architectures learning rate steps pairs finished",
         ["4 mlp2, cnn 0.003 200 3 0", "of each architecture, 4 networks"]),
    ],
)  # fmt: skip
def test_a_dry_run_has_the_columns_of_its_kind_and_the_folder_in_one_piece(
    study: str, columns: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"theory": ["deaths=[0,0.2]", "problem.teacher_width=2"],
           "depth": ['architectures=["mlp2","cnn"]']}  # fmt: skip
    given = [f"--set={text}" for text in ["pairs=3", "widths=[4]", *own.get(study, [])]]
    folder = str(tmp_path / "a-long-name-[of]-many-parts" / "and-another-one" / ("x" * 90))
    assert main(["study", study, *given, "--dry-run", "--out", folder]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"{study}: {folder}"
    assert lines[1] == columns
    assert lines[2] == words[0]
    assert words[1] in " ".join(lines[4:])


def test_a_dry_run_of_step_sizes_knows_the_threshold_once_it_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study", "learning-rate", "--set", "pairs=2", "--set", "grid=[0.5,0.9]", "--dry-run"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "0.9 x threshold" in shown
    assert "4 cells, 0 finished" in shown
    config = load_config("learning-rate", overrides=["pairs=2", "grid=[0.5,0.9]"])
    assert isinstance(config, LearningRateConfig)
    fill_store(tmp_path, config)
    assert main([*words, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "x threshold" not in shown
    assert "4 cells, 4 finished" in shown
    assert main(["study", "learning-rate", "--dry-run", "--out", str(tmp_path)]) == 1
    assert "another configuration" in capsys.readouterr().err


def test_a_dry_run_does_not_take_a_search_for_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config("learning-rate", overrides=["pairs=2", "grid=[0.5,0.9]"])
    with create(tmp_path, config, {}) as store:
        store.add_probe(Probe(0.1, 4, 0, 2.0, 0.1))
        store.add_probe(Probe(0.9, 4, 4, None, 0.1))
    words = ["study", "learning-rate", "--set", "pairs=2", "--set", "grid=[0.5,0.9]", "--dry-run"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    assert "0.9 x threshold" in capsys.readouterr().out


def test_the_presets_time_is_said_before_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "width", "--dry-run"]) == 0
    shown = capsys.readouterr().out.splitlines()[-1]
    assert "on two cores of" in shown
    assert "differ" not in shown
    assert main(["study", "width", "--dry-run", "--set", "pairs=2"]) == 0
    assert "these settings differ" in capsys.readouterr().out.splitlines()[-1]
