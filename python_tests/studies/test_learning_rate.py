# SPDX-License-Identifier: MIT
"""The search for the divergence threshold, on invented and on trained students."""

from __future__ import annotations

import pytest

from lmc_fast.studies.config import LearningRateConfig
from lmc_fast.studies.errors import StudyError
from lmc_fast.studies.learning_rate import (
    Bracket,
    ProbeTask,
    bracket_of,
    edge_of_stability,
    find_threshold,
    run_probe,
    settings,
)
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.store import Probe

CONFIG = LearningRateConfig(width=10, pilot_lr=1.0, bracket_tolerance=0.01, grid=(0.5, 1.1))


class Invented:
    """Students diverge above ``threshold``; the calm run has the given sharpness."""

    def __init__(self, threshold: float, sharpness: float | None = None) -> None:
        self.threshold, self.sharpness = threshold, sharpness
        self.tried: list[float] = []

    def __call__(self, lr: float) -> Probe:
        self.tried.append(lr)
        return Probe(lr, 8, 8 * (lr > self.threshold), self.sharpness, 0.0)


@pytest.mark.parametrize("sharpness", [None, 2.0, 8.0, 100.0])
@pytest.mark.parametrize("threshold", [0.0031, 0.11, 0.26, 0.9, 57.0])
def test_the_bracket_holds_the_threshold(threshold: float, sharpness: float | None) -> None:
    probe = Invented(threshold, sharpness)
    low, high = find_threshold(CONFIG, [], probe)
    assert low <= threshold < high
    assert (high - low) / high <= 0.01
    assert len(probe.tried) == len(set(probe.tried)) < 60


def test_a_good_sharpness_saves_probes() -> None:
    # The threshold is 2 / lambda, where the search then begins.
    told, untold = Invented(0.25, sharpness=7.9), Invented(0.25)
    find_threshold(CONFIG, [], told)
    find_threshold(CONFIG, [], untold)
    assert told.tried[1] == pytest.approx(2 / 7.9)
    assert len(told.tried) < len(untold.tried)


def test_what_was_tried_is_not_tried_again() -> None:
    first = Invented(0.26)
    bracket = find_threshold(CONFIG, [], first)
    known = [first(lr) for lr in first.tried[:5]]
    second = Invented(0.26)
    assert find_threshold(CONFIG, known, second) == bracket
    assert set(second.tried).isdisjoint(probe.lr for probe in known)


def test_half_of_the_students_decide() -> None:
    probes = [Probe(0.1, 8, 3, None, 0), Probe(0.2, 8, 4, None, 0), Probe(0.3, 8, 0, None, 0)]
    assert bracket_of(probes, 0.5) == Bracket(0.1, 0.2)
    assert bracket_of(probes, 0.3) is None
    assert bracket_of(probes[:1], 0.5) is None


def test_the_edge_of_stability_is_that_of_the_calmest_students() -> None:
    probes = [Probe(0.2, 8, 0, 9.0, 0), Probe(0.1, 8, 0, 8.0, 0), Probe(0.3, 8, 8, None, 0)]
    assert edge_of_stability(probes) == 0.25
    assert edge_of_stability(probes[2:]) is None
    assert edge_of_stability([]) is None


def test_no_threshold_is_an_error_that_says_what_to_change() -> None:
    with pytest.raises(StudyError, match=r"diverge at every step size .* lower pilot_lr"):
        find_threshold(CONFIG, [], Invented(0.0))
    with pytest.raises(StudyError, match=r"no step size up to .* raise pilot_lr or steps"):
        find_threshold(CONFIG, [], Invented(float("inf")))


@pytest.mark.parametrize("step_size", ["lr_per_width=false", "pilot_lr=1e-9"])
def test_students_that_train_too_little_are_told_from_those_that_diverge(step_size: str) -> None:
    config = load_config("learning-rate", data="digits", overrides=["steps=1", step_size])
    assert isinstance(config, LearningRateConfig)
    with pytest.raises(
        StudyError, match=r"learnt anything with steps = 1 .* raise steps or pilot_lr$"
    ):
        find_threshold(config, [], lambda lr: run_probe(ProbeTask(config, lr)))


def test_students_on_images_that_die_at_a_high_pilot_lr_are_searched_below() -> None:
    overrides = ["steps=20", "pilot_lr=100", "bracket_students=2", "bracket_tolerance=0.4"]
    config = load_config("learning-rate", data="digits", overrides=overrides)
    assert isinstance(config, LearningRateConfig)
    low, high = find_threshold(config, [], lambda lr: run_probe(ProbeTask(config, lr)))
    assert 0.1 < low < high < 100


def test_the_grid_is_in_units_of_the_threshold() -> None:
    found = settings(CONFIG, Bracket(0.2, 0.2))
    assert found == [(10, pytest.approx(0.1)), (10, pytest.approx(0.22))]


def test_a_probe_trains_students_and_counts_the_diverged() -> None:
    config = LearningRateConfig(width=3, steps=30, bracket_students=4)
    calm = run_probe(ProbeTask(config, 0.1))
    assert (calm.students, calm.diverged) == (4, 0)
    assert calm.sharpness is not None
    assert calm.sharpness > 0
    wild = run_probe(ProbeTask(config, 100.0))
    assert wild.diverged == 4
    assert wild.sharpness is None
