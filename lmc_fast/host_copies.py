# SPDX-License-Identifier: MIT
"""Matrices made on a device and worked on by the host: while it works on one, the next is made."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor


class HostCopy(Protocol):
    """Memory of the host into which one matrix at a time is copied, without waiting for it."""

    def start(self, matrix: Tensor) -> None:
        """Begin to copy ``matrix`` over what was there."""

    def finish(self) -> Tensor:
        """Wait for what was begun last; the host's tensor, good until the next :meth:`start`."""


class PinnedCopy:
    """Pinned memory, filled by the current stream of the matrix's GPU."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def start(self, matrix: Tensor) -> None:
        """Enqueue the copy; matrices must have the shape of the first."""
        if self._memory is None:
            self._memory = torch.empty(matrix.shape, dtype=matrix.dtype, pin_memory=True)
        self._memory.copy_(matrix, non_blocking=True)
        self._done.record(torch.cuda.current_stream(matrix.device))

    def finish(self) -> Tensor:
        """Wait for the copy alone, not for what was enqueued after it."""
        assert self._memory is not None
        self._done.synchronize()
        return self._memory


def on_host(count: int, make: Callable[[int], Tensor], device: torch.device) -> Iterator[Tensor]:
    """``make(0)``, ..., ``make(count - 1)`` as tensors on the CPU, each good until the next.

    Parameters
    ----------
    count : int
    make : callable
        Makes the matrix of an index, all of one shape and without waiting for the device.
    device : torch.device
        Where it makes them. On a GPU there are two copies on the host and, besides what
        ``make`` needs, one matrix on the device; on the CPU there is one matrix.
    """
    if device.type == "cuda":
        yield from one_ahead(count, make, (PinnedCopy(), PinnedCopy()))
        return
    for i in range(count):
        yield make(i).cpu()


def one_ahead(
    count: int, make: Callable[[int], Tensor], copies: tuple[HostCopy, HostCopy]
) -> Iterator[Tensor]:
    """Begin the matrix after the one that is given, in the copy that nobody reads any more."""
    for i in range(count + 1):
        if i < count:
            copies[i % 2].start(make(i))
        if i > 0:
            yield copies[(i - 1) % 2].finish()
