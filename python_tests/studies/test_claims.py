# SPDX-License-Identifier: MIT
"""The two phenomena of the paper (arXiv 2503.06001), on fewer pairs and widths than the presets.

Students are the presets' own (same seeds, steps and step sizes), so these are the numbers that
`make study` shows, over the first pairs only.
"""

from __future__ import annotations

import numpy as np
import pytest

from lmc_fast import _native
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.runner import run_study
from lmc_fast.studies.store import open_existing
from lmc_fast.studies.summary import Group, Summary, summarise

# Without it this would take eight minutes instead of failing.
assert hasattr(_native, "train_ensemble"), "lmc_fast._native lacks train_ensemble: compile it"


def study(name: str, folder: pytest.TempPathFactory, *overrides: str) -> Summary:
    path = folder.mktemp(name)
    run_study(load_config(name, overrides=overrides), path)  # type: ignore[arg-type]
    with open_existing(path) as store:
        return summarise(store)


def mean(group: Group, matching: str) -> float:
    return group.barrier(matching, "population").value


@pytest.fixture(scope="module")
def width(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Group]:
    """Groups by width."""
    widths = "widths=[3,4,5,6,7,8,9,12,28,56]"
    found = study("width", tmp_path_factory, widths, "pairs=12")
    assert found.failed == found.stuck == 0
    return {group.width: group for group in found.groups}


@pytest.mark.parametrize("matching", ["gap", "weights"])
class TestDoubleDescent:
    def test_the_barrier_falls_up_to_the_teachers_width(
        self, width: dict[int, Group], matching: str
    ) -> None:
        assert mean(width[3], matching) > mean(width[4], matching) > 1e-3
        assert mean(width[5], matching) < 1e-12

    def test_it_rises_again_just_beyond(self, width: dict[int, Group], matching: str) -> None:
        beyond = {m: mean(group, matching) for m, group in width.items() if m > 5}
        peak = max(beyond, key=lambda m: beyond[m])
        assert 6 <= peak <= 9
        assert 1e-3 <= beyond[peak] <= 1e-2

    def test_it_falls_more_than_tenfold_by_width_56(
        self, width: dict[int, Group], matching: str
    ) -> None:
        peak = max(mean(width[m], matching) for m in (6, 7, 8, 9))
        assert mean(width[56], matching) < peak / 10

    def test_without_matching_there_is_a_barrier_at_every_width(
        self, width: dict[int, Group], matching: str
    ) -> None:
        for group in width.values():
            assert mean(group, "none") > 0.05
            assert mean(group, "none") > 3 * mean(group, matching)


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """m = 20, far below the divergence threshold, in its last 15%, and beyond."""
    grid = "grid=[0.4,0.6,0.91,0.95,0.98,1.02]"
    return study("learning-rate", tmp_path_factory, grid, "pairs=12", "bracket_students=8")


class TestEdgeOfStability:
    def test_the_threshold_is_bracketed_near_the_known_one(self, rates: Summary) -> None:
        """6.5 / m is known to train and 6.75 / m to diverge."""
        assert rates.bracket is not None
        low, high = rates.bracket
        assert 6.3 / 20 < low < high < 6.75 / 20
        assert (high - low) / high <= 0.005

    def test_neurons_die_beyond_the_edge_of_stability(self, rates: Summary) -> None:
        """2 / sharpness at small step sizes lies between 0.8 and 0.9 of the threshold."""
        assert rates.bracket is not None
        assert rates.edge is not None
        assert 0.8 < rates.edge / rates.bracket.threshold < 0.9
        for group in rates.groups[:-1]:
            alive = group.student_values("alive")
            assert np.all(alive < 20) == (group.lr > rates.edge)

    def test_students_diverge_beyond_it_and_not_below(self, rates: Summary) -> None:
        *below, beyond = rates.groups
        assert beyond.failed == beyond.students
        for group in below:
            assert group.failed == 0

    def test_every_neuron_is_alive_far_below_it(self, rates: Summary) -> None:
        for group in rates.groups[:2]:
            assert np.all(group.student_values("alive") == 20)

    def test_at_least_three_neurons_die_in_the_last_15_percent(self, rates: Summary) -> None:
        last = rates.groups[4]
        assert np.mean(last.student_values("alive")) <= 17

    def test_gap_matching_is_five_times_better_than_weights_there(self, rates: Summary) -> None:
        for group in rates.groups[2:5]:
            assert mean(group, "gap") <= mean(group, "weights") / 5

    def test_descent_ends_at_the_edge_of_stability(self, rates: Summary) -> None:
        """No stable minimum is sharper than 2 / lr."""
        for group in rates.groups[:5]:
            assert 0 < np.median(group.edge()) <= 1.05
