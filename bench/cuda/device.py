# SPDX-License-Identifier: MIT
"""The GPU as the rows see it: it times calls and reports their memory."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

SECONDS = 3.0  # sum of seconds after which a contestant sits out the rest of a row


class Device(Protocol):
    """Runs calls: what of Gpu the rows need, so that tests can do without one."""

    name: str

    def peak(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], int]:
        """The results of a call, and its peak memory in bytes beyond inputs and results."""

    def seconds(self, call: Callable[[], Any]) -> float:
        """Time of one call."""

    def clean(self) -> None:
        """Give unused memory back."""


class Gpu:
    """Times by events, each call with a level-2 cache that holds none of its inputs."""

    name = "cuda"

    def __init__(self) -> None:
        cache = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0)
        self._other = torch.empty(max(2 * cache, 2**28), dtype=torch.uint8, device="cuda")

    def peak(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], int]:
        """See Device."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results = call()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        return results, max(0, peak - sum(t.numel() * t.element_size() for t in results))

    def seconds(self, call: Callable[[], Any]) -> float:
        """See Device."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        self._other.zero_()
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3

    def clean(self) -> None:
        """See Device."""
        torch.cuda.empty_cache()


def interleaved(
    contestants: dict[str, Callable[[], Any]], rounds: int, seconds: Callable[[Any], float]
) -> dict[str, list[float]]:
    """Let the contestants take turns after an untimed round; slow ones sit out later rounds."""
    for call in contestants.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            if sum(times[name]) < SECONDS:
                times[name].append(seconds(call))
    return times
