# SPDX-License-Identifier: MIT
"""Which axes share a permutation, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from deep_networks import Residual, Shared, batch_norm, cnn, images, mlp, shuffled, vectors
from torch import Tensor, nn

from lmc_fast import TwoLayerReLU, permutation_graph


def axes(module: nn.Module, x: Tensor) -> dict[str, set[tuple[str, int, int]]]:
    graph = permutation_graph(module, x)
    return {name: {tuple(axis) for axis in found} for name, found in graph.axes.items()}


def test_an_mlp_has_a_permutation_for_each_hidden_layer() -> None:
    assert axes(mlp(4, 5, 6, 2), vectors()) == {
        "0": {("0.weight", 0, 1), ("0.bias", 0, 1), ("2.weight", 1, 1)},
        "2": {("2.weight", 0, 1), ("2.bias", 0, 1), ("4.weight", 1, 1)},
    }


def test_flattened_channels_are_blocks_of_features() -> None:
    found = axes(cnn(), images())
    assert found["3"] == {("3.weight", 0, 1), ("3.bias", 0, 1), ("7.weight", 1, 4)}


def test_batch_norm_takes_its_statistics_along() -> None:
    found = axes(batch_norm(), images())
    entries = ("weight", "bias", "running_mean", "running_var")
    assert found["0"] == {
        ("0.weight", 0, 1), ("0.bias", 0, 1), ("5.weight", 1, 36),
        *((f"1.{name}", 0, 1) for name in entries), *((f"4.{name}", 0, 36) for name in entries),
    }  # fmt: skip
    assert {("8.weight", 0, 1), ("8.bias", 0, 1)} <= found["5"]  # LayerNorm


def test_residual_additions_tie_what_they_add() -> None:
    found = axes(Residual(), images())
    assert set(found) == {"stem", "first"}
    assert found["first"] == {("first.weight", 0, 1), ("first.bias", 0, 1), ("second.weight", 1, 1)}
    assert found["stem"] == {
        ("stem.weight", 0, 1), ("stem.bias", 0, 1), ("first.weight", 1, 1),
        ("second.weight", 0, 1), ("second.bias", 0, 1), ("depthwise.weight", 0, 1),
        ("depthwise.bias", 0, 1), ("loop.weight", 0, 1), ("loop.weight", 1, 1), ("loop.bias", 0, 1),
        ("scale", 0, 1), ("head.weight", 1, 1),
    }  # fmt: skip


def test_a_module_used_twice_has_one_permutation() -> None:
    found = axes(Shared(), vectors())
    assert set(found) == {"stem"}
    assert {("again.weight", 0, 1), ("again.weight", 1, 1), ("head.weight", 1, 1)} <= found["stem"]


def test_units_added_to_the_input_stay_in_place() -> None:
    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = mlp(4, 5, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x + self.layers(x))

    assert set(axes(Adds(), vectors())) == {"layers.0"}


def test_the_networks_of_this_package_are_known() -> None:
    found = axes(nn.Sequential(TwoLayerReLU(4, 5, 3), nn.Linear(3, 2)), vectors())
    assert {name: len(found[name]) for name in found} == {"0.hidden": 3, "0.output": 3}


@pytest.mark.parametrize(
    ("layers", "x"),
    [
        (lambda: mlp(4, 7, 6, 2, activation=nn.SELU), vectors()),
        (cnn, images()),
        (batch_norm, images()),
        (Residual, images()),
        (Shared, vectors()),
        (lambda: nn.Sequential(nn.Linear(4, 5), nn.PReLU(5), nn.RMSNorm(5), nn.Linear(5, 2)),
         vectors()),
        (lambda: nn.Sequential(nn.Conv1d(3, 5, 3), nn.PReLU(), nn.AdaptiveMaxPool1d(2),
                               nn.Flatten(), nn.Linear(10, 2)),
         torch.randn(6, 3, 9, generator=torch.Generator().manual_seed(0))),
        (lambda: nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (6, 1, 1)), nn.Conv2d(6, 5, 1),
                               nn.Flatten(), nn.Linear(5, 2)), vectors()),
        (lambda: nn.Sequential(nn.Linear(4, 6), nn.Softmax(1), nn.Linear(6, 1), nn.Flatten(0)),
         vectors()),
    ],
)  # fmt: skip
def test_permuted_networks_compute_the_same(layers: Callable[[], nn.Module], x: Tensor) -> None:
    torch.manual_seed(1)
    net = layers().double().eval()
    x = x.double()
    other, perms = shuffled(net, x)
    assert perms
    with torch.no_grad():
        before, after = net(x), other(x)
    # Sums of fewer than a thousand terms of order one, a few layers deep.
    torch.testing.assert_close(after, before, rtol=1e-11, atol=1e-11)
    changed = [name for name, p in net.named_parameters() if (p != other.state_dict()[name]).any()]
    assert changed


class Built(nn.Module):
    """Named parts and a forward function of them."""

    def __init__(self, forward: Callable[[Built, Tensor], Tensor], **parts: object) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def gated(net: Built, x: Tensor, *, first: bool) -> Tensor:
    h = torch.relu(net.a(x))
    gate = torch.sigmoid(net.gate(h))
    return net.b(gate * h if first else h * gate)


@pytest.mark.parametrize(
    ("make", "x", "wanted"),
    [
        # numpy's names of the arguments
        (lambda: Built(lambda net, x: net.b(net.a(x).mean(axis=(2, 3))),
                       a=nn.Conv2d(1, 5, 3), b=nn.Linear(5, 2)), images(),
         {"a": {("a.weight", 0, 1), ("a.bias", 0, 1), ("b.weight", 1, 1)}}),
        (lambda: Built(lambda net, x: net.b(net.a(x).amax(()).view(1, 1)),
                       a=nn.Linear(4, 5), b=nn.Linear(1, 2)), vectors(),
         {"a": {("a.weight", 0, 1), ("a.bias", 0, 1)}}),
        # one tensor both with the input, which stays in place, and with units
        (lambda: Built(lambda net, x: net.b(torch.relu(net.a(x - net.shift)) + net.shift),
                       a=nn.Linear(4, 4), b=nn.Linear(4, 2), shift=nn.Parameter(torch.randn(4))),
         vectors(), {}),
        (lambda: Built(lambda net, x: net.b(net.a(x - torch.ones(4))),
                       a=nn.Linear(4, 5), b=nn.Linear(5, 2)), vectors(),
         {"a": {("a.weight", 0, 1), ("a.bias", 0, 1), ("b.weight", 1, 1)}}),
        *((lambda first=first: Built(lambda net, x: gated(net, x, first=first), a=nn.Linear(4, 5),
                                     gate=nn.Linear(5, 1), b=nn.Linear(5, 2)), vectors(),
           {"a": {("a.weight", 0, 1), ("a.bias", 0, 1), ("gate.weight", 1, 1), ("b.weight", 1, 1)},
            "gate": {("gate.weight", 0, 1), ("gate.bias", 0, 1)}})
          for first in (True, False)),
    ],
)  # fmt: skip
def test_reductions_constants_and_gates(
    make: Callable[[], nn.Module], x: Tensor, wanted: dict[str, set[tuple[str, int, int]]]
) -> None:
    torch.manual_seed(1)
    net = make()
    assert axes(net, x) == wanted
    other, _ = shuffled(net, x)
    torch.testing.assert_close(other(x), net(x))


def test_the_module_is_left_as_it_is() -> None:
    net = batch_norm().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    permutation_graph(net, images())
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


class Function(nn.Module):
    """A hidden layer, then a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.hidden = mlp(4, 6, 6)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.hidden(x))


def refused(net: nn.Module, x: Tensor) -> str:
    with pytest.raises(ValueError) as error:
        permutation_graph(net, x)
    return str(error.value)


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (nn.GroupNorm(2, 4), images(), "module '1' (GroupNorm) of the network cannot be permuted: "
         "it normalises groups of channels"),
        (nn.Conv2d(4, 6, 3, groups=2), images(), "module '1' (Conv2d)"),
        (nn.Conv2d(4, 6, 3, groups=2), images(), "with groups=2"),
        (nn.ConvTranspose2d(4, 6, 3), images(), "module '1' (ConvTranspose2d)"),
        (nn.Linear(6, 3), images(), "acts on dimension 3 of (4, 4, 6, 6), and units lie along "
         "dimension 1: flatten first"),
        (nn.MaxPool2d(2, return_indices=True), images(), "must give one tensor"),
        (nn.PixelShuffle(2), images(), "module '1' (PixelShuffle)"),
    ],
)  # fmt: skip
def test_layers_that_are_not_supported_are_named(layer: nn.Module, x: Tensor, message: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), layer)
    written = refused(net, x)
    assert message in written
    assert "Supported are Linear, Conv1d" in written


def test_attention_is_named() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    assert "module 'attention' (MultiheadAttention)" in refused(Attends(), vectors())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda h: h.cumsum(1), "method 'cumsum' of the network"),
        (lambda h: torch.sort(h, 1).values, "function 'sort'"),
        (lambda h: torch.cat((h, h), 1), "function 'cat'"),
        (lambda h: h.T @ h, "function 'getattr'"),
        (lambda h: h.view(-1, 3, 2), "mixes units"),
        (lambda h: h.reshape(-1, 3), "mixes units"),
        (lambda h: h[:, 1:] + h[:, :-1], "function 'getitem'"),
    ],
)
def test_functions_that_are_not_supported_are_named(
    function: Callable[[Tensor], Tensor], message: str
) -> None:
    assert message in refused(Function(function), vectors())


def test_a_function_is_named_with_its_module() -> None:
    net = nn.Sequential(mlp(4, 6), nn.Sequential(Function(lambda h: h.cumsum(1)), nn.ReLU()))
    net[0] = nn.Linear(4, 4)
    assert "method 'cumsum' in module '1.0'" in refused(net, vectors())


def test_units_are_not_kept_in_place_by_what_parameters_give() -> None:
    net = Built(
        lambda net, x: net.b(net.a(x) * (net.scale + 1)),
        a=nn.Linear(4, 5),
        b=nn.Linear(5, 2),
        scale=nn.Parameter(torch.ones(5)),
    )
    written = refused(net, vectors())
    assert "function 'mul' of the network" in written
    assert "it combines units with what is computed from the module's own tensors" in written


def test_weights_that_are_computed_are_named() -> None:
    plain = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    torch.nn.utils.parametrizations.weight_norm(plain[0])
    assert "module '0' (ParametrizedLinear)" in refused(plain, vectors())


def test_modules_that_cannot_be_copied_are_named() -> None:
    net = mlp(4, 5, 2)
    net.computed = net[0].weight * 2  # type: ignore[assignment]
    assert "Sequential cannot be copied: Only Tensors created explicitly" in refused(net, vectors())


def test_control_flow_is_said_to_be_untraceable() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    written = refused(Branches(), vectors())
    assert "torch.fx cannot trace Branches" in written
    assert "without branches" in written


def test_two_inputs_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    assert "must take one tensor; it takes 2" in refused(Two(), vectors())


def test_bad_examples() -> None:
    assert "cannot be run on x (4, 3)" in refused(mlp(4, 3, 2), vectors(d=3))
    assert "got (5,)" in refused(mlp(4, 3, 2), torch.zeros(5))
    with pytest.raises(TypeError, match="x must be a torch tensor"):
        permutation_graph(mlp(4, 3, 2), [1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be an nn.Module; got dict"):
        permutation_graph({}, vectors())  # type: ignore[arg-type]
