# SPDX-License-Identifier: MIT
"""How many pairs are trained in one call: results do not depend on it, time and memory do."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .config import DepthConfig, GridConfig, StudyConfig
from .device import free_memory
from .tasks import Sizes

ON_CPU = 16  # enough to keep its cores busy
_NETWORKS = 4  # of a depth study for each thread: each takes seconds to minutes
MOST = 1024
_COPIES = 6  # of a student: its start, its weights, gradient, what training keeps, and spare
_MATRICES = 10  # m x m, of a matching
_FLOAT64 = 8  # bytes, also for float32 students


def pairs_that_fit(free: int, m: int, sizes: Sizes, config: StudyConfig) -> int:
    """Pairs of width m to train and measure together on a GPU: 1 to 1024, for half its free memory.

    Parameters
    ----------
    free : int
        Bytes there are, what all pairs share (such as samples) already taken off.
    m : int
    sizes : Sizes
        Of the problem.
    config : StudyConfig
        Has the samples of a step, and the points of a barrier.
    """
    n, d, c = sizes
    step = config.batch_size or n
    neurons = m * (d + c)
    student = _COPIES * neurons + step * m + n * c
    # The networks along a segment; with samples their losses are found without them.
    segment = 0 if n else config.alphas * neurons
    pair = _FLOAT64 * (2 * student + segment)
    matching = _FLOAT64 * _MATRICES * m * m
    return max(1, min(MOST, (free // 2 - matching) // pair))


def chunk_size(
    asked: int | None, config: GridConfig, sizes: Sizes, device: torch.device, window: int
) -> Callable[[int], int]:
    """The function from a width to the pairs of a chunk.

    Parameters
    ----------
    asked : int or None
        Taken for every width; None chooses: 16 on the CPU, in a depth study as few as keep its
        threads busy, and what fits the memory on a GPU.
    window : int
        Chunks that share the memory.
    """
    if asked is None and isinstance(config, DepthConfig):
        asked = -(-_NETWORKS * torch.get_num_threads() // len(config.architectures))
    if asked is not None or device.type == "cpu":
        pairs = asked or ON_CPU
        return lambda _: pairs
    assert isinstance(config, StudyConfig)  # minima that are drawn stay on the CPU
    free = free_memory(device) // window
    return lambda m: pairs_that_fit(free, m, sizes, config)
