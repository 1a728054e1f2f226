# SPDX-License-Identifier: MIT
"""Coordinate descent: monotone, exact where it must be, and what it recovers."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from deep_networks import Residual, Shared, batch_norm, cnn, images, mlp, shuffled, vectors
from torch import Tensor, nn

from lmc_fast import (
    PermutationGraph,
    TwoLayerReLU,
    match,
    match_modules,
    module_barrier,
    permutation_graph,
)
from lmc_fast.modules import matching as matching_module
from lmc_fast.modules.check import tensors_of

NETWORKS = [
    (lambda: mlp(4, 9, 3), vectors()),
    (lambda: mlp(4, 9, 8, 7, 6, 3), vectors()),
    (cnn, images()),
    (batch_norm, images()),
    (Residual, images()),
    (Shared, vectors()),
]


@pytest.mark.parametrize(("make", "x"), NETWORKS)
def test_a_permuted_copy_is_recovered(make: Callable[[], nn.Module], x: Tensor) -> None:
    torch.manual_seed(2)
    a = make().double().eval()
    x = x.double()
    b, perms = shuffled(a, x)
    found = match_modules(a, b, x, starts=4)
    for name, perm in perms.items():
        assert torch.equal(found.permutations[name], torch.argsort(perm))
    assert all(
        torch.equal(tensor, tensors_of(a)[name])
        for name, tensor in tensors_of(found.apply(b)).items()
    )
    y = a(x).detach()
    naive = module_barrier(a, b, x, y, alphas=5)
    matched = module_barrier(a, found.apply(b), x, y, alphas=5)
    assert float(naive.height) > 1e-6
    # (1 - alpha) w + alpha w is w but for rounding, and the loss is quadratic in it.
    assert float(matched.height) < 1e-25


@pytest.mark.parametrize(("make", "x"), NETWORKS)
def test_the_objective_never_falls_and_is_what_it_says(
    make: Callable[[], nn.Module], x: Tensor
) -> None:
    torch.manual_seed(3)
    a, b = make(), make()
    found = match_modules(a, b, x)
    steps = found.objective.diff()
    assert (steps >= 0).all()
    assert float(steps[-1]) == 0  # the last pass improves nothing
    reordered = dict(found.apply(b).named_parameters())
    inner = sum(
        float((p.detach().double() * reordered[name].detach().double()).sum())
        for name, p in a.named_parameters()
        if name in {axis.tensor for axes in found.graph.axes.values() for axis in axes}
    )
    assert float(found.objective[-1]) == pytest.approx(inner, rel=1e-12)


def test_one_hidden_layer_is_matched_as_by_match() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        a, b = TwoLayerReLU(4, 12, 3), TwoLayerReLU(4, 12, 3)
        wanted = match(a, b, cost="weights")
        as_layers = [nn.Sequential(net.hidden, nn.ReLU(), net.output) for net in (a, b)]
        found = match_modules(*as_layers, vectors())
        assert torch.equal(found.permutations["0"], wanted.perm[0])
        assert torch.equal(match_modules(a, b, vectors()).permutations["hidden"], wanted.perm[0])


def objectives(a: nn.Module, b: nn.Module, x: Tensor) -> list[float]:
    """Of all permutations of all layers, the slow way."""
    graph = permutation_graph(a, x)
    names = list(graph.sizes)
    every = [list(itertools.permutations(range(graph.sizes[name]))) for name in names]
    ours, theirs = tensors_of(a), tensors_of(b)
    found = []
    for chosen in itertools.product(*every):
        perms = {name: torch.tensor(perm) for name, perm in zip(names, chosen, strict=True)}
        moved = graph.permute(theirs, perms)
        found.append(sum(float((ours[name] * moved[name]).sum()) for name in ours))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_the_best_of_36_is_reached_with_starts_and_never_beaten(seed: int) -> None:
    torch.manual_seed(seed)
    a, b = (mlp(2, 3, 3, 2).double() for _ in range(2))
    x = vectors(d=2).double()
    every = objectives(a, b, x)
    assert len(every) == 36
    once = float(match_modules(a, b, x).objective[-1])
    often = float(match_modules(a, b, x, starts=20).objective[-1])
    # The last bias is in no permutation: it adds the same to all.
    constant = float((a[4].bias.detach() * b[4].bias.detach()).sum())
    assert once + constant <= max(every) + 1e-12
    assert often + constant == pytest.approx(max(every), abs=1e-12)


def test_a_start_from_elsewhere_can_be_better() -> None:
    gains = []
    for seed in range(10):
        torch.manual_seed(seed)
        a, b = mlp(4, 6, 6, 6, 2), mlp(4, 6, 6, 6, 2)
        one, many = (match_modules(a, b, vectors(), starts=n).objective[-1] for n in (1, 10))
        gains.append(float(many - one))
    assert min(gains) >= 0
    assert max(gains) > 0


def test_the_result_depends_on_the_arguments_alone() -> None:
    torch.manual_seed(0)
    a, b = Residual(), Residual()
    first, again = (match_modules(a, b, images(), seed=3, starts=3) for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(first.objective, again.objective)
    assert all(torch.equal(first.permutations[k], p) for k, p in again.permutations.items())


def test_both_networks_are_left_as_they_are() -> None:
    torch.manual_seed(0)
    a, b = batch_norm(), batch_norm()
    before = copy.deepcopy((a.state_dict(), b.state_dict()))
    moved = match_modules(a, b, images()).apply(b)
    for state, net in zip(before, (a, b), strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert moved.training


def test_without_a_matrix_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    a, b = cnn(), cnn()
    wanted = match_modules(a, b, images())
    monkeypatch.setattr(matching_module, "_MATRIX", 0)
    found = match_modules(a, b, images())
    assert all(torch.equal(found.permutations[k], p) for k, p in wanted.permutations.items())


def test_a_known_graph_is_not_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    a, b = cnn(), cnn()
    wanted = match_modules(a, b, images())

    def never(*_: object) -> None:
        raise AssertionError("traced")

    monkeypatch.setattr(matching_module, "permutation_graph", never)
    found = match_modules(a, b, images(), graph=wanted.graph)
    assert all(torch.equal(found.permutations[k], p) for k, p in wanted.permutations.items())


def test_apply_checks_the_function() -> None:
    torch.manual_seed(0)
    a, b = mlp(4, 6, 3), mlp(4, 6, 3)
    found = match_modules(a, b, vectors())
    axes = {"0": found.graph.axes["0"][:-1]}  # the outgoing weights forgotten
    broken = matching_module.ModuleMatching(
        found.permutations,
        found.objective,
        matching_module.PermutationGraph(found.graph.sizes, axes),
        found.probe,
        0.0,
    )
    with pytest.raises(RuntimeError, match="b computes another function"):
        broken.apply(b)


class Ends(nn.Module):
    """A hidden layer between two functions."""

    def __init__(
        self, before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.layers, self.before, self.after = mlp(4, 6, 3), before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.layers(self.before(x)))


def test_outputs_that_are_not_finite_do_not_pass_for_equal() -> None:
    torch.manual_seed(0)
    x = vectors()
    a, b = (Ends(lambda x: x, lambda y: torch.sqrt(-torch.relu(y) - 1)) for _ in range(2))
    with pytest.raises(ValueError, match="b must give finite outputs on x"):
        match_modules(a, b, x)
    a, b = (Ends(torch.sqrt, lambda y: y) for _ in range(2))  # of negative inputs NaN
    x[:2], x[2] = x[:2].abs(), -1
    found = match_modules(a, b, x)
    axes = {"layers.0": found.graph.axes["layers.0"][:-1]}
    with pytest.raises(RuntimeError, match="b computes another function"):
        replace(found, graph=PermutationGraph(found.graph.sizes, axes)).apply(b)


def test_networks_that_convert_their_inputs_are_checked_in_their_own_type() -> None:
    torch.manual_seed(0)
    a, b = (Ends(lambda x: x.float() / 255, lambda y: y) for _ in range(2))
    x = torch.randint(0, 255, (8, 4), dtype=torch.uint8)
    found = match_modules(a, b, x)
    assert torch.allclose(found.apply(b)(x), b(x), atol=1e-5)
    axes = {"layers.0": found.graph.axes["layers.0"][:-1]}
    with pytest.raises(RuntimeError, match="b computes another function"):
        replace(found, graph=PermutationGraph(found.graph.sizes, axes)).apply(b)


class Joined(nn.Module):
    """Two layers whose results are joined by a function."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.head(self.join(x, self.second(x)))


def test_modules_that_differ_are_named() -> None:
    x = vectors()
    with pytest.raises(ValueError, match=r"b's '0.weight' must be like a's, \(5, 4\) .* got \(6"):
        match_modules(mlp(4, 5, 2), mlp(4, 6, 2), x)
    bare = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2, bias=False))
    with pytest.raises(ValueError, match=r"b has no tensor '2.bias'"):
        match_modules(mlp(4, 5, 2), bare, x)
    with pytest.raises(ValueError, match=r"joined differently"):
        match_modules(Joined(lambda x, y: x + y), Joined(lambda x, y: y), x)
    wrong = mlp(4, 5, 2)
    with torch.no_grad():
        wrong[0].bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"b's '0.bias' must be finite"):
        match_modules(mlp(4, 5, 2), wrong, x)
    with pytest.raises(TypeError, match=r"b must be an nn.Module; got dict"):
        match_modules(mlp(4, 5, 2), {}, x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"starts must be at least 1; got 0"):
        match_modules(mlp(4, 5, 2), mlp(4, 5, 2), x, starts=0)
