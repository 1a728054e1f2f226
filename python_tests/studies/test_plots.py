# SPDX-License-Identifier: MIT
"""Figures and tables from stores that were filled by hand: plots read nothing else."""

from __future__ import annotations

import io
import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from invented import Config, fill_store
from matplotlib.figure import Figure
from rich.console import Console

from lmc_fast.studies.config import StudyName, WidthConfig
from lmc_fast.studies.end_labels import moved_apart
from lmc_fast.studies.errors import StoreError
from lmc_fast.studies.guide_line import guide_line
from lmc_fast.studies.plot_alive import alive_figure
from lmc_fast.studies.plot_alpha import alpha_figure, typical_pair
from lmc_fast.studies.plot_learning_rate import learning_rate_figure
from lmc_fast.studies.plot_style import LOOKS, LogFloor, look_of_median, style
from lmc_fast.studies.plot_width import width_figure
from lmc_fast.studies.plots import plot_study
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.report import study_table
from lmc_fast.studies.store import create, open_existing
from lmc_fast.studies.store_format import DATABASE
from lmc_fast.studies.summary import Summary, summarise


def small(study: StudyName, data: str = "teacher") -> Config:
    grid = "widths=[3,5,8,16,32]" if study == "width" else "grid=[0.5,0.9,1.1]"
    return load_config(study, data=data, overrides=["pairs=6", grid])  # type: ignore[arg-type]


def summary_of(folder: Path) -> Summary:
    with open_existing(folder) as store:
        return summarise(store)


def texts(figure: Figure) -> str:
    """Everything written in a figure, a text a line however it is broken."""
    found = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(" ".join(text.split()) for text in found)


@pytest.mark.parametrize("data", ["teacher", "digits", "mnist"])
@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_every_study_draws_png_and_svg(tmp_path: Path, study: StudyName, data: str) -> None:
    fill_store(tmp_path / "study", small(study, data), failed=1)
    paths = plot_study(tmp_path / "study", tmp_path / "figures")
    # The presets of images have no alive_steps.
    alive = ["alive-vs-updates"] if (study, data) == ("learning-rate", "teacher") else []
    names = [f"barrier-vs-{study}", *alive, "barrier-along-alpha"]
    assert [path.name for path in paths] == [f"{n}.{end}" for n in names for end in ("png", "svg")]
    for path in paths:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert ET.parse(path).getroot().tag.endswith("svg")


def test_the_same_store_gives_the_same_file(tmp_path: Path) -> None:
    fill_store(tmp_path / "study", small("width"))
    for name in ("one", "two"):
        plot_study(tmp_path / "study", tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_lines_pass_through_the_means_of_the_rows(tmp_path: Path) -> None:
    config = small("width")
    assert isinstance(config, WidthConfig)
    fill_store(tmp_path, config, failed=2)
    summary = summary_of(tmp_path)
    with style():
        axes = width_figure(summary).axes[0]
    line = next(line for line in axes.lines if line.get_label() == LOOKS["gap"].label)
    # Rows of `fill_store`: lr / m x 10 x (1 + sin(pair) / 10), the first of six pairs failed.
    wave = np.mean([1 + 0.1 * np.sin(pair) for pair in range(1, 6)])
    widths = np.array(config.widths)
    np.testing.assert_array_equal(line.get_xdata(), widths)
    np.testing.assert_allclose(line.get_ydata(), 4.0 / widths**2 * 10 * wave)
    median = next(line for line in axes.lines if line.get_label() == look_of_median("gap").label)
    typical = np.median([1 + 0.1 * np.sin(pair) for pair in range(1, 6)])
    np.testing.assert_allclose(median.get_ydata(), 4.0 / widths**2 * 10 * typical)


def test_the_width_figure_says_what_a_reader_needs(tmp_path: Path) -> None:
    fill_store(tmp_path, small("width").model_copy(update={"pairs": 12}), failed=2)
    with style():
        written = texts(width_figure(summary_of(tmp_path)))
    for expected in (
        "m = M = 5", "12 pairs per width", "95% bootstrap interval", "student width m",
        "mean loss barrier", "no matching", "matched by gap cost", "matched by weights",
        "of 120 students 10 failed",
    ):  # fmt: skip
        assert expected in written
    # Only two widths lie beyond 2 M: no fit is claimed.
    assert "fit to" not in written


def test_the_fitted_tail_is_written_with_range_and_interval(tmp_path: Path) -> None:
    config = small("width").model_copy(update={"tail_from": 8, "pairs": 10})
    fill_store(tmp_path, config)
    with style():
        written = texts(width_figure(summary_of(tmp_path)))
    # Rows of `fill_store` fall exactly as lr / m = 4 / m^2.
    assert "fit to 'gap', m = 8 to 32: $m^{-2.00}$ [-2.0" in written
    assert "$m^{-1/2}$ guide" in written


@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_few_pairs_get_no_intervals(tmp_path: Path, study: StudyName) -> None:
    config = small(study)
    if isinstance(config, WidthConfig):
        config = config.model_copy(update={"tail_from": 8})
    fill_store(tmp_path, config)
    summary = summary_of(tmp_path)
    with style():
        figure = (width_figure if study == "width" else learning_rate_figure)(summary)
    assert "too few for intervals" in texts(figure)
    assert "[" not in texts(figure)
    bands = [path for band in figure.axes[-1].collections for path in band.get_paths()]
    assert not any(np.isfinite(band.vertices).all() for band in bands)
    out = io.StringIO()
    Console(file=out, width=80).print(study_table(summary))
    written = " ".join(out.getvalue().split())
    assert "too few pairs for intervals" in written
    assert "[" not in written


def test_images_are_drawn_in_nats_and_accuracy(tmp_path: Path) -> None:
    fill_store(tmp_path, small("width", "digits"))
    with style():
        written = texts(width_figure(summary_of(tmp_path)))
    for expected in ("train (nats)", "test (nats)", "accuracy barrier", "8×8 digits"):
        assert expected in written


def test_squared_losses_of_images_have_no_unit(tmp_path: Path) -> None:
    config = small("width", "digits")
    problem = config.problem.model_copy(update={"loss": "mse"})
    fill_store(tmp_path, config.model_copy(update={"problem": problem, "method": "adam"}))
    with open_existing(tmp_path) as store, style():
        summary = summarise(store)
        figure = alpha_figure(summary, store)
        assert figure is not None
        out = io.StringIO()
        Console(file=out, width=80).print(study_table(summary))
        written = texts(figure) + texts(width_figure(summary)) + out.getvalue()
    assert "8×8 digits, n = 1,438 training images, squared loss; Adam with batches of 64" in written
    assert "squared loss, test" in written
    assert "nats" not in written


def test_accuracies_are_drawn_along_alpha_for_both_splits(tmp_path: Path) -> None:
    fill_store(tmp_path, small("width", "digits"))
    with open_existing(tmp_path) as store, style():
        summary = summarise(store)
        figure = alpha_figure(summary, store)
        found = typical_pair(summary)
        assert found is not None
        curves = {(c.split, c.matching): c for c in store.curves(found[1])}
    assert figure is not None
    for axes, split in zip(figure.axes[2:], ("train", "test"), strict=True):
        assert axes.get_ylabel() == f"accuracy, {split} (%)"
        line = next(line for line in axes.lines if line.get_label() == LOOKS["weights"].label)
        wanted = curves[split, "weights"].accuracies
        assert wanted is not None
        np.testing.assert_allclose(line.get_ydata(), 100 * wanted)


def test_a_store_without_accuracies_is_drawn_as_before(tmp_path: Path) -> None:
    fill_store(tmp_path, small("width", "digits"))
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("UPDATE curves SET accuracies = NULL")
    connection.close()
    with open_existing(tmp_path) as store, style():
        figure = alpha_figure(summarise(store), store)
    assert figure is not None
    assert [axes.get_ylabel() for axes in figure.axes] == ["cross entropy, test (nats)"]


def test_the_learning_rate_axis_is_in_units_of_the_threshold(tmp_path: Path) -> None:
    fill_store(tmp_path, small("learning-rate"), failed=1)
    summary = summary_of(tmp_path)
    assert summary.bracket == (0.99, 1.01)
    assert summary.edge == 2 / 2.0
    with style():
        figure = learning_rate_figure(summary)
    alive, barriers = figure.axes
    assert alive.get_shared_x_axes().joined(alive, barriers)
    np.testing.assert_allclose(alive.lines[0].get_xdata(), [0.5, 0.9, 1.1])
    np.testing.assert_array_equal(alive.lines[0].get_ydata(), [20, 20, 20])
    assert "divergence threshold (lr = 0.9999 = 20/m, shaded beyond)" in texts(figure)


def test_the_curve_along_alpha_is_of_a_step_size_below_the_threshold(tmp_path: Path) -> None:
    # Steps of 0.5, 0.9 and 1.1 thresholds, pairs survive at all of them.
    fill_store(tmp_path, small("learning-rate"))
    with open_existing(tmp_path) as store, style():
        figure = alpha_figure(summarise(store), store)
    assert figure is not None
    assert "lr = 0.9" in texts(figure)


def test_settings_without_a_survivor_are_marked_and_not_drawn(tmp_path: Path) -> None:
    config = small("learning-rate")
    fill_store(tmp_path, config, failed=2 * config.pairs)
    summary = summary_of(tmp_path)
    assert summary.failed == summary.students == 36
    with style():
        figure = learning_rate_figure(summary)
    cross = next(line for line in figure.axes[0].lines if line.get_label() == "no pair survives")
    np.testing.assert_allclose(cross.get_xdata(), [0.5, 0.9, 1.1])


def test_rounding_errors_are_drawn_at_the_floor() -> None:
    floor = LogFloor([3e-2, 7e-16, 1e-5, 0.0, float("nan")])
    assert floor.hidden
    assert floor.draw(7e-16) == floor.draw(0.0) < floor.edge <= 1e-5
    assert floor.draw(1e-5) == 1e-5
    assert not LogFloor([1.0, 0.1]).hidden
    # No more than seven decades.
    assert LogFloor([1.0, 1e-12]).draw(1e-12) >= 1e-9


@pytest.mark.parametrize(
    ("values", "bottom"), [((0.7, 0.012), 0.012 * 10**-0.15), ((0.7, 0.02), 0.01), ((5, 2), 1)]
)
def test_a_log_axis_has_two_labels_and_little_empty_room(
    values: tuple[float, float], bottom: float
) -> None:
    axes = Figure().subplots()
    axes.plot([0, 1], values)
    LogFloor(values).finish(axes)
    low, high = axes.get_ylim()
    assert low == pytest.approx(bottom)
    assert sum(low <= 10.0**power <= high for power in range(-5, 5)) >= 2
    assert not any(label.get_text() for label in axes.get_yticklabels(minor=True))


def test_the_axis_reaches_down_to_the_ends_of_intervals(tmp_path: Path) -> None:
    """A band that is cut off at a floor made from means has slopes that are not there."""
    config = small("width").model_copy(update={"pairs": 12})
    fill_store(tmp_path, config)
    summary = summary_of(tmp_path)
    for group in summary.groups:
        for pair, row in enumerate(group.sound):
            # Means of 0.0165 need no decade below 0.01, the lower ends of their intervals do.
            row["barrier_gap"] = 0.06 if pair % 4 == 0 else 0.002
            row["barrier_none"] = row["barrier_weights"] = 1.0
    with style():
        axes = width_figure(summary).axes[0]
    low = summary.groups[0].barrier("gap", "population").low
    assert axes.get_ylim()[0] <= low
    band = next(
        c
        for c in axes.collections
        if c.get_facecolor()[0][:3] == pytest.approx((0, 0.447, 0.698), abs=1e-3)
    )
    assert band.get_paths()[0].vertices[:, 1].min() == pytest.approx(low)


def test_a_negative_mean_at_the_floor_is_written_as_it_is(tmp_path: Path) -> None:
    fill_store(tmp_path, small("width"))
    summary = summary_of(tmp_path)
    for row in summary.groups[1].sound:
        row["barrier_gap"] = -3e-5
    with style():
        written = texts(width_figure(summary))
    assert "$-3 \\cdot 10^{-5}$" in written


def test_a_figure_of_an_unfinished_study_is_drawn(tmp_path: Path) -> None:
    config = small("width")
    fill_store(tmp_path, config.model_copy(update={"widths": (3,)}))
    assert len(plot_study(tmp_path)) == 4


def test_widths_that_lack_pairs_are_named(tmp_path: Path) -> None:
    fill_store(tmp_path, small("width"))
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("DELETE FROM cells WHERE width = 32 AND seed_a > 2")
    connection.close()
    with style():
        written = texts(width_figure(summary_of(tmp_path)))
    assert "not finished: so far 2 at m = 32 computed by" in written


def test_an_empty_store_says_to_run_the_study(tmp_path: Path, tiny: WidthConfig) -> None:
    create(tmp_path, tiny, {"barrier_gap": "REAL"}).close()
    with pytest.raises(StoreError, match="has no finished cell yet: run the study first"):
        plot_study(tmp_path)


def test_figures_that_cannot_be_written_are_one_error(tmp_path: Path) -> None:
    fill_store(tmp_path / "study", small("width"))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write to .*file"):
        plot_study(tmp_path / "study", tmp_path / "file")


@pytest.mark.parametrize("data", ["teacher", "digits"])
@pytest.mark.parametrize("study", ["width", "learning-rate"])
def test_the_table_fits_eighty_columns(tmp_path: Path, study: StudyName, data: str) -> None:
    fill_store(tmp_path, small(study, data), failed=1)
    out = io.StringIO()
    Console(file=out, width=80).print(study_table(summary_of(tmp_path)))
    written = out.getvalue()
    assert "…" not in written
    assert "5/6" in written
    assert "failed" in written


def test_students_that_did_not_converge_are_counted(tmp_path: Path) -> None:
    # Beyond converged_loss, which counts from m = M = 5 on.
    fill_store(tmp_path, small("width"), failed=1, loss=0.5)
    summary = summary_of(tmp_path)
    assert [group.stuck for group in summary.groups] == [0, 11, 11, 11, 11]
    assert [len(group.sound) for group in summary.groups] == [5, 0, 0, 0, 0]
    with style():
        assert "44 did not converge (their pairs too)" in texts(width_figure(summary))


def test_with_step_sizes_students_that_did_not_converge_are_kept(tmp_path: Path) -> None:
    fill_store(tmp_path, small("learning-rate"), loss=0.5)
    summary = summary_of(tmp_path)
    assert all(group.stuck == 12 and len(group.sound) == 6 for group in summary.groups)


def test_alive_neurons_are_drawn_where_neurons_die(tmp_path: Path) -> None:
    """The calmest step size, and those beyond the edge of stability, which is invented as 1."""
    config = small("learning-rate").model_copy(update={"alive_steps": (10, 100)})
    fill_store(tmp_path, config)
    with style():
        figure = alive_figure(summary_of(tmp_path))
    assert figure is not None
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["0.500", "0.900", "1.100"]
    for line in lines:
        assert np.array_equal(line.get_xydata(), [[10, 20], [100, 20]])
    named = {text.get_text() for text in figure.axes[0].texts}
    assert {"0.500", "0.900", "1.100"} < named
    assert "not drawn" not in texts(figure)
    looks = {(line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == 3
    assert "seeds 0 to 11" in texts(figure)
    # Six pairs are too few for intervals, twelve students are not.
    assert "intervals of mean alive neurons (10 students or more)" in texts(figure)
    bare = config.model_copy(update={"alive_steps": ()})
    fill_store(tmp_path / "bare", bare)
    assert alive_figure(summary_of(tmp_path / "bare")) is None


def test_step_sizes_that_are_not_drawn_are_named(tmp_path: Path) -> None:
    grid = ["grid=[0.3,0.5,0.7,0.9,1.1,1.2]", "pairs=6", "alive_steps=[10,100]"]
    fill_store(tmp_path, load_config("learning-rate", overrides=grid))  # type: ignore[arg-type]
    summary = summary_of(tmp_path)
    summary.groups[-1].sound.clear()
    with style():
        figure = alive_figure(summary)
    assert figure is not None
    said = "lr / threshold = 0.500, 0.700 (below the edge of stability); 1.200 (no pair survives)"
    assert f"not drawn: {said}" in texts(figure)


def test_names_at_the_ends_are_moved_apart() -> None:
    """Two and two that touch move by half a gap each; a name that has room stays."""
    places = moved_apart(np.array([0.1, 0.1, 0.45, 0.9, 0.95]), 0.1)
    np.testing.assert_allclose(places, [0.05, 0.15, 0.45, 0.875, 0.975])
    # A group that grows into the next takes it along.
    np.testing.assert_allclose(moved_apart(np.array([0.5, 0.5, 0.58]), 0.1),
                               [0.42667, 0.52667, 0.62667], atol=1e-5)  # fmt: skip


def test_means_of_few_pairs_are_hollow_and_off_the_line(tmp_path: Path) -> None:
    fill_store(tmp_path, small("width").model_copy(update={"pairs": 12}))
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("DELETE FROM cells WHERE width = 16 AND seed_a > 2")
    connection.close()
    summary = summary_of(tmp_path)
    with style():
        figure = width_figure(summary)
    assert "hollow, off the lines: means of fewer than 10 pairs" in texts(figure)
    lines = figure.axes[0].get_lines()
    place = next(i for i, line in enumerate(lines) if line.get_label() == LOOKS["gap"].label)
    joined, apart = lines[place], lines[place + 1]
    assert np.isnan(np.asarray(joined.get_ydata())).tolist() == [False] * 3 + [True, False]
    mean = summary.groups[3].barrier("gap", "population").value
    np.testing.assert_allclose(apart.get_xydata(), [[16, mean]])
    assert apart.get_linestyle() == "None"
    assert (joined.get_markerfacecolor(), apart.get_markerfacecolor()) == ("#0072B2", "white")


def test_a_line_of_few_pairs_throughout_is_a_hollow_line(tmp_path: Path) -> None:
    fill_store(tmp_path, small("width"))
    with style():
        figure = width_figure(summary_of(tmp_path))
    line = next(x for x in figure.axes[0].get_lines() if x.get_label() == LOOKS["gap"].label)
    assert np.isfinite(np.asarray(line.get_ydata())).all()
    assert line.get_markerfacecolor() == "white"
    assert "hollow: means of fewer than 10 pairs" in texts(figure)


def with_barriers(folder: Path, widths: list[int], **heights: list[float]) -> Summary:
    """A width study of ten pairs whose barriers are the same for all."""
    settings = ["pairs=10", f"widths={widths}", f"tail_from={widths[0]}", "problem.teacher_width=2"]
    fill_store(folder, load_config("width", overrides=settings))  # type: ignore[arg-type]
    summary = summary_of(folder)
    for i, group in enumerate(summary.groups):
        for row in group.sound:
            row |= {f"barrier_{name}": values[i] for name, values in heights.items()}
    return summary


def test_a_tail_that_is_not_straight_has_two_fits(tmp_path: Path) -> None:
    widths = [10, 20, 40, 80, 160]
    bent = [1e-2, 1e-2 / 2, 1e-2 / 4, 1e-2 / 64, 1e-2 / 1024]
    summary = with_barriers(tmp_path, widths, gap=bent, weights=bent, none=[0.5] * 5)
    with style():
        written = texts(width_figure(summary))
    assert "fit to 'gap', m = 10 to 40: $m^{-1.00}$ [-1.00, -1.00]" in written
    assert "fit to 'gap', m = 40 to 160: $m^{-4.00}$ [-4.00, -4.00]" in written
    # Slope of -(0, 1, 2, 6, 10) over (-2, ..., 2): -(0 - 1 + 6 + 20) / 10.
    whole = "m = 10 to 160 as one: $m^{-2.50}$ [-2.50, -2.50]"
    assert f"the tail is no straight line, both halves are fitted; {whole}" in written
    out = io.StringIO()
    Console(file=out, width=80).print(study_table(summary))
    assert "no straight line: m^-1.00 [-1.00, -1.00] over m = 10 to 40" in out.getvalue()


@pytest.mark.parametrize("naive", [10.0, 0.05])
def test_the_guide_stands_beside_the_means(tmp_path: Path, naive: float) -> None:
    """Above what is matched where there is room below what is not, otherwise below all."""
    flat = [0.01] * 4
    summary = with_barriers(tmp_path, [10, 20, 40, 160], gap=flat, weights=flat, none=[naive] * 4)
    tail = summary.tail("gap", "population")
    assert tail is not None
    m, height = guide_line(summary, "population", tail)
    np.testing.assert_allclose(height * np.sqrt(m), height[0] * np.sqrt(10))
    if naive == 10.0:
        assert m.tolist() == [10, 20, 40, 160]
        assert height.min() == pytest.approx(0.02)
    else:
        assert m.tolist() == [10, 20, 40]
        assert height.max() == pytest.approx(0.005)
    with style():
        axes = width_figure(summary).axes[0]
    assert axes.get_ylim()[0] < height.min()


def test_the_peak_is_looked_for_beyond_the_teachers_width(tmp_path: Path) -> None:
    """Invented barriers fall with the width: 4 / m^2 (1 + sin(pair) / 10)."""
    fill_store(tmp_path, small("width"))
    summary = summary_of(tmp_path)
    peak = summary.peak("gap", "population")
    assert peak is not None
    assert peak.width.value == 8
    assert not peak.told
    gain = summary.matcher_gain("weights", "population")
    assert gain is not None
    assert gain.low == pytest.approx(0.1)
    left = summary.residual()
    assert left is not None
    mean = summary.groups[-1].barrier("gap", "population").value
    assert (left.high, left.high_width) == (pytest.approx(1e-9 / mean), 32)
    table = io.StringIO()
    Console(file=table, width=80).print(study_table(summary))
    written = " ".join(table.getvalue().split())
    assert (
        "highest, no peak told, of the widths sampled, 'gap', population: m = 8, height" in written
    )
    assert "at most" in table.getvalue()
