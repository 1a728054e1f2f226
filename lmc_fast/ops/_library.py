# SPDX-License-Identifier: MIT
"""What the ops share: the torch library they register in, and checks of dtype and device."""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..weights import check_float_dtype

# torch.library has no type annotations; the functions below are its typed face for the ops.
LIBRARY = torch.library.Library("lmc_fast", "DEF")  # type: ignore[no-untyped-call]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def define(schema: str) -> None:
    """Declare an op by its schema."""
    LIBRARY.define(schema)  # type: ignore[no-untyped-call]


def register(op: str, dispatch_key: str) -> Callable[[_Function], _Function]:
    """Make the decorated function the kernel of ``op`` for ``dispatch_key``."""

    def decorate(function: _Function) -> _Function:
        LIBRARY.impl(op, function, dispatch_key)  # type: ignore[no-untyped-call]
        return function

    return decorate


def fake(op: str) -> Callable[[_Function], _Function]:
    """Make the decorated function give the shapes and dtypes of ``op``'s results."""

    def decorate(function: _Function) -> _Function:
        torch.library.register_fake(f"lmc_fast::{op}", function)
        return function

    return decorate


_warned: set[tuple[str, str]] = set()


def warn_reference_once(op: str, device: torch.device) -> None:
    """Say, once per op and kind of device, that the plain torch reference runs there."""
    if (op, device.type) not in _warned:
        _warned.add((op, device.type))
        warnings.warn(
            f"lmc_fast has no {op} kernel for {device.type} tensors in this build: the plain torch "
            "reference runs instead, slower and with more memory. Move the tensors to the CPU with "
            ".cpu() for the native kernel",
            stacklevel=3,
        )


def check_same_kind(*named: tuple[str, Tensor | None]) -> None:
    """Raise unless all have the first one's dtype, float32 or float64, and its device."""
    first_name, first = named[0]
    assert first is not None
    check_float_dtype(first, first_name)
    for name, tensor in named[1:]:
        if tensor is None:
            continue
        if tensor.dtype != first.dtype:
            raise TypeError(
                f"{name} must have the dtype of {first_name}, {first.dtype}; got "
                f"{tensor.dtype}. Convert one with .to(dtype)"
            )
        if tensor.device != first.device:
            raise ValueError(
                f"{name} must be on the device of {first_name}, {first.device}; got "
                f"{tensor.device}. Move one with .to(device)"
            )
