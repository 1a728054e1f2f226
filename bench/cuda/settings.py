# SPDX-License-Identifier: MIT
"""Settings under which contestants run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lmc_fast.ops import _cuda


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Whether torch's own float32 products may use TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def without_tensor_cores() -> Iterator[None]:
    """Let our kernels run on the ordinary units."""
    before = _cuda.TENSOR_CORES
    _cuda.TENSOR_CORES = False
    try:
        yield
    finally:
        _cuda.TENSOR_CORES = before


def level_1(call: Callable[[], Any]) -> Any:
    """Call ours without tensor cores."""
    with without_tensor_cores():
        return call()


def eager(call: Callable[[], Any], on: bool) -> Any:
    """Call torch with TF32 on or off."""
    with tf32(on):
        return call()
