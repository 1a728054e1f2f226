# SPDX-License-Identifier: MIT
"""The page of a comparison: it shows what the figure and the table do, and loads nothing."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from invented import fill_store
from pages import Page, check_command, needs_browser, ran

pytest.importorskip("plotly", reason="needs the extra lmc_fast[studies]")

from plotly import graph_objects

from lmc_fast.cli import main
from lmc_fast.studies.comparison import (
    Comparison,
    load_comparison,
    read_comparison,
    write_index,
)
from lmc_fast.studies.comparison_table import comparison_table
from lmc_fast.studies.config import DataName, StudyName
from lmc_fast.studies.errors import StoreError
from lmc_fast.studies.html_report import write_report
from lmc_fast.studies.html_report.chart import decade_ticks
from lmc_fast.studies.html_report.settings import settings
from lmc_fast.studies.plot_comparison import comparison_figure
from lmc_fast.studies.plot_style import style
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.store import open_existing
from lmc_fast.studies.store_format import DATABASE, INDEX

ORIGIN = {"version": "9.9", "commit": "abc1234", "machine": "Abacus <&> Sons", "backend": "beads",
          "seconds": 2.0, "finished_at": "2025-03-06T00:00:00+00:00"}  # fmt: skip


def small(study: StudyName = "width", data: DataName = "teacher") -> Comparison:
    vary = "problem.d=[5, 10]" if data == "teacher" else "batch_size=[16, 32]"
    grid = "widths=[3,5,8,16,32]" if study == "width" else "grid=[0.5,0.9,1.1]"
    return load_comparison(study, None, vary=[vary], data=data, overrides=["pairs=12", grid])


def filled(folder: Path, comparison: Comparison, skip: str = "", failed: int = 0) -> Path:
    write_index(folder, comparison)
    for variant in comparison.variants:
        if variant.label != skip:
            fill_store(folder / variant.folder, variant.config, failed)
            setters = ", ".join(f'"{name}" = ?' for name in ORIGIN)
            change(folder / variant.folder, f"UPDATE cells SET {setters}", *ORIGIN.values())
    return folder


def change(folder: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute(statement, values)
    connection.close()


def page_of(folder: Path) -> Page:
    return Page(write_report(folder))


@pytest.mark.parametrize("data", ["teacher", "digits"])
@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_every_comparison_has_a_whole_page(
    tmp_path: Path, study: StudyName, data: DataName
) -> None:
    chosen = small(study, data)
    page = page_of(filled(tmp_path, chosen, failed=2))
    headings = ("Question", "Figures", "Results", "Variants", "Settings", "How to reproduce it")
    for heading in headings:
        assert f"<h2>{heading}</h2>" in page.source
    assert f", by {chosen.name}</h1>" in page.source
    assert chosen.question in page.text
    charts = page.read("charts")
    assert list(charts) == [*(["alive"] if study == "learning-rate" else []), "barrier"]
    ids = {named.get("id") for _, named in page.tags}
    for name, figure in charts.items():
        assert f"chart-{name}" in ids
        # Raises for a property that plotly does not know.
        graph_objects.Figure(figure)
    for caption in page.source.split("<figcaption>")[1:]:
        for said in ("12 pairs each (seeds 0 to 23)", "Matched by gap", "pairs are left out",
                     "lmc_fast 9.9 (commit abc1234)", "Drag to zoom"):  # fmt: skip
            assert said in caption
    assert "curves" not in page.scripts


@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_the_charts_are_the_figure(tmp_path: Path, study: StudyName) -> None:
    """Line by line: places, means, names, colours and bands."""
    chosen = load_comparison(study, None, vary=["problem.d=[5, 6]", "lr_per_width=[true]"],
                             overrides=["pairs=12"])  # fmt: skip
    filled(tmp_path, chosen)
    if study == "width":
        change(
            tmp_path / "d-6-lr-per-width-true", "UPDATE cells SET barrier_gap = 0 WHERE width = 5"
        )
    # Five sound pairs, but seventeen sound students.
    last = "width * 1e6 + lr = (SELECT max(width * 1e6 + lr) FROM cells)"
    fail = f"UPDATE cells SET failed_a = 1 WHERE seed_a > 8 AND {last}"
    change(tmp_path / "d-5-lr-per-width-true", fail)
    with style():
        figure = comparison_figure(read_comparison(tmp_path))
    charts = page_of(tmp_path).read("charts")
    assert len(figure.axes) == len(charts)
    for axes, chart in zip(figure.axes, charts.values(), strict=True):
        lines = [trace for trace in chart["data"] if "marker" in trace]
        drawn = [line for line in axes.get_lines() if line.get_marker() != "None"]
        assert len(lines) == len(drawn) == 3
        for trace, line in zip(lines, drawn, strict=True):
            y = np.array(trace["y"], dtype=np.float64)
            there = np.isfinite(y)
            wanted = np.asarray(line.get_ydata(), dtype=np.float64)
            np.testing.assert_allclose(y[there], wanted[np.isfinite(wanted)], rtol=1e-12)
            at = np.asarray(line.get_xdata(), dtype=np.float64)[np.isfinite(wanted)]
            np.testing.assert_allclose(np.array(trace["x"])[there], at, rtol=1e-12)
            assert trace["line"]["color"] == line.get_color()
        names = [trace["name"] for trace in lines if trace.get("showlegend") is not False]
        assert names == [variant.label for variant in chosen.variants]
        bands = [trace for trace in chart["data"] if "fill" in trace]
        count = sum(len(trace["x"]) // 2 for trace in bands)
        groups = len(lines[0]["x"])
        assert count == 2 * groups - 1
        title = chart["layout"]["xaxis"]["title"]["text"]
        assert title == figure.axes[-1].get_xlabel()
        assert chart["layout"]["yaxis"]["title"]["text"] == axes.get_ylabel().replace("\n", " ")
        notes = [note["text"] for note in chart["layout"]["annotations"]]
        assert notes == ([] if study == "width" else ["edge of stability"])


def test_numbers_are_means_of_the_rows(tmp_path: Path) -> None:
    page = page_of(filled(tmp_path, small(), failed=3))
    numbers = page.records("numbers")
    assert len(numbers) == 10
    for row in numbers:
        with open_existing(tmp_path / row["line"].replace(" = ", "-")) as store:
            cells = [cell for cell in store.rows() if cell["width"] == round(5 * float(row["x"]))]
        sound = [c["barrier_gap"] for c in cells if not (c["failed_a"] or c["failed_b"])]
        assert float(row["value"]) == pytest.approx(np.mean(sound), rel=1e-5)
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
        assert int(row["values"]) == len(sound) == 10


def test_the_table_is_the_commands(tmp_path: Path) -> None:
    page = page_of(filled(tmp_path, small()))
    made = comparison_table(read_comparison(tmp_path))
    head, *rows = page.tables["results"]
    assert head == [str(column.header) for column in made.columns]
    printed = zip(*(column.cells for column in made.columns), strict=True)
    assert rows == [[str(cell) for cell in row] for row in printed]
    for name in ("d-5", "d-10"):
        assert [row["m"] for row in page.records(f"results-{name}")] == ["3", "5", "8", "16", "32"]


def test_settings_are_apart_that_variants_share(tmp_path: Path) -> None:
    chosen = small()
    page = page_of(filled(tmp_path, chosen))
    assert page.records("varied") == [
        {"variant": "d = 5", "problem.d": "5"}, {"variant": "d = 10", "problem.d": "10"},
    ]  # fmt: skip
    shared = {row["setting"]: row["value"] for row in page.records("settings")}
    for variant, varied in zip(chosen.variants, page.records("varied"), strict=True):
        del varied["variant"]
        assert shared | varied == settings(variant.config)
    one = load_comparison("width", None, vary=["pairs=[12]"], overrides=["widths=[4,6]"])
    assert "varied" not in page_of(filled(tmp_path / "one", one)).tables


def test_the_commands_and_configurations_make_it_again(tmp_path: Path) -> None:
    chosen = small()
    page = page_of(filled(tmp_path, chosen))
    (command,) = re.findall(r'<pre id="command">(.*?)</pre>', page.source)
    assert html.unescape(command) == f"{chosen.command} --out DIR"
    links = [named for tag, named in page.tags if tag == "a"]
    for variant, link in zip(chosen.variants, links, strict=True):
        name = f"{variant.folder}.toml"
        assert link["download"] == name
        (tmp_path / name).write_text(unquote(link["href"].partition(",")[2]))
        assert load_config("width", file=tmp_path / name) == variant.config
        assert f"lmc-fast report DIR/{variant.folder} " in page.text
        assert f"lmc-fast study width --config {name} --out DIR/{variant.folder}" in page.text
        assert variant.config.digest() in page.source
    assert page.records("provenance") == [
        {"variant": variant.label, "version": "9.9", "commit": "abc1234",
         "machine": "Abacus <&> Sons", "device": "beads", "pairs": "60"}
        for variant in chosen.variants
    ]  # fmt: skip
    assert "in 240 seconds of work" in page.text


def test_a_comparison_of_before_says_that_its_command_is_not_known(tmp_path: Path) -> None:
    index = json.loads((filled(tmp_path, small()) / INDEX).read_text())
    del index["command"]
    (tmp_path / INDEX).write_text(json.dumps(index))
    page = page_of(tmp_path)
    assert "did not keep its command: run that again" in page.text
    assert "lmc-fast compare" not in page.text
    assert "--config d-5.toml" in page.text


def test_an_unfinished_comparison_says_what_is_missing(tmp_path: Path) -> None:
    assert "Unfinished" not in page_of(filled(tmp_path / "whole", small())).text
    folder = filled(tmp_path / "part", small(), skip="d = 10")
    change(folder / "d-5", "DELETE FROM cells WHERE width = 32 AND seed_a >= 8")
    page = page_of(folder)
    said = "Unfinished: pairs are missing of d = 5; d = 10. Run the comparison's command again"
    assert said in page.text
    assert [row[""] for row in page.records("results")] == ["d = 5"]


@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_without_a_survivor_there_is_a_page(tmp_path: Path, study: StudyName) -> None:
    page = page_of(filled(tmp_path, small(study), failed=24))
    lost = "none converged" if study == "width" else "all failed"
    traces = page.read("charts")["barrier"]["data"]
    assert [trace["name"] for trace in traces] == [f"d = 5 ({lost})", f"d = 10 ({lost})"]


def test_an_empty_or_damaged_comparison_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_index(tmp_path, small())
    with pytest.raises(StoreError, match="has no finished cell yet: run the comparison first"):
        write_report(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    assert main(["report", str(tmp_path)]) == 1
    assert "is damaged ('name'): run the comparison again" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_the_page_loads_nothing_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    chosen = small()
    page = page_of(filled(tmp_path, chosen))
    assert "Abacus <&> Sons" not in page.source
    for tag, named in page.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "form", "base")
        for attribute in ("src", "href", "action", "data", "srcset"):
            assert named.get(attribute, "data:").startswith("data:"), (tag, named)
    (policy,) = [named["content"] for _, named in page.tags if "http-equiv" in named]
    assert "default-src 'none'" in policy


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = filled(tmp_path / "comparison", small())
    check_command(folder, tmp_path, capsys)
    assert main(["report", str(folder / "d-5")]) == 0
    assert (folder / "d-5" / "report.html").is_file()


@pytest.mark.parametrize(
    ("places", "marks"),
    [
        ([1.2, 4.0, 16.0], [2.0, 5.0, 10.0]),
        ([4, 3000], [5, 10, 20, 50, 100, 200, 500, 1000, 2000]),
        # On its own no label would say what the scale is.
        ([1.2, 1.6], [1.0, 2.0]),
        ([0.8, 1.2], [0.5, 1.0, 2.0]),
    ],
)
def test_widths_are_labelled_at_round_numbers(places: list[float], marks: list[float]) -> None:
    axis = decade_ticks(places)
    low, high = 10 ** np.array(axis["range"])
    assert low < min(places) < max(places) < high
    assert [mark for mark in axis["tickvals"] if low <= mark <= high] == marks
    assert axis["ticktext"][axis["tickvals"].index(marks[-1])] == f"{marks[-1]:,g}"


# Two charts with two lines and as many bands each.
RATES = "const result = { ...lines(), names: document.getElementById('chart-alive').data.length };"


@needs_browser
def test_a_browser_draws_the_charts(tmp_path: Path) -> None:
    result = ran(write_report(filled(tmp_path, small("learning-rate"))), RATES)
    assert result["drawn"] == [4, 4]
    assert result["names"] == 4
    # Legends are below the titles of the axes.
    assert min(result["gap"]) >= 0
