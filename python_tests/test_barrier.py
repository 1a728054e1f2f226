# SPDX-License-Identifier: MIT
import math
import sys

import matplotlib.pyplot as plt
import pytest
import torch
from compare import assert_close, rounding
from hypothesis import given
from hypothesis import strategies as st

from lmc_fast import (
    Matching,
    barrier,
    barrier_height,
    init_students,
    match,
    path_losses,
    population_path_losses,
    sample_inputs,
    teacher,
)

E = torch.eye(2, dtype=torch.float64)


def curve(*values):
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(
    ("definition", "losses", "alphas", "height", "alpha"),
    [
        # Excess over the chord 0, 1, 3, 4: 0, 1, 2, 0. Over the mean of the ends, 2: -2, 0, 3, 2.
        ("chord", (0, 2, 5, 4), (0, 0.25, 0.75, 1), 2, 0.75),
        ("endpoint_mean", (0, 2, 5, 4), (0, 0.25, 0.75, 1), 3, 0.75),
        ("midpoint", (0, 2, 3, 5, 4), (0, 0.25, 0.5, 0.75, 1), 1, 0.5),
        ("midpoint", (4, 1, 2), (0, 0.5, 1), -2, 0.5),
        # A curve that sags has no barrier above its chord.
        ("chord", (4, 1, 2), (0, 0.5, 1), 0, 0),
        ("endpoint_mean", (4, 1, 2), (0, 0.5, 1), 1, 0),
    ],
)
def test_height_by_hand(definition, losses, alphas, height, alpha):
    alphas = torch.tensor(alphas, dtype=torch.float64)
    got, at = barrier_height(curve(*losses), alphas, definition)
    assert_close(got, torch.tensor([height]), 0)
    assert_close(at, torch.tensor([alpha]), 0)


def test_each_pair_has_its_own_height():
    losses = torch.cat([curve(0, 1, 0), curve(3, 3, 3), curve(0, torch.nan, 0)])
    height, _ = barrier_height(losses, torch.tensor([0, 0.5, 1]))
    assert_close(height, torch.tensor([1.0, 0.0, torch.nan]), 0)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=9))
def test_chord_height_is_never_negative(values):
    alphas = torch.arange(len(values), dtype=torch.float64) / (len(values) - 1)
    assert barrier_height(curve(*values), alphas)[0] >= 0


@pytest.mark.parametrize(
    ("losses", "alphas", "definition", "message"),
    [
        (curve(1, 2, 3), [0, 0.5, 1], "area", "'chord', 'endpoint_mean', 'midpoint'; got 'area'"),
        (curve(1, 2), [0, 0.5], "chord", "start at 0 and end at 1.*got 0.0 to 0.5"),
        (curve(1, 2), [0, 1], "midpoint", "contain 0.5"),
        (curve(1, 2, 3), [0, 1], "chord", r"\(1, 3\) and \(2,\)"),
    ],
)
def test_bad_curves(losses, alphas, definition, message):
    with pytest.raises(ValueError, match=message):
        barrier_height(losses, torch.tensor(alphas), definition)


def test_two_swapped_neurons_in_closed_form():
    # a = (e1, e2), b = (e2, e1), both the teacher; half way f = relu(x1 + x2). With K((1,1), e_i) =
    # (1 + 3 pi / 4) / (2 pi), the loss there is 1/4 - 1/(2 pi).
    result = barrier(E, E.flip(0), teacher=E, match="gap")
    want = torch.tensor([0.25 - 1 / (2 * math.pi)], dtype=torch.float64)
    assert_close(result.naive.height, want, rounding(30))
    assert_close(result.naive.alpha, torch.tensor([0.5]), 0)
    assert_close(result.height, torch.zeros(1), rounding(30))
    assert result.matching.perm.tolist() == [[1, 0]]
    assert result.naive.matching is None
    assert result.definition == "chord"


@given(st.permutations(range(6)))
def test_a_permuted_copy_has_no_barrier_after_matching(order):
    a = init_students([0], 6, 4, scale=1.0, c=2)
    b = a.permuted(torch.tensor(order))
    x = sample_inputs(20, 4)
    y = x[:, :2].contiguous()
    result = barrier(a, b, x=x, y=y, match="weights")
    assert_close(result.height, torch.zeros(1), rounding(100, result.curve.losses.max()))
    losses = result.curve.losses
    assert_close(losses, losses[:, :1].expand_as(losses), rounding(100, losses.max()))


def test_the_curve_is_the_path_and_matching_moves_b():
    a, b = (init_students(seeds, 5, 4, scale=1.0) for seeds in ([0, 1], [2, 3]))
    target = teacher(4, 2)
    result = barrier(a, b, teacher=target, match="gap", alphas=9, inputs="sphere", radius=2.0)
    matching = match(a, b)
    moved = b.permuted(matching.perm)
    for got, other in ((result.curve, moved), (result.naive.curve, b)):
        want = population_path_losses(a, other, target, 9, "sphere", 2.0)
        assert_close(got.losses, want.losses, 0)
        assert_close(got.alphas, want.alphas, 0)
    assert torch.equal(result.matching.perm, matching.perm)


def test_samples_with_targets_or_with_a_teacher():
    a, b = (init_students([seed], 5, 4, scale=1.0) for seed in (0, 1))
    x, target = sample_inputs(30, 4), teacher(4, 2)
    with torch.no_grad():
        y = target(x)
    by_teacher, by_y = barrier(a, b, x=x, teacher=target), barrier(a, b, x=x, y=y)
    assert_close(by_teacher.curve.losses, by_y.curve.losses, rounding(100, 10.0))
    assert_close(by_y.curve.losses, path_losses(a, b, x, y).losses, 0)


def test_cross_entropy_has_accuracies():
    a, b = (init_students([seed], 5, 4, c=3) for seed in (0, 1))
    x = sample_inputs(30, 4)
    result = barrier(a, b, x=x, y=torch.arange(30) % 3, loss="cross_entropy", match="activations")
    assert result.curve.accuracies.shape == (1, 25)
    assert result.matching.method == "activations"


def test_a_matching_can_be_given():
    perm = torch.tensor([[1, 0]])
    matching = Matching(perm, torch.zeros(1), 0.0, "by hand")
    result = barrier(E, E.flip(0), teacher=E, match=matching)
    assert result.matching is matching
    assert_close(result.height, torch.zeros(1), rounding(30))


X, Y = sample_inputs(5, 2), sample_inputs(5, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher": None}, "samples x with their targets y, or a teacher"),
        ({"y": Y}, "samples x with their targets y, or a teacher"),
        ({"x": X, "y": Y}, "from y or from a teacher"),
        ({"x": X, "teacher": None}, "x needs its targets"),
        ({"b": torch.ones(3, 2).double()}, "same width m; got 2 and 3"),
        ({"definition": "area"}, "definition must be one of"),
        ({"match": "best"}, "cost must be one of"),
        ({"match": "activations"}, "cost='activations' without x"),
        ({"alphas": [0.0, 0.5]}, "start at 0 and end at 1"),
        ({"alphas": [0.0, 2.0]}, r"\[0, 1\]"),
        ({"inputs": "cube"}, "inputs must be one of"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        barrier(**{"a": E, "b": E.flip(0), "teacher": E, **arguments})


def test_plot_draws_the_matched_and_the_naive_mean():
    a, b = (init_students(seeds, 5, 4, scale=1.0) for seeds in ([0, 1], [2, 3]))
    result = barrier(a, b, teacher=teacher(4, 2), match="gap")
    ax = result.plot()
    lines = {line.get_label(): line for line in ax.get_lines()}
    matched = torch.as_tensor(lines["matched (gap)"].get_ydata())
    assert_close(matched, result.curve.losses.mean(0), 0)
    naive = torch.as_tensor(lines["not matched"].get_ydata())
    assert_close(naive, result.naive.curve.losses.mean(0), 0)
    assert result.naive.plot(ax) is ax
    plt.close(ax.figure)


def test_plot_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'lmc_fast\[studies\]'"):
        barrier(E, E, teacher=E).plot()
