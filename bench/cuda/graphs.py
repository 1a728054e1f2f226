# SPDX-License-Identifier: MIT
"""Baselines without the cost of launches: calls recorded as a CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor

TOGETHER = 4  # steps of a graph


def recorded(call: Callable[[], object], device: str, times: int = 1) -> Callable[[], object]:
    """A function that makes the call so many times; on a GPU it replays a graph of them.

    The call is made once beforehand, as torch asks for. Buffers it holds stay alive with the
    function: a graph knows their addresses only.
    """

    def repeated() -> None:
        for _ in range(times):
            call()

    if device != "cuda":
        return repeated
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        repeated()

    def replay(buffers_of: Callable[[], object] = call) -> None:
        graph.replay()

    return replay


class GraphedDescent:
    """Steps that change all students' weights in place, in graphs of ``TOGETHER`` steps.

    Parameters
    ----------
    start : Tensor, shape (S, m, d)
    make : callable
        From the tensor of the weights to a function that takes a step on them. It is called, and
        its function recorded, in the first call of this.
    """

    def __init__(self, start: Tensor, make: Callable[[Tensor], Callable[[], object]]) -> None:
        self._start, self._make = start, make
        self._w1: Tensor | None = None

    def __call__(self, steps: int) -> tuple[Tensor, ...]:
        """The weights after a multiple of ``TOGETHER`` steps; valid until the next call."""
        if steps % TOGETHER:
            raise ValueError(f"steps must be a multiple of {TOGETHER}; got {steps}")
        if self._w1 is None:
            w1 = self._start.clone()
            self._replay = recorded(self._make(w1), w1.device.type, TOGETHER)
            self._w1 = w1
        self._w1.copy_(self._start)
        for _ in range(steps // TOGETHER):
            self._replay()
        return (self._w1,)
