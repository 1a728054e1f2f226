# SPDX-License-Identifier: MIT
"""The CUDA kernels on the CPU: what nvcc compiles, with this folder's ``cuda_device.h``."""

import ctypes
import hashlib
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "cuda_emulation"


@dataclass(frozen=True)
class Settings:
    """How the kernels run.

    ``terms`` as the ops pass it; ``thread_order`` 0 forwards, 1 backwards, else a seed to shuffle
    the threads between two barriers; the rest describes the device.
    """

    terms: int = 3
    thread_order: int = 0
    tensor_cores: bool = True
    warpgroups: bool = True
    shared_memory: int = 227 * 1024
    float64_rate: float = 1e8
    processors: int = 1


class _Settings(ctypes.Structure):
    _fields_ = (
        ("terms", ctypes.c_int),
        ("thread_order", ctypes.c_int),
        ("tensor_cores", ctypes.c_int),
        ("warpgroups", ctypes.c_int),
        ("shared_memory", ctypes.c_int64),
        ("float64_rate", ctypes.c_double),
        ("processors", ctypes.c_int),
    )


@cache
def library() -> ctypes.CDLL:
    """Compile the kernels, once for each state of their sources."""
    sources = sorted(
        [*ROOT.glob("csrc/**/*.cu*"), *ROOT.glob("csrc/**/*.h"), *HERE.glob("*.[hc]*")]
    )
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    target = FOLDER / f"{digest}.so"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / "lock"):
        if not target.exists():
            compiler = os.environ.get("CXX", "g++")
            command = [compiler, "-std=c++17", "-O2", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
            command += [
                "-Werror",
                "-U_FORTIFY_SOURCE",
                f"-I{HERE}",
                f"-I{ROOT / 'csrc'}",
                "-shared",
                "-fPIC",
            ]
            subprocess.run(
                [*command, str(HERE / "emulation.cpp"), "-o", str(target.with_suffix(".part"))],
                check=True,
            )
            target.with_suffix(".part").rename(target)
    loaded = ctypes.CDLL(str(target))
    for name in (
        "emulated_forward",
        "emulated_backward",
        "emulated_path_losses",
        "emulated_population_loss",
        "emulated_train",
        "emulated_normals",
    ):
        getattr(loaded, name).restype = ctypes.c_char_p
    return loaded


def split(values: Tensor) -> Tensor:
    """Return the three bfloat16 terms (3, count) of float32 values (count)."""
    values = values.contiguous()
    terms = torch.empty(3, len(values), dtype=torch.bfloat16)
    library().emulated_split(
        ctypes.c_int64(len(values)),
        ctypes.c_void_p(values.data_ptr()),
        ctypes.c_void_p(terms.data_ptr()),
    )
    return terms


def call(
    name: str, dtype: torch.dtype, sizes: list[int], arrays: list[Tensor | None], settings: Settings
) -> None:
    """Run a kernel's host function; arrays are contiguous, outputs are written."""
    error = getattr(library(), name)(
        int(dtype == torch.float64),
        _integers(sizes),
        _pointers(arrays),
        ctypes.byref(_given(settings)),
    )
    assert error is None, error


def _integers(values: list[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(values))(*values)


def _pointers(arrays: list[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    for t in arrays:
        assert t is None or t.is_contiguous()
    return (ctypes.c_void_p * len(arrays))(*(None if t is None else t.data_ptr() for t in arrays))


def _given(settings: Settings) -> _Settings:
    return _Settings(
        settings.terms,
        settings.thread_order,
        settings.tensor_cores,
        settings.warpgroups,
        settings.shared_memory,
        settings.float64_rate,
        settings.processors,
    )


def forward(
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    settings: Settings,
) -> tuple[Tensor, Tensor]:
    """Return f (S, n, c) and the sign words (S, words, n)."""
    S, m, d = w1.shape
    n, c = x.shape[-2], w2.shape[1]
    f, signs = x.new_zeros(S, n, c), x.new_zeros((S, (m + 63) // 64, n), dtype=torch.int64)
    call(
        "emulated_forward",
        x.dtype,
        [S, n, d, m, c, x.ndim == 2],
        [x, w1, b1, w2, b2, f, signs],
        settings,
    )
    return f, signs


def backward(
    df: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    signs: Tensor,
    wanted: list[bool],
    settings: Settings,
) -> list[Tensor | None]:
    """Return the gradients to x, w1, b1, w2, b2 that are wanted."""
    S, m, d = w1.shape
    n, c = x.shape[-2], w2.shape[1]
    shapes = [x.shape, w1.shape, (S, m), w2.shape, (S, c)]
    gradients = [
        x.new_zeros(shape) if want else None for shape, want in zip(shapes, wanted, strict=True)
    ]
    call(
        "emulated_backward",
        x.dtype,
        [S, n, d, m, c, x.ndim == 2],
        [df, x, w1, b1, w2, signs, *gradients],
        settings,
    )
    return gradients


def path_losses(
    a: tuple[Tensor | None, ...],
    b: tuple[Tensor | None, ...],
    x: Tensor,
    y: Tensor,
    alphas: Tensor,
    settings: Settings,
) -> tuple[Tensor, Tensor | None]:
    """Return losses (P, A) and, where y holds labels, accuracies."""
    w1, w2 = a[0], a[2]
    assert w1 is not None
    assert w2 is not None
    P, m, d = w1.shape
    labels = None if y.is_floating_point() else y
    losses = alphas.new_zeros(P, len(alphas))
    accuracies = None if labels is None else torch.zeros_like(losses)
    targets = y if labels is None else None
    call(
        "emulated_path_losses",
        x.dtype,
        [P, len(x), d, m, w2.shape[1], len(alphas)],
        [*a, *b, x, targets, labels, alphas, losses, accuracies],
        settings,
    )
    return losses, accuracies


def population_loss(
    w1: Tensor,
    w2: Tensor,
    v1: Tensor,
    v2: Tensor,
    wanted: tuple[bool, bool],
    settings: Settings,
    scale: float = 1.0,
) -> list[Tensor | None]:
    """Return the losses (S,) and the gradients that are wanted; all arrays are float64."""
    (S, m, d), (c, M) = w1.shape, v2.shape
    found: list[Tensor | None] = [w1.new_zeros(S)]
    found += [
        torch.zeros_like(w) if want else None for w, want in zip((w1, w2), wanted, strict=True)
    ]
    error = library().emulated_population_loss(
        _integers([S, m, M, d, c]),
        _pointers([w1, w2, v1, v2, *found]),
        ctypes.c_double(scale),
        ctypes.byref(_given(settings)),
    )
    assert error is None, error
    return found


class _TrainOptions(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in (
                *("S", "m", "d", "c", "n", "M", "batch", "x_shared", "y_shared"),
                *("method", "labels", "train_w2", "steps", "record_every", "until", "evaluate"),
                "round_to_float32",
            )
        ),
        *((name, ctypes.c_double) for name in ("tol", "input_scale", "radius")),
    )


_METHODS = ("population_gd", "gd", "sgd")


class NativeTraining:
    """The trainer's CUDA functions of ``_native``, on CPU tensors."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.calls = 0

    def train_ensemble_cuda(
        self,
        w1: Tensor,
        w2: Tensor,
        lr: Tensor,
        seeds: Tensor,
        x: Tensor | None,
        y: Tensor | None,
        v1: Tensor | None,
        v2: Tensor | None,
        zero_loss: Tensor,
        limits: Tensor,
        loss_out: Tensor,
        trace: Tensor,
        steps_out: Tensor,
        status: Tensor,
        orders: Tensor | None,
        epochs: Tensor | None,
        workspace: Tensor | None,
        method: str,
        loss: str,
        train_w2: bool,
        steps: int,
        batch_size: int,
        tol: float,
        record_every: int,
        input_scale: float,
        radius: float,
        until: int,
        evaluate: bool,
        round_to_float32: bool,
        stream: int,
    ) -> int:
        """Advance the students; without a workspace do nothing."""
        if workspace is None:
            return 8
        self.calls += 1
        labels = loss == "cross_entropy"
        (S, m, d), c = w1.shape, w2.shape[1]
        options = _TrainOptions(
            *(S, m, d, c, 0 if x is None else x.shape[-2], 0 if v1 is None else len(v1)),
            *(batch_size, x is None or x.ndim == 2, y is None or y.ndim == 2 - labels),
            *(_METHODS.index(method), labels, train_w2, steps, record_every, until, evaluate),
            *(round_to_float32, tol, input_scale, radius),
        )
        targets = (None, y) if labels else (y, None)
        arrays = [w1, w2, lr, seeds, x, *targets, v1, v2, zero_loss, limits, loss_out, trace]
        error = library().emulated_train(
            int(w1.dtype == torch.float64),
            ctypes.byref(options),
            _pointers([*arrays, steps_out, status, orders, epochs]),
            ctypes.byref(_given(self.settings)),
        )
        assert error is None, error
        return 8

    def train_ensemble_normals_cuda(
        self, seeds: Tensor, out: Tensor, step: int, stream: int
    ) -> None:
        """Write the normals of a step."""
        error = library().emulated_normals(
            *(ctypes.c_int64(size) for size in out.shape),
            ctypes.c_void_p(seeds.data_ptr()),
            ctypes.c_uint64(step),
            ctypes.c_void_p(out.data_ptr()),
        )
        assert error is None, error
