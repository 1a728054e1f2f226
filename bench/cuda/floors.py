# SPDX-License-Identifier: MIT
"""Times that no version is faster than, from rates measured at the start."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .device import Gpu, interleaved
from .settings import tf32


def floor(operations: float, rate: float, moved: float, bandwidth: float) -> tuple[float, str]:
    """Seconds that no version is faster than, and whether arithmetic or memory says so."""
    arithmetic, memory = operations / rate, moved / bandwidth
    return (arithmetic, "arithmetic") if arithmetic >= memory else (memory, "memory")


def measure_ceilings(device: Gpu, small: bool) -> dict[str, float]:
    """Operations per second of large products in three types, bytes per second of a copy."""
    found = {}
    for dtype, side in ((torch.bfloat16, 8192), (torch.float32, 8192), (torch.float64, 4096)):
        side = side // 2 if small else side
        left, right = (torch.randn(side, side, device="cuda").to(dtype) for _ in range(2))
        found[str(dtype)[6:]] = 2.0 * side**3 / _median(device, partial(torch.mm, left, right))
        del left, right
    source = torch.randn(2**26 if small else 2**28, device="cuda")
    target = torch.empty_like(source)
    found["copy"] = 2.0 * 4 * source.numel() / _median(device, partial(target.copy_, source))
    return found


def _median(device: Gpu, call: Callable[[], Any]) -> float:
    with tf32(False):
        return statistics.median(interleaved({"": call}, 11, device.seconds)[""])
