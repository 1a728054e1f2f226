# SPDX-License-Identifier: MIT
"""What the ops share on CUDA tensors: precision, the caller's stream, workspaces."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from .. import _native
from ..losses import check_option

# Bfloat16 terms into which a float32 is split for tensor cores.
PRECISIONS = {"float32": 3, "tf32": 2, "bf16": 1}

# Tests and benchmarks set this to False to run the kernels for GPUs without tensor cores.
TENSOR_CORES = True


def terms_of(precision: str) -> int:
    """Terms for a precision, after checking its name."""
    check_option(precision, "precision", tuple(PRECISIONS))
    return PRECISIONS[precision]


def compiled(op: str) -> bool:
    """Whether this build has CUDA kernels for the op."""
    return any(name.startswith(f"{op}.") for name in _native.cuda_kernels())


def used(terms: int) -> int:
    """Terms that the kernels are asked for: none without tensor cores."""
    return terms if TENSOR_CORES else 0


@contextmanager
def memory_explained(op: str) -> Iterator[None]:
    """Let an allocation inside that fails say how the op needs less memory."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise torch.cuda.OutOfMemoryError(
            f"{op}: {error} Pass fewer samples or fewer networks in one call, or free other tensors"
        ) from error


def run(function: Callable[..., int], arrays: tuple[Tensor | None, ...], *options: object) -> None:
    """Enqueue an op's kernels on the current stream of the first array's device.

    The function takes the arrays, the workspace, the options and the stream. torch's allocator
    gives the workspace. It stays theirs when this returns, because the memory is used again only
    by what comes later on the same stream.
    """
    first = arrays[0]
    assert first is not None
    device = first.device
    dense = tuple(None if t is None else t.contiguous() for t in arrays)
    with torch.cuda.device(device):
        stream = torch.cuda.current_stream(device).cuda_stream
        size = function(*dense, None, *options, stream)
        workspace = torch.empty((size + 7) // 8, dtype=torch.int64, device=device)
        function(*dense, workspace, *options, stream)


def in_a_launch(work: float, dtype: torch.dtype, device: torch.device) -> int:
    """How many networks of so many multiply-adds each make a launch of a tenth of a second.

    A guess that a slow GPU should keep to; at least one.
    """
    gpu = torch.cuda.get_device_properties(device)
    # Units of a multiprocessor: of float64 few have more than two.
    large_chip = gpu.minor == 0 and gpu.major < 12
    units = 64 if dtype == torch.float32 else 32 if large_chip else 2
    return max(1, int(0.1 * 0.3e9 * units * gpu.multi_processor_count / max(1.0, work)))


_captured: list[Tensor] = []  # what graphs point to, as long as the process lives


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """A short CPU tensor on a device, kept there for later calls (and for graph capture)."""
    if values.device == device:
        return values
    copy = _copy(tuple(values.tolist()), device)
    keep(copy)
    return copy


def keep(*copies: Tensor) -> None:
    """Say that the current stream uses tensors which a cache may let go of."""
    for copy in copies:
        if torch.cuda.is_current_stream_capturing():
            _captured.append(copy)
        else:
            copy.record_stream(torch.cuda.current_stream(copy.device))


@lru_cache(maxsize=64)
def _copy(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, device=device)
