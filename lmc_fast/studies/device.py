# SPDX-License-Identifier: MIT
"""Where a study computes: the device that was asked for, and what rows call it."""

from __future__ import annotations

import torch

from ..backend import backend
from ..ops._cuda import compiled
from .errors import ConfigError

CPU = torch.device("cpu")


def resolve_device(asked: str | torch.device) -> torch.device:
    """Turn the value of ``--device`` into a device that is there, a GPU with its number.

    Parameters
    ----------
    asked : str or torch.device
        "cpu"; "cuda", the current GPU; "cuda:1"; or "auto": the current GPU where torch sees one
        and this build has CUDA kernels, else the CPU.

    Raises
    ------
    ConfigError
        Another kind of device, a GPU that torch does not see, or a build without CUDA kernels.
    """
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        asked = "cuda" if seen and _has_kernels() else "cpu"
    try:
        device = torch.device(asked)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type == "cpu":
        return CPU
    if device.type != "cuda":
        raise ConfigError(f"--device must be cpu, cuda, cuda:N or auto; got {asked!s}")
    number = device.index
    if number is None and seen:
        number = torch.cuda.current_device()
    if number is None or number >= seen:
        raise ConfigError(
            f"--device {asked} needs {'a GPU' if number is None else f'GPU number {number}'}, but "
            f"{_what_torch_sees(seen)}: pass --device {'auto' if seen else 'cpu'}"
        )
    if not _has_kernels():
        raise ConfigError(
            f"--device {asked} needs CUDA kernels, which this build of lmc_fast does not have: "
            "install it where nvcc is found, or pass --device cpu"
        )
    return torch.device("cuda", number)


def cpu_alone(asked: str | torch.device, study: str) -> torch.device:
    """The CPU, for "cpu" and "auto", of a study that runs nowhere else.

    Raises
    ------
    ConfigError
        Another device was asked for.
    """
    found = CPU if asked == "auto" else resolve_device(asked)
    if found.type != "cpu":
        raise ConfigError(f"the {study} study runs on the CPU alone; got device {found}: drop it")
    return found


def device_name(device: torch.device) -> str:
    """What rows and headings call it: "cpu avx2", "cuda:0 NVIDIA H200"."""
    if device.type == "cpu":
        return f"cpu {backend().cpu_target}"
    return f"{device} {torch.cuda.get_device_name(device)}"


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that nobody uses, those included that torch keeps for later."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept


def _has_kernels() -> bool:
    return compiled("two_layer_relu.forward")  # a build has all CUDA kernels or none


def _what_torch_sees(seen: int) -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if seen == 0:
        return f"torch {torch.__version__} sees none"
    return "torch sees " + ", ".join(f"cuda:{i}" for i in range(seen)) + " only"
