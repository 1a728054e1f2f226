# SPDX-License-Identifier: MIT
"""What this machine can do at best, measured in the same process: multiply-adds and copies."""

import time

import torch

from lmc_fast import _native

ROUNDS = 4_000_000  # of the multiply-add loop, a few hundredths of a second
COPIED = 2**26  # floats, more than the caches hold


def gflops(dtype: torch.dtype, threads: int) -> float:
    """Multiply-adds in registers, 10^9 operations per second, the best of five runs."""

    def run() -> float:
        start = time.perf_counter()
        operations = _native.ceiling_multiply_add(torch.ones(threads, dtype=dtype), ROUNDS, threads)
        return operations / (time.perf_counter() - start)

    return max(run() for _ in range(5)) / 1e9


def copy_gbytes(threads: int) -> float:
    """Bytes read and written by a copy, 10^9 per second, the best of five runs."""
    source, target = torch.ones(COPIED), torch.zeros(COPIED)

    def run() -> float:
        start = time.perf_counter()
        _native.ceiling_copy(source, target, threads)
        return 2 * source.nbytes / (time.perf_counter() - start)

    return max(run() for _ in range(5)) / 1e9


def measure(threads: int) -> dict[str, float]:
    """The three ceilings, as they go into the JSON file."""
    return {
        "float32_gflops": gflops(torch.float32, threads),
        "float64_gflops": gflops(torch.float64, threads),
        "copy_gbytes": copy_gbytes(threads),
    }
