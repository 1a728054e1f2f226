# SPDX-License-Identifier: MIT
"""The page of a study: what it says is what the store holds, and it loads nothing."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented import Config, fill_store
from pages import Page, check_command, needs_browser, ran

pytest.importorskip("plotly", reason="needs the extra lmc_fast[studies]")

from plotly import graph_objects

from lmc_fast.studies.config import StudyName, WidthConfig
from lmc_fast.studies.errors import StoreError
from lmc_fast.studies.html_report import write_report
from lmc_fast.studies.html_report.chart import mean_traces, ticks
from lmc_fast.studies.html_report.elements import data, table
from lmc_fast.studies.plot_alpha import typical_pair
from lmc_fast.studies.plot_style import Line, Look
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.runner import run_study
from lmc_fast.studies.statistics import Interval
from lmc_fast.studies.store import CellKey, create, open_existing
from lmc_fast.studies.summary import summarise

ORIGIN = {"version": "9.9", "commit": "abc1234", "machine": "Abacus <&> Sons", "backend": "beads"}


def small(study: StudyName, data: str = "teacher") -> Config:
    grid = "widths=[3,5,8,16,32]" if study == "width" else "grid=[0.5,0.9,1.1]"
    return load_config(study, data=data, overrides=["pairs=12", grid])  # type: ignore[arg-type]


def filled(folder: Path, config: Config, failed: int = 0) -> Path:
    fill_store(folder, config, failed)
    with open_existing(folder) as store:
        changes = {**ORIGIN, "seconds": 2.0, "finished_at": "2025-03-06T00:00:00+00:00"}
        setters = ", ".join(f'"{name}" = ?' for name in changes)
        store._connection.execute(f"UPDATE cells SET {setters}", tuple(changes.values()))
    return folder


def page_of(folder: Path) -> Page:
    return Page(write_report(folder))


@pytest.fixture(scope="module")
def theory_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny theory study."""
    folder = tmp_path_factory.mktemp("report") / "theory"
    overrides = ["widths=[5,8,30]", "deaths=[0.0,0.2]", "pairs=6", "tail_from=5"]
    run_study(load_config("theory", overrides=overrides), folder)
    return folder


@pytest.mark.parametrize("data", ["teacher", "digits"])
@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_every_study_has_a_whole_page(tmp_path: Path, study: StudyName, data: str) -> None:
    config = small(study, data)
    page = page_of(filled(tmp_path, config, failed=2))
    for heading in (
        "Question", "Figures", "Loss along the segment of one pair", "Results", "Settings",
        "How to reproduce it",
    ):  # fmt: skip
        assert f"<h2>{heading}</h2>" in page.source
    captions = [part.split("Drag to zoom")[0] for part in page.source.split("<figcaption>")[1:]]
    for caption in captions:
        # The chart of the chosen pair is one of them.
        assert "lr = 4/m" in caption or "steps, first weights of scale" in caption
        assert "Seeds 0 to 23" in caption
    for said in ("Seeds 0 to 23, 12 pairs", "lmc_fast 9.9 (commit abc1234)", "beads", "failed"):
        assert said in page.text
    names = page.read("charts")
    wanted = ["barrier-population"] if data == "teacher" else [
        "barrier-train", "barrier-test", "accuracy_drop-test"]  # fmt: skip
    if study == "learning-rate":
        # The presets of images have no alive_steps.
        wanted = ["alive", *wanted, *(["updates"] if data == "teacher" else [])]
    assert list(names) == wanted
    ids = {named.get("id") for _, named in page.tags}
    for name, figure in names.items():
        assert f"chart-{name}" in ids
        # Raises for a property that plotly does not know.
        graph_objects.Figure(figure)


def test_the_theory_study_has_a_page_without_curves(theory_folder: Path) -> None:
    page = page_of(theory_folder)
    assert "curves" not in page.scripts
    assert "choose-pair" not in {named.get("id") for _, named in page.tags}
    with open_existing(theory_folder) as store:
        rows = store.rows()
    barriers = [
        row
        for row in page.records("numbers")
        if row["figure"] == "Mean loss barrier after matching"
    ]
    assert len(barriers) == 6
    for row in barriers:
        column = f"barrier_r{float(row['line'].removeprefix('r = '))!r}"
        stored = [cell[column] for cell in rows if cell["width"] == int(row["x"])]
        assert float(row["value"]) == pytest.approx(np.mean(stored), rel=1e-5, abs=1e-300)
    for figure in page.read("charts").values():
        graph_objects.Figure(figure)


def test_numbers_are_means_of_the_rows(tmp_path: Path) -> None:
    page = page_of(filled(tmp_path, small("width"), failed=3))
    with open_existing(tmp_path) as store:
        rows = store.rows()
    columns = {"no matching": "none", "matched by gap cost": "gap",
               "matched by weights": "weights", "matched by gap cost, median": "gap"}  # fmt: skip
    numbers = page.records("numbers")
    assert len(numbers) == 20
    for row in numbers:
        column = f"barrier_{columns[row['line']]}"
        cells = [cell for cell in rows if cell["width"] == int(row["x"])]
        stored = [cell[column] for cell in cells if not (cell["failed_a"] or cell["failed_b"])]
        if row["line"].endswith("median"):
            assert float(row["value"]) == pytest.approx(np.median(stored), rel=1e-5)
            continue
        assert float(row["value"]) == pytest.approx(np.mean(stored), rel=1e-5)
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
        assert int(row["values"]) == len(stored) == 10
    traces = page.read("charts")["barrier-population"]["data"]
    (drawn,) = [t for t in traces if t.get("name") == "matched by gap cost"]
    shown = [float(row["value"]) for row in numbers if row["line"] == "matched by gap cost"]
    np.testing.assert_allclose(drawn["y"], shown, rtol=1e-5)
    assert [row["m"] for row in page.records("results")] == ["3", "5", "8", "16", "32"]


def test_values_too_small_for_a_log_axis_are_drawn_in_one_labelled_place(tmp_path: Path) -> None:
    filled(tmp_path, small("width"))
    with open_existing(tmp_path) as store:
        store._connection.execute("UPDATE cells SET barrier_gap = 3e-16 WHERE width = 5")
    page = page_of(tmp_path)
    figure = page.read("charts")["barrier-population"]
    (drawn,) = [t for t in figure["data"] if t.get("name") == "matched by gap cost"]
    axis = figure["layout"]["yaxis"]
    assert drawn["y"][1] == axis["tickvals"][0]
    assert axis["ticktext"][0].startswith("< 10<sup>-")
    assert 10 ** axis["range"][0] < drawn["y"][1] < min(drawn["y"][2:])
    assert drawn["text"][1] == "3e-16 [3e-16, 3e-16], 12 values"


def test_no_band_is_drawn_across_means_without_an_interval() -> None:
    ends = [(1.0, 3.0), (2.0, 4.0), (np.nan, np.nan), (3.0, 5.0), (np.nan, np.nan)]
    means = [Interval(2.0, low, high) for low, high in ends]
    line = Line(Look("#009E73", "o", "-", "name"), [1.0, 2.0, 3.0, 4.0, 5.0], means, [9] * 5)
    first, alone, drawn = mean_traces([line])
    assert (first["x"], first["y"]) == ([1.0, 2.0, 2.0, 1.0], [3.0, 4.0, 2.0, 1.0])
    # Without a neighbour an interval is a line of some width.
    assert (alone["x"], alone["y"]) == ([4.0, 4.0], [5.0, 3.0])
    assert first["line"]["width"] == 0 < alone["line"]["width"]
    assert drawn["x"] == list(line.x)


def test_captions_speak_of_a_dotted_line_where_there_is_one(theory_folder: Path) -> None:
    page = page_of(theory_folder)
    barrier, certificate = page.text.split("Share of pairs with zero barrier for some")[:2]
    assert "below the dotted line" in barrier
    assert "dotted line" not in certificate


def test_a_mean_counts_the_values_that_it_is_of(tmp_path: Path) -> None:
    filled(tmp_path, small("width"))
    with open_existing(tmp_path) as store:
        # What SQLite makes of NaN.
        store._connection.execute(
            "UPDATE cells SET barrier_gap = NULL WHERE width = 5 AND seed_a = 4"
        )
    numbers = page_of(tmp_path).records("numbers")
    counts = {(row["line"], row["x"]): row["values"] for row in numbers}
    assert counts["matched by gap cost", "5"] == "11"
    assert counts["matched by gap cost", "8"] == counts["no matching", "5"] == "12"


def test_every_stored_curve_of_a_sound_pair_is_there(tmp_path: Path) -> None:
    config = small("width", "digits")
    page = page_of(filled(tmp_path, config, failed=2))
    stored = page.read("curves")
    assert stored["splits"] == ["train", "test"]
    with open_existing(tmp_path) as store:
        for m, group in zip((3, 5, 8, 16, 32), stored["groups"], strict=True):
            raw = np.frombuffer(base64.b64decode(group["losses"]), "<f4")
            losses = raw.reshape(len(group["pairs"]), 2, 3, len(stored["alphas"]))
            shares = np.frombuffer(base64.b64decode(group["accuracies"]), "<f4")
            shares = shares.reshape(losses.shape)
            # The first of twelve pairs has failed.
            assert [pair[:2] for pair in group["pairs"]] == [
                [2 * p, 2 * p + 1] for p in range(1, 12)
            ]
            for (a, b, heights), of_pair, scored in zip(
                group["pairs"], losses, shares, strict=True
            ):
                curves = store.curves(CellKey(m, 0.1, a, b))
                for curve in curves:
                    split = stored["splits"].index(curve.split)
                    matching = config.matchings.index(curve.matching)  # type: ignore[arg-type]
                    np.testing.assert_allclose(of_pair[split, matching], curve.losses, rtol=1e-6)
                    assert curve.accuracies is not None
                    wanted = 100 * curve.accuracies
                    np.testing.assert_allclose(scored[split, matching], wanted, rtol=1e-6)
                    top = curve.losses.max()
                    assert heights[split][matching] == pytest.approx(top, rel=1e-3)


def test_the_first_pair_is_that_of_the_studys_figure(tmp_path: Path) -> None:
    # Step sizes of which one's text begins with another's: 0.5 and 0.51.
    filled(tmp_path, small("learning-rate").model_copy(update={"grid": (0.5, 0.51)}))
    with open_existing(tmp_path) as store:
        found = typical_pair(summarise(store))
    assert found is not None
    stored = page_of(tmp_path).read("curves")
    group, pair = stored["first"]
    assert group == 1
    assert stored["groups"][group]["pairs"][pair][:2] == [found[1].seed_a, found[1].seed_b]


def test_the_fitted_tail_is_named_with_its_exponent(tmp_path: Path) -> None:
    config = small("width").model_copy(update={"tail_from": 8})
    figure = page_of(filled(tmp_path, config)).read("charts")["barrier-population"]
    # Rows of `fill_store` fall exactly as lr / m = 4 / m^2.
    names = [trace.get("name", "") for trace in figure["data"]]
    assert sum("fit to 'gap', m = 8 to 32: m<sup>-2.00</sup> [-2.0" in name for name in names) == 1


def traces_by_name(page: Page, chart: str) -> dict[str, dict[str, Any]]:
    found = page.read("charts")[chart]["data"]
    return {
        trace["name"]: trace for trace in found if "name" in trace and "showlegend" not in trace
    }


def test_the_charts_have_what_the_figures_have(tmp_path: Path) -> None:
    config = small("width").model_copy(update={"tail_from": 8})
    width = traces_by_name(page_of(filled(tmp_path / "width", config)), "barrier-population")
    guide = width["m<sup>-1/2</sup> guide"]
    slope = np.diff(np.log(guide["y"])) / np.diff(np.log(guide["x"]))
    np.testing.assert_allclose(slope, -0.5)
    (peak,) = [name for name in width if "of the widths sampled" in name]
    # Invented barriers only fall; m = 8 is the first beyond m = M.
    assert peak.startswith("highest, no peak told, of the widths sampled: m = 8 [8, 8], ")
    assert width[peak]["x"] == [8]
    rates = page_of(filled(tmp_path / "rates", small("learning-rate")))
    counted = [100, 150, 200, 250, 300, 350, 400, 500, 700, 1000, 2500]
    for name in ("lr 0.500", "lr 0.900", "lr 1.100"):
        line = traces_by_name(rates, "updates")[name]
        assert (line["x"], line["y"]) == (counted, [20] * len(counted))


def test_the_band_of_alive_neurons_is_their_range(tmp_path: Path) -> None:
    filled(tmp_path, small("learning-rate"))
    with open_existing(tmp_path) as store:
        store._connection.execute("UPDATE cells SET alive_a = 17 WHERE seed_a = 4")
    page = page_of(tmp_path)
    rows = [row for row in page.records("numbers") if row["figure"].startswith("Alive neurons (")]
    assert [(row["low"], row["high"]) for row in rows] == [("17", "20")] * 3
    assert "the band is the range over students, not an interval" in page.text


def test_numbers_without_an_interval_have_a_dash(tmp_path: Path) -> None:
    page = page_of(filled(tmp_path, small("width")))
    medians = [row for row in page.records("numbers") if row["line"].endswith("median")]
    assert {(row["low"], row["high"]) for row in medians} == {("\u2013", "\u2013")}
    assert "nan" not in {cell for row in page.tables["numbers"] for cell in row}
    assert "as of medians and of fewer than 10 values" in page.text


def test_means_of_few_pairs_stand_apart_from_their_line(tmp_path: Path) -> None:
    filled(tmp_path, small("width"))
    with open_existing(tmp_path) as store:
        store._connection.execute("DELETE FROM cells WHERE width = 16 AND seed_a > 2")
    page = page_of(tmp_path)
    both = [
        trace
        for trace in page.read("charts")["barrier-population"]["data"]
        if trace.get("name") == "matched by gap cost"
    ]
    line, apart = both
    assert [y is None for y in line["y"]] == [False] * 3 + [True, False]
    assert [y is None for y in apart["y"]] == [True] * 3 + [False, True]
    assert apart["mode"] == "markers"
    assert apart["marker"]["symbol"][3] == "circle-open"
    assert "Hollow, off the lines: means of fewer than 10 pairs." in page.text


def test_the_teachers_width_has_a_tick() -> None:
    widths = [5, 6, 7, 8, 10, 14, 20]
    assert ticks(widths, 1.5)["tickvals"] == [20, 10, 6]
    assert ticks(widths, 1.5, keep=5)["tickvals"] == [20, 10, 5]
    assert ticks(widths, 1.5, keep=3)["tickvals"] == [20, 10, 6]


def test_the_crossover_is_marked(theory_folder: Path) -> None:
    layout = page_of(theory_folder).read("charts")["certificate"]["layout"]
    # q = 0.16: 25 x 0.16 x 0.84 / (0.04 pi) = 26.7, between m = 8 and m = 30.
    (line,) = layout["shapes"]
    assert line["x0"] == pytest.approx(26.74, abs=0.01)
    assert [note["text"] for note in layout["annotations"]] == ["crossover, r = 0.2"]
    assert layout["xaxis"]["tickvals"] == [30, 8, 5]


def test_settings_and_configuration_are_the_stores(tmp_path: Path) -> None:
    config = small("width")
    page = page_of(filled(tmp_path, config))
    settings = {row["setting"]: row["value"] for row in page.records("settings")}
    assert settings["widths"] == "[3, 5, 8, 16, 32]"
    assert settings["problem.teacher_width"] == "5"
    assert settings["tail_from"] == "none"
    (written,) = re.findall(r'<pre id="configuration">(.*?)</pre>', page.source, re.DOTALL)
    file = tmp_path / "study.toml"
    file.write_text(written.replace("&quot;", '"'))
    assert tomllib.loads(file.read_text())["study"] == "width"
    assert load_config("width", file=file).digest() == config.digest()
    assert config.digest() in page.source
    (origin,) = page.records("provenance")
    assert origin == {"version": "9.9", "commit": "abc1234", "machine": "Abacus <&> Sons",
                      "device": "beads", "pairs": "60"}  # fmt: skip


def test_the_page_loads_nothing_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    page = page_of(filled(tmp_path, small("width")))
    assert "Abacus <&> Sons" not in page.source
    assert "Abacus &lt;&amp;&gt; Sons" in page.source
    for tag, named in page.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "form", "base")
        for attribute in ("src", "href", "action", "data", "srcset"):
            assert named.get(attribute, "data:").startswith("data:"), (tag, named)
    assert "@import" not in page.scripts["code"].split("plotly.js")[0]
    policies = [n["content"] for _, n in page.tags if "http-equiv" in n]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "http" not in policies[0]
    # plotly.js alone is 4.8 MB.
    assert len(page.source) < 6e6


def test_no_text_can_end_a_script_or_a_cell() -> None:
    evil = "</script><script>alert(1)</script>"
    assert "</script><" not in data("name", {"text": evil})
    assert json.loads(re.findall(r">(.*)</script>", data("n", [evil]))[0]) == [evil]
    assert "null" in data("n", [float("nan"), float("inf")])
    assert "<script>" not in table([evil], [[evil]], evil, '"' + evil)


def test_failed_students_are_counted_in_captions(tmp_path: Path) -> None:
    filled(tmp_path, small("width"), failed=3)
    with open_existing(tmp_path) as store:
        store._connection.execute("UPDATE cells SET diverged_a = failed_a")
    # Seeds 0, 1 and 2 of five widths; the a of two pairs diverged.
    said = "15 failed (10 diverged, 5 ended no better than the zero network); 10 pairs are left out"
    assert f"Of 120 students {said}" in page_of(tmp_path).text


def test_an_unfinished_study_says_what_is_missing(tmp_path: Path) -> None:
    page = page_of(filled(tmp_path / "whole", small("width")))
    assert "Unfinished" not in page.text
    filled(tmp_path / "part", small("width"))
    with open_existing(tmp_path / "part") as store:
        store._connection.execute("DELETE FROM cells WHERE width = 32 AND seed_a >= 8")
    assert "Unfinished: 8 of 60 pairs are missing" in page_of(tmp_path / "part").text


def test_without_a_survivor_there_is_a_page_without_curves(tmp_path: Path) -> None:
    config = small("learning-rate")
    page = page_of(filled(tmp_path, config, failed=2 * config.pairs))
    assert "72 failed" in page.text
    assert "curves" not in page.scripts


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_command(filled(tmp_path / "study", small("width")), tmp_path, capsys)


def test_an_empty_study_is_refused(tmp_path: Path, tiny: WidthConfig) -> None:
    create(tmp_path, tiny, {"barrier_gap": "REAL"}).close()
    with pytest.raises(StoreError, match="has no finished cell yet: run the study first"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


# Chooses another pair as a reader would, and leaves in the page what is then drawn.
CHOOSE = """
const select = document.getElementById("choose-pair");
select.value = "2";
select.dispatchEvent(new Event("change"));
const shown = document.getElementById("chart-pair").data.map(({ name, y }) => [name, y]);
const { drawn, gap } = lines();
const result = { shown, drawn, gap, pair: select.selectedOptions[0].text };
"""


@needs_browser
def test_a_browser_draws_the_charts_and_the_chosen_pair(tmp_path: Path) -> None:
    path = write_report(filled(tmp_path / "study", small("width")))
    result = ran(path, CHOOSE)
    assert result["pair"] == "seeds 4 and 5"
    # Three matchings with their bands and a line of medians, then three curves.
    assert result["drawn"] == [7, 3]
    # Legends are below the titles of the axes.
    assert min(result["gap"]) >= 0
    with open_existing(tmp_path / "study") as store:
        # The widest barrier beyond m = M = 5 is that of m = 8.
        stored = {c.matching: c.losses for c in store.curves(CellKey(8, 0.5, 4, 5))}
    names = ("no matching", "matched by gap cost", "matched by weights")
    for (label, y), name, matching in zip(
        result["shown"], names, ("none", "gap", "weights"), strict=True
    ):
        assert label.startswith(name)
        np.testing.assert_allclose(y, stored[matching], rtol=1e-6)
