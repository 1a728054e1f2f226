# SPDX-License-Identifier: MIT
"""What the ops share: the torch library they register in, and checks of dtype and device."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from .._native import cuda_kernels
from ..weights import check_float_dtype

# torch.library has no type annotations; the functions below are its typed face for the ops.
LIBRARY = torch.library.Library("lmc_fast", "DEF")  # type: ignore[no-untyped-call]

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Op:
    """An op of the torch library, with a short way past torch's dispatcher.

    Calling it runs the kernel for CPU or CUDA at once when the dispatcher would do nothing else:
    for ordinary tensors, while no mode, transform, trace or autograd profiler of this thread is
    watching. All other calls go through ``torch.ops``, which takes many times longer than a small
    kernel. Other observers, such as ``ExecutionTraceObserver`` or another thread's profiler, cannot
    be asked for: they do not see the calls that pass the dispatcher by.

    Kernels and fakes return None for a result that is not wanted. The dispatcher, which knows no
    such thing, sees an empty tensor in its place; a caller must not look at it.
    """

    def __init__(self, schema: str) -> None:
        LIBRARY.define(schema)  # type: ignore[no-untyped-call]
        self._name = schema[: schema.index("(")]
        self._dispatched = getattr(torch.ops.lmc_fast, self._name)
        self._kernels: dict[str, Callable[..., Any]] = {}
        self._function: Any = None

    def kernel(self, dispatch_key: str) -> Callable[[_Function], _Function]:
        """Make the decorated function the kernel for ``dispatch_key``."""

        def decorate(function: _Function) -> _Function:
            LIBRARY.impl(self._name, _without_none(function), dispatch_key)  # type: ignore[no-untyped-call]
            self._kernels[dispatch_key.lower()] = function
            return function

        return decorate

    def fake(self, function: _Function) -> _Function:
        """Make the decorated function give the shapes and dtypes of the results."""
        torch.library.register_fake(f"lmc_fast::{self._name}", _without_none(function))
        return function

    def autograd(
        self, backward: Callable[..., Any], setup_context: Callable[..., None] | None = None
    ) -> None:
        """Register the derivative, as ``torch.library.register_autograd`` takes it."""
        torch.library.register_autograd(
            f"lmc_fast::{self._name}", backward, setup_context=setup_context
        )

        def forward(ctx: Any, *arguments: Any) -> Any:
            output = self._kernels[_device_of(arguments)](*arguments)
            if setup_context is not None:
                setup_context(ctx, arguments, output)
            return output

        parts = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        self._function = type(self._name, (torch.autograd.Function,), parts)

    def __call__(self, *arguments: Any) -> Any:
        """Compute the op; positional arguments only."""
        if torch.compiler.is_compiling():
            return self._dispatched(*arguments)
        kernel = self._kernels.get(_device_of(arguments))
        if kernel is None or not _is_plain(arguments):
            return self._dispatched(*arguments)
        if self._function is not None and torch.is_grad_enabled():
            return self._function.apply(*arguments)
        return kernel(*arguments)


def _without_none(function: Callable[..., Any]) -> Callable[..., Any]:
    if function is torch.library.fallthrough_kernel:  # which torch knows by its identity
        return function

    @functools.wraps(function)
    def wrapped(*arguments: Any) -> Any:
        results = function(*arguments)
        if not isinstance(results, tuple):
            return results
        return tuple(arguments[0].new_empty(0) if r is None else r for r in results)

    return wrapped


_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


def _device_of(arguments: tuple[Any, ...]) -> str:
    """Kind of device of the first tensor."""
    return next((t.device.type for t in arguments if isinstance(t, Tensor)), "")


@functools.cache
def _plain_keys(device: str) -> int | None:
    """Dispatch keys of a device's ordinary tensor, the same whether or not it requires grad."""
    try:
        with torch.inference_mode(False):
            return torch._C._dispatch_keys(torch.empty(0, device=device)).raw_repr()
    except AttributeError:  # a torch that does not tell
        return None


def _is_plain(arguments: tuple[Any, ...]) -> bool:
    """Whether the device's kernel is all that a dispatched call would run, autograd aside."""
    device = _device_of(arguments)
    if device not in ("cpu", "cuda") or _is_watched():
        return False
    try:
        keys, plain = torch._C._dispatch_keys, _plain_keys(device)
        # Besides the device, the keys tell views to negate, zeros without memory, and batched
        # and functional tensors, which are all of type Tensor.
        return all(
            type(t) in _PLAIN_TYPES and keys(t).raw_repr() == plain
            for t in arguments
            if isinstance(t, Tensor)
        )
    except AttributeError:
        return False


def _is_watched() -> bool:
    """Whether something in torch would see or change a dispatched call."""
    c = torch._C
    try:
        return bool(
            c._len_torch_dispatch_stack()
            or c._len_torch_function_stack()
            or c._are_functorch_transforms_active()
            or c._get_tracing_state()
            or c._autograd._profiler_enabled()
            or torch.autograd.forward_ad._current_level >= 0
            # inside a kernel that the dispatcher called
            or c._dispatch_tls_is_dispatch_key_excluded(c.DispatchKey.AutogradCPU)
            or c._dispatch_tls_is_dispatch_key_excluded(c.DispatchKey.AutogradCUDA)
        )
    except AttributeError:  # a torch that lacks one of these
        return True


def sum_first_axis(t: Tensor) -> Tensor:
    """``t.sum(0)``, with bits that do not depend on threads: the halves are added, and so on.

    How torch splits a sum among its threads shows in the last bits.
    """
    if len(t) == 0:
        return t.sum(0)
    while len(t) > 1:
        half = len(t) // 2
        folded = t[:half] + t[half : 2 * half]
        if len(t) % 2:
            folded[0] += t[-1]
        t = folded
    return t[0]


_warned: set[tuple[str, str]] = set()


def warn_reference_once(op: str, device: torch.device) -> None:
    """Say, once per op and kind of device, that the plain torch reference runs there."""
    if (op, device.type) not in _warned:
        _warned.add((op, device.type))
        remedy = "Move the tensors to the CPU with .cpu() for the native kernel"
        if device.type == "cuda" and not cuda_kernels():
            remedy += ", or install lmc_fast where nvcc is found, which builds its CUDA kernels"
        warnings.warn(
            f"lmc_fast has no {op} kernel for {device.type} tensors in this build: the plain torch "
            f"reference runs instead, slower and with more memory. {remedy}",
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
