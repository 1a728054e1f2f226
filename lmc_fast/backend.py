# SPDX-License-Identifier: MIT
"""What runs where, and why."""

import os
from typing import NamedTuple

import torch

from . import _native


class Backend(NamedTuple):
    """Facts about this build and machine; ``str(backend())`` reads as a short report.

    Attributes
    ----------
    version : str
        Of lmc_fast.
    cpu_target : str
        The instruction set the CPU kernels run with: "baseline", "avx2" or "avx512".
    cpu_target_reason : str
        Why that one.
    supported_cpu_targets : tuple of str
        What this build and processor support, slowest first.
    threads : int
        Threads an op uses unless told otherwise: ``torch.get_num_threads()``.
    cuda_kernels : tuple of str
        CUDA kernels compiled into this build; empty when it was built without CUDA.
    cuda_devices : tuple of str
        Names of the CUDA devices torch sees.
    compiler : str
    """

    version: str
    cpu_target: str
    cpu_target_reason: str
    supported_cpu_targets: tuple[str, ...]
    threads: int
    cuda_kernels: tuple[str, ...]
    cuda_devices: tuple[str, ...]
    compiler: str

    def __str__(self) -> str:
        """Return the report."""
        build = (
            f"{len(self.cuda_kernels)} kernels compiled in"
            if self.cuda_kernels
            else "built without CUDA (install where nvcc is found to change that)"
        )
        devices = ", ".join(self.cuda_devices) or "none visible to torch"
        tensors = (
            "run kernels of ours"
            if self.cuda_kernels
            else "run the plain torch reference, with one warning"
        )
        return "\n".join(
            (
                f"lmc_fast      {self.version}",
                f"CPU target    {self.cpu_target} ({self.cpu_target_reason}; "
                f"supported: {', '.join(self.supported_cpu_targets)})",
                f"threads       {self.threads} (torch.get_num_threads())",
                f"CUDA build    {build}",
                f"CUDA devices  {devices}",
                f"CUDA tensors  {tensors}",
                f"compiler      {self.compiler}",
            )
        )


def backend() -> Backend:
    """Say what runs where: CPU target, threads, CUDA build and devices.

    Returns
    -------
    Backend

    Raises
    ------
    ValueError
        The environment variable LMC_FAST_CPU_TARGET names a target this build or processor
        does not have.
    """
    target = _native.cpu_target()  # chosen at its first use
    forced = os.environ.get("LMC_FAST_CPU_TARGET") == target
    devices = (
        tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        if torch.cuda.is_available()
        else ()
    )
    return Backend(
        version=version(),
        cpu_target=target,
        cpu_target_reason=(
            "forced by LMC_FAST_CPU_TARGET" if forced else "the fastest this processor runs"
        ),
        supported_cpu_targets=tuple(_native.supported_cpu_targets()),
        threads=torch.get_num_threads(),
        cuda_kernels=tuple(_native.cuda_kernels()),
        cuda_devices=devices,
        compiler=_native.compiler,
    )


def version() -> str:
    """Version of lmc_fast."""
    return str(_native.version)
