# SPDX-License-Identifier: MIT
"""The networks of the depth study: built, initialised and trained from a seed, each by itself."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from .. import data
from ..training import train
from .checkpoints import checkpoint_metadata
from .config import ArchitectureName, DatasetProblem, DepthConfig
from .errors import CheckpointError, ConfigError

_CHANNEL_SHARE = 4
_MARGIN = 1e-3
_MOMENTUM = 0.9
_PIXELS = {"digits": 64, "mnist": 784}
CLASSES = 10  # whichever of them the samples are of
Samples = tuple[Tensor, Tensor]


class Student(NamedTuple):
    """A trained network, and whether its training diverged."""

    network: nn.Module
    diverged: bool


def build(architecture: ArchitectureName, m: int, d: int, c: int) -> nn.Sequential:
    """A network of width m from flat images (n, d) to (n, c), with unset weights.

    ``mlp1`` to ``mlp4`` have that many hidden layers of m neurons. ``cnn`` has two 3x3 convolutions
    of m / 4 channels, at least one, each followed by ReLU and 2x2 max pooling, and a linear layer.
    """
    layers: list[nn.Module]
    if architecture == "cnn":
        side, channels = math.isqrt(d), max(1, m // _CHANNEL_SHARE)
        layers = [nn.Unflatten(1, (1, side, side))]
        for inputs in (1, channels):
            layers.append(nn.Conv2d(inputs, channels, 3, padding=1, device="meta"))
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Flatten(), nn.Linear(channels * (side // 4) ** 2, c, device="meta")]
    else:
        sizes = [d, *[m] * int(architecture.removeprefix("mlp"))]
        layers = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out, device="meta"), nn.ReLU()]
        layers.append(nn.Linear(sizes[-1], c, device="meta"))
    return nn.Sequential(*layers).to_empty(device="cpu")


def initialise(network: nn.Module, seed: int) -> None:
    """Weights and biases uniform in +-1 / sqrt(fan-in), as torch's layers, from a seed alone."""
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            with torch.no_grad():
                for tensor in (layer.weight, layer.bias):
                    assert tensor is not None
                    # Not the global numbers: other threads draw from them too.
                    tensor.uniform_(-bound, bound, generator=generator)


def train_student(
    config: DepthConfig, architecture: ArchitectureName, m: int, seed: int, samples: Samples
) -> Student:
    """Train one network; the seed gives its start and the order of its batches."""
    x, y = samples
    network = build(architecture, m, x.shape[1], CLASSES)
    initialise(network, seed)

    def optimizer(parameters: object) -> torch.optim.Optimizer:
        if config.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=config.lr)  # type: ignore[arg-type]
        return torch.optim.SGD(parameters, lr=config.lr, momentum=_MOMENTUM)  # type: ignore[arg-type]

    try:
        train(
            network,
            x,
            y,
            loss="cross_entropy",
            optimizer=optimizer,
            steps=config.steps,
            batch_size=config.batch_size,
            seed=seed,
        )
    except FloatingPointError:
        return Student(network, True)
    return Student(network, False)


def load_student(file: Path, architecture: ArchitectureName, seed: int) -> nn.Sequential:
    """A network that a depth study trained, from a file of its folder's ``weights``.

    Raises
    ------
    CheckpointError
        The file is none of a depth study's, or holds no such network.
    """
    about = checkpoint_metadata(file)
    settings = json.loads(about.get("config", "{}"))
    if settings.get("study") != "depth":
        raise CheckpointError(f"{file} holds no networks of a depth study")
    stacks = safetensors.torch.load_file(file)
    seeds, names = stacks["seeds"].tolist(), settings["architectures"]
    if architecture not in names or seed not in seeds:
        raise CheckpointError(
            f"{file} holds no {architecture} of seed {seed}; it has {', '.join(names)} of seeds "
            f"{min(seeds)} to {max(seeds)}"
        )
    d = _PIXELS[settings["problem"]["data"]]
    network = build(architecture, int(about["width"]), d, CLASSES)
    place = seeds.index(seed)
    state = {name: stacks[f"{architecture}.{name}"][place] for name in network.state_dict()}
    network.load_state_dict(state)
    return network


def learnt(loss: float, c: int) -> bool:
    """Whether a loss is better than that of the network which is zero everywhere."""
    return loss < (1 - _MARGIN) * math.log(c)


@lru_cache(maxsize=2)
def images(
    problem: DatasetProblem, batch_size: int, data_dir: Path | None = None
) -> dict[str, Samples]:
    """Training and test images (n, d) and labels (n,) of a problem; kept, to be read once.

    Raises
    ------
    ConfigError
        More samples are asked for than there are.
    FileNotFoundError
        Image files are missing.
    """
    loaded = data.digits() if problem.data == "digits" else data.mnist(data_dir)
    n, k = problem.train_samples, problem.test_samples
    for name, asked, there in (
        ("problem.train_samples", n, len(loaded.x_train)),
        ("problem.test_samples", k, len(loaded.x_test)),
        ("batch_size", batch_size, len(loaded.x_train[:n])),
    ):
        if asked is not None and asked > there:
            raise ConfigError(
                f"setting '{name}' must be at most the {there} samples there are; got {asked}"
            )
    return {
        "train": (loaded.x_train[:n], loaded.y_train[:n]),
        "test": (loaded.x_test[:k], loaded.y_test[:k]),
    }
