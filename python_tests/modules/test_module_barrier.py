# SPDX-License-Identifier: MIT
"""The loss along the segment between two modules."""

from __future__ import annotations

import math

import pytest
import torch
from deep_networks import batch_norm, images, mlp, vectors
from torch import Tensor, nn

from lmc_fast import TwoLayerReLU, barrier, module_barrier


def labels(n: int = 20, c: int = 3) -> Tensor:
    return torch.arange(n) % c


@pytest.mark.parametrize("definition", ["chord", "endpoint_mean", "midpoint"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_two_layers_have_the_barrier_of_barrier(loss: str, definition: str) -> None:
    torch.manual_seed(0)
    a, b = (TwoLayerReLU(4, 9, 3, dtype=torch.float64) for _ in range(2))
    x = vectors().double()
    y = labels() if loss == "cross_entropy" else torch.randn(20, 3, dtype=torch.float64)
    wanted = barrier(a, b, x=x, y=y, loss=loss, alphas=11, definition=definition)
    plain = [nn.Sequential(net.hidden, nn.ReLU(), net.output) for net in (a, b)]
    found = module_barrier(*plain, x, y, loss=loss, alphas=11, definition=definition, batch_size=7)
    torch.testing.assert_close(found.curve.losses, wanted.curve.losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.height, wanted.height, rtol=1e-9, atol=1e-14)
    if loss == "cross_entropy":
        torch.testing.assert_close(found.curve.accuracies, wanted.curve.accuracies)
    else:
        assert found.curve.accuracies is None


def test_a_curve_worked_by_hand() -> None:
    a, b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        a.weight.fill_(1.0)
        b.weight.fill_(-1.0)
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [2.0]])
    # f = (1 - 2 alpha) x: the loss is the mean of (2 alpha x)^2 / 2 = 5 alpha^2.
    found = module_barrier(a, b, x, y, alphas=[0.0, 0.25, 0.5, 1.0])
    assert found.curve.losses.tolist() == [[0.0, 0.3125, 1.25, 5.0]]
    assert float(found.height) == 0.0


def test_both_ends_are_the_networks_own_losses() -> None:
    torch.manual_seed(1)
    a, b, x = batch_norm().eval(), batch_norm().eval(), images()
    found = module_barrier(a, b, x, labels(), loss="cross_entropy", statistics_x=x)
    for net, end in ((a, 0), (b, -1)):
        own = nn.functional.cross_entropy(net(x).detach().double(), labels())
        assert float(found.curve.losses[0, end]) == pytest.approx(float(own), rel=1e-12)


def test_statistics_are_estimated_anew_between_the_ends() -> None:
    """x -> BatchNorm -> weight: with statistics of x itself the loss is known."""
    a, b = (nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)).double() for _ in range(2))
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    with torch.no_grad():
        for net, weight in ((a, 1.0), (b, 3.0)):
            net[0].weight.fill_(weight)
            net[0].bias.fill_(0.0)
            net[1].running_mean.fill_(0.0)
            net[1].running_var.fill_(weight**2)
    reset = module_barrier(a, b, x, x, alphas=3, statistics_x=x)
    plain = module_barrier(a, b, x, x, alphas=3)
    eps = 1e-5
    # At 1/2 the weight is 2. Variance 5 interpolated; torch's estimate over two samples is 8.
    for found, variance in ((plain, 5.0), (reset, 8.0)):
        wanted = (2 / math.sqrt(variance + eps) - 1) ** 2 / 2
        assert float(found.curve.losses[0, 1]) == pytest.approx(wanted, rel=1e-12)
    assert float(a[1].running_var) == 1.0


def test_statistics_of_batches_with_one_sample_over() -> None:
    """Nine samples in batches of at most eight: a last batch of one has no variance."""
    a, b = batch_norm(), batch_norm()
    found = module_barrier(a, b, images(), labels(), loss="cross_entropy", alphas=3,
                           statistics_x=images(9), batch_size=8)  # fmt: skip
    assert bool(torch.isfinite(found.curve.losses).all())


def test_plots_like_any_barrier() -> None:
    found = module_barrier(mlp(4, 5, 2), mlp(4, 5, 2), vectors(), labels(c=2), loss="cross_entropy")
    assert found.plot().get_ylabel() == "loss"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": torch.zeros(3, dtype=torch.int64)}, ValueError, r"y must be \(n,\) = \(20,\)"),
        ({"y": labels() + 5}, ValueError, r"labels in 0..2"),
        ({"loss": "l1"}, ValueError, "loss must be one of 'mse', 'cross_entropy'"),
        ({"definition": "max"}, ValueError, "definition must be one of"),
        ({"alphas": [0.5, 1.0]}, ValueError, "alphas must start at 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"b": mlp(4, 6, 3)}, ValueError, "b's '0.weight' must be like a's"),
        ({"x": torch.zeros(0, 4)}, ValueError, "x must be a torch tensor"),
    ],
)
def test_bad_arguments(change: dict[str, object], error: type[Exception], message: str) -> None:
    given = {"a": mlp(4, 5, 3), "b": mlp(4, 5, 3), "x": vectors(), "y": labels(),
             "loss": "cross_entropy"} | change  # fmt: skip
    with pytest.raises(error, match=message):
        module_barrier(**given)  # type: ignore[arg-type]


def test_outputs_must_be_vectors() -> None:
    net = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
    with pytest.raises(ValueError, match=r"outputs \(n, c\); one sample gives \(1,\)"):
        module_barrier(net, net, vectors(), torch.zeros(20))
