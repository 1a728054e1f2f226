# SPDX-License-Identifier: MIT
import math

import pytest
import torch
from compare import assert_close, rounding

from lmc_fast.curves import as_alphas
from lmc_fast.losses import accuracy, mean_loss
from lmc_fast.reference.path_losses import path_losses
from lmc_fast.reference.two_layer_relu import two_layer_relu
from lmc_fast.weights import Weights


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def networks(pairs=2, m=4, d=3, c=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Weights(normal(pairs, m, d), normal(pairs, m), normal(pairs, c, m), normal(pairs, c))


def test_by_hand():
    # a(x) = relu(x), b(x) = relu(-x): w1 goes from 1 to -1, so f_alpha(x) = relu((1 - 2 alpha) x).
    a, b = column(1.0)[None], column(-1.0)[None]
    x, y = column(2.0, -1.0), column(1.0, 0.0)
    curve = path_losses(a, b, x, y, [0.0, 0.25, 0.5, 1.0])
    # alpha 0: f = (2, 0), residuals (1, 0); 1/4: f = (1, 0); 1/2: f = 0; 1: f = (0, 1).
    want = torch.tensor([[1 / 4, 0.0, 1 / 4, 2 / 4]], dtype=torch.float64)
    assert_close(curve.losses, want, rounding(4))
    assert curve.accuracies is None


def test_cross_entropy_by_hand():
    # Logits (relu(x), 0) with x = ln 3: probabilities (3/4, 1/4). At b (w1 = 0) both are 1/2, where
    # the first of equal outputs wins.
    w2 = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    a, b = (column(1.0), w2), (column(0.0), w2)
    x, y = column(math.log(3), math.log(3)), torch.tensor([0, 1])
    curve = path_losses(a, b, x, y, 2, "cross_entropy")
    first = (math.log(4 / 3) + math.log(4)) / 2
    assert_close(
        curve.losses, torch.tensor([[first, math.log(2)]], dtype=torch.float64), rounding(8)
    )
    assert_close(curve.accuracies, torch.tensor([[0.5, 0.5]]), 0)


def test_squared_loss_of_labels_by_hand():
    # Outputs (1, 0) at a and (0, 0) at b against targets (1, 0) and (0, 1). Of equal outputs the
    # first wins, so that the first sample is always right and the second never.
    w2 = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    a, b = (column(1.0), w2), (column(0.0), w2)
    curve = path_losses(a, b, column(1.0, 1.0), torch.tensor([0, 1]), 3, "mse")
    # Sums of squares: 0 and 2; 1/4 and 5/4; 1 and 1. Halved, and their mean.
    want = torch.tensor([[2 / 4, 1.5 / 4, 2 / 4]], dtype=torch.float64)
    assert_close(curve.losses, want, rounding(4))
    assert_close(curve.accuracies, torch.full((1, 3), 0.5), 0)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_ends_are_the_endpoints_own_losses(loss):
    a, b = networks(), networks(seed=1)
    x = networks(seed=2).w1[0]
    y = torch.tensor([0, 1, 1, 0]) if loss == "cross_entropy" else x[:, :2]
    curve = path_losses(a, b, x, y, 5, loss)
    for end, net in ((0, a), (-1, b)):
        outputs = two_layer_relu(x, *net)
        assert_close(curve.losses[:, end], mean_loss(outputs, y, loss), 0)
    outputs = two_layer_relu(x, *a.at(b, 0.25))
    assert_close(curve.losses[:, 1], mean_loss(outputs, y, loss), 0)
    if loss == "cross_entropy":
        assert_close(curve.accuracies[:, 1], accuracy(outputs, y), 0)


def test_equal_networks_give_a_flat_curve():
    a, x = networks(), networks(seed=2).w1[0]
    losses = path_losses(a, a, x, x[:, :2], 9).losses
    assert_close(losses, losses[:, :1].expand_as(losses), rounding(50, losses.max()))


def test_one_network_without_biases():
    a, b, x = networks(), networks(seed=1), networks(seed=2).w1[0]
    bare = b._replace(b1=None, b2=None)
    zeros = b._replace(b1=torch.zeros_like(b.b1), b2=torch.zeros_like(b.b2))
    got, want = (path_losses(a, other, x, x[:, :2], 5).losses for other in (bare, zeros))
    assert_close(got, want, 0)


def test_mse_is_half_the_squared_error_in_torch():
    outputs, y = networks(seed=3).w1[0], networks(seed=4).w1[0]
    want = torch.nn.functional.mse_loss(outputs, y, reduction="sum") / (2 * len(y))
    assert_close(mean_loss(outputs, y, "mse"), want, rounding(20, want))
    labels = torch.tensor([0, 2, 1, 1])
    want = torch.nn.functional.cross_entropy(outputs, labels)
    assert_close(mean_loss(outputs, labels, "cross_entropy"), want, rounding(20, want))


def test_cross_entropy_of_huge_logits_is_finite():
    outputs = torch.tensor([[1e4, 0.0]], dtype=torch.float64)
    assert_close(mean_loss(outputs, torch.tensor([1]), "cross_entropy"), 1e4, rounding(4, 1e4))


def test_alphas_hold_one_half_for_every_odd_number():
    assert all(0.5 in as_alphas(count) for count in range(3, 400, 2))
    assert all(as_alphas(count)[-1] == 1.0 for count in range(2, 400))


@pytest.mark.parametrize(
    ("alphas", "error", "message"),
    [
        (1, ValueError, "at least 2"),
        (True, TypeError, "bool"),
        ([], ValueError, "not empty"),
        ([[0.0, 1.0]], ValueError, "1-d"),
        ([0.0, 1.5], ValueError, r"\[0, 1\]; got values from 0.0 to 1.5"),
        ([-0.1, 1.0], ValueError, r"\[0, 1\]"),
        ([0.0, torch.nan], ValueError, r"\[0, 1\]"),
        ([0.0, 0.6, 0.5, 1.0], ValueError, "sorted"),
    ],
)
def test_bad_alphas(alphas, error, message):
    with pytest.raises(error, match=message):
        as_alphas(alphas)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"b": networks(m=5)}, ValueError, "same width m; got 4 and 5"),
        ({"b": networks(pairs=3)}, ValueError, "pairs P; got 2 and 3"),
        ({"b": networks(c=1)}, ValueError, "outputs c"),
        ({"b": [t.float() for t in networks()]}, TypeError, "same dtype"),
        ({"x": torch.zeros(5, 2).double()}, ValueError, r"\(\*, 3\).*got \(5, 2\)"),
        ({"x": torch.zeros(0, 3).double()}, ValueError, "n >= 1"),
        ({"x": torch.zeros(5, 3)}, TypeError, "x must have the dtype of w1"),
        ({"x": torch.full((5, 3), torch.inf).double()}, ValueError, "x must be finite"),
        ({"y": torch.zeros(4, 2).double()}, ValueError, r"\(5, 2\) for mse; got \(4, 2\)"),
        ({"y": torch.zeros(5, 2)}, TypeError, "y must have the dtype"),
        ({"loss": "hinge"}, ValueError, "'mse', 'cross_entropy'; got 'hinge'"),
        ({"loss": "cross_entropy"}, TypeError, "int64 class labels"),
        ({"loss": "cross_entropy", "y": torch.full((5,), 2)}, ValueError, r"0..1.*got 2 to 2"),
        ({"loss": "cross_entropy", "y": torch.zeros(4).long()}, ValueError, r"\(5,\) labels"),
    ],
)
def test_bad_input(arguments, error, message):
    good = {
        "a": networks(),
        "b": networks(seed=1),
        "x": torch.zeros(5, 3).double(),
        "y": torch.zeros(5, 2).double(),
    }
    with pytest.raises(error, match=message):
        path_losses(**{**good, **arguments})
