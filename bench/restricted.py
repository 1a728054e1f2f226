# SPDX-License-Identifier: MIT
"""Ours held back: in one thread, or on the AVX2 target, to see what more of either brings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from lmc_fast import _native

from .timer import OURS


@contextmanager
def settings(threads: int, cpu_target: str) -> Iterator[None]:
    """Run what is inside with these threads on this CPU target, and what follows as before."""
    before = torch.get_num_threads(), _native.cpu_target()
    torch.set_num_threads(threads)
    try:
        _native.use_cpu_target(cpu_target)
        yield
    finally:
        torch.set_num_threads(before[0])
        _native.use_cpu_target(before[1])


def restricted(call: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """Contestants that do ``call``: in one thread, and on AVX2; none that would be no restriction.

    Their names begin with OURS and a comma.
    """
    threads, target = torch.get_num_threads(), _native.cpu_target()
    supported = _native.supported_cpu_targets()
    chosen = {}
    if threads > 1:
        chosen["1 thread"] = (1, target)
    if "avx2" in supported[: supported.index(target)]:
        chosen["avx2"] = (threads, "avx2")
    return {f"{OURS}, {name}": partial(_run, call, *limits) for name, limits in chosen.items()}


def _run(call: Callable[[], Any], threads: int, cpu_target: str) -> Any:
    with settings(threads, cpu_target):
        return call()
