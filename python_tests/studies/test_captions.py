# SPDX-License-Identifier: MIT
"""Captions: settings in words, and lines that fit a figure."""

from __future__ import annotations

import pytest

from lmc_fast.data import digits
from lmc_fast.studies.captions import unfinished_widths, wrapped
from lmc_fast.studies.comparison import load_comparison
from lmc_fast.studies.config import StudyName
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.settings_line import ALL_IMAGES, describe, describe_all


@pytest.mark.parametrize(
    ("study", "overrides", "expected"),
    [
        (
            "width",
            [],
            "teacher with M = 5 orthonormal neurons, d = 10; population GD, lr = 4/m, 4,000 steps, "
            "first weights of scale 1/m, w2 fixed",
        ),
        (
            "width",
            ["steps_per_neuron=60", "lr_per_width=false", "train_w2=true", "problem.samples=500",
             "method=sgd", "batch_size=16", "problem.inputs=sphere"],
            "teacher with M = 5 orthonormal neurons, d = 10, inputs on a sphere of radius 1, "
            "n = 500 samples; SGD with batches of 16, lr = 4, max(4,000, 60 m) steps, first "
            "weights of scale 1/m, w2 trained",
        ),
        (
            "learning-rate",
            [],
            "teacher with M = 5 orthonormal neurons, d = 10; m = 20, population GD, 2,500 steps, "
            "first weights of scale 0.1, w2 fixed",
        ),
        (
            "theory",
            [],
            "teacher with M = 5 orthonormal neurons, d = 10; random global minima, nothing trained",
        ),
        (
            "depth",
            ["problem.train_samples=500"],
            "8×8 digits, n = 500 training images, cross entropy; Adam, batches of 64, lr = 0.003, "
            "200 steps",
        ),
    ],
)  # fmt: skip
def test_settings_in_a_line(study: StudyName, overrides: list[str], expected: str) -> None:
    assert describe(load_config(study, overrides=overrides)) == expected


@pytest.mark.parametrize(
    ("study", "name", "expected"),
    [
        ("width", "dimension", "neurons, d = 5, 10, 20, 50 or 100; population GD, lr = 4/m, "),
        ("width", "initialisation", "4,000 steps, first weights of scale 1/m, 0.01, 0.1 or 1, "),
        ("width", "teacher", "M = 2, 5, 10 or 20 orthonormal neurons, d = 20; population GD"),
        ("width", "training", "lr = 4/m, 2/m or 1/m, 16,000 steps, "),
        ("learning-rate", "width", "m = 10, 20, 40 or 80, population GD, 2,500 steps"),
    ],
)
def test_several_studies_in_a_line(study: StudyName, name: str, expected: str) -> None:
    variants = load_comparison(study, name).variants
    assert expected in describe_all([variant.config for variant in variants])


def test_settings_of_other_forms_stand_beside_each_other() -> None:
    both = [load_config("width", overrides=[f"steps_per_neuron={count}"]) for count in (0, 60)]
    assert ", 4,000 or max(4,000, 60 m) steps, " in describe_all(both)
    teachers = [
        load_config("width", overrides=[f"problem.teacher_kind={kind}"])
        for kind in ("orthonormal", "random")
    ]
    assert describe_all(teachers).startswith(
        "teacher with M = 5 orthonormal neurons or teacher with M = 5 random neurons, d = 10; "
    )


def test_the_images_of_the_whole_data_set_are_counted() -> None:
    assert ALL_IMAGES["digits"] == len(digits().x_train)
    mnist = load_config("width", data="mnist", overrides=["problem.train_samples=none"])
    assert "MNIST, n = 60,000 training images, " in describe(mnist)


def test_lines_fit_the_figure() -> None:
    text = wrapped(["a short line", "computed by lmc_fast 0.1 (commit abc-dirty), " * 4], 3.3)
    assert text.startswith("a short line\n")
    assert max(map(len, text.splitlines())) <= 56
    first, second = wrapped(["word " * 12], 3.3).splitlines()
    assert first == second
    # A commit is not broken at its hyphen.
    assert "abc-\n" not in text


def test_widths_without_a_pair_are_named() -> None:
    assert unfinished_widths([3, 5, 8], {3: 6, 5: 2}, 6) == [
        "not finished: so far 2 at m = 5, 0 at m = 8"
    ]
    assert unfinished_widths([3], {3: 6}, 6) == []
