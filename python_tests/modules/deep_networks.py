# SPDX-License-Identifier: MIT
"""Networks of the kinds that modules are tested with, and copies in another order."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lmc_fast import PermutationGraph, permutation_graph
from lmc_fast.modules.check import tensors_of


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of these widths with an activation between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Sequential:
    """Convolutions, pooling, flattening to blocks of 4, one hidden layer."""
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(6 * 4, 7), nn.ReLU(), nn.Linear(7, 3),
    )  # fmt: skip


def batch_norm() -> nn.Sequential:
    """BatchNorm after a convolution, and of flattened channels; statistics that are not trivial."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(4 * 36),
        nn.Linear(4 * 36, 6), nn.BatchNorm1d(6), nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 3),
    )  # fmt: skip
    for layer in net:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
    return net


class Residual(nn.Module):
    """Two residual blocks with a normalised stream, depthwise convolution, functions, a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 5, 3, padding=1)
        self.first = nn.Conv2d(5, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 5, 3, padding=1)
        self.depthwise = nn.Conv2d(5, 5, 3, padding=1, groups=5)
        self.loop = nn.Conv2d(5, 5, 1)
        self.scale = nn.Parameter(torch.randn(5, 1, 1))
        self.head = nn.Linear(5, 3)
        self.register_buffer("mean", torch.full((1, 8, 8), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem((x - self.mean) * 2))
        x = x + self.second(functional.silu(self.first(x)))
        x = functional.max_pool2d(self.depthwise(x), 2) * self.scale
        x += torch.tanh(self.loop(x)) / 2
        return self.head(x.mean((2, 3)))


class Shared(nn.Module):
    """One hidden layer that is applied twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.again(torch.relu(self.again(x))))
        return functional.log_softmax(self.head(x), dim=1)


def images(n: int = 20) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def vectors(n: int = 20, d: int = 4) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(5))


def shuffled(net: nn.Module, x: Tensor, seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy whose units stand in random order, and the order."""
    graph: PermutationGraph = permutation_graph(net, x)
    generator = torch.Generator().manual_seed(seed)
    perms = {name: torch.randperm(size, generator=generator) for name, size in graph.sizes.items()}
    moved = graph.permute(tensors_of(net), perms)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for name, tensor in tensors_of(other).items():
            tensor.copy_(moved[name])
    return other, perms
