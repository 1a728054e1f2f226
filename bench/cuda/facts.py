# SPDX-License-Identifier: MIT
"""The GPU that the figures are of, and the name of their file."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

import lmc_fast

from .. import machine


def facts() -> dict[str, Any]:
    """The machine's facts and the GPU's."""
    try:
        known = machine.facts()
    except FileNotFoundError:  # no git
        known = {"commit": "unknown", "torch": torch.__version__, "version": lmc_fast.__version__}
    gpu = torch.cuda.get_device_properties(0)
    return known | {
        "gpu": gpu.name,
        "capability": f"{gpu.major}.{gpu.minor}",
        "memory_bytes": gpu.total_memory,
        "cuda": torch.version.cuda,
        "driver": _driver(),
    }


def _driver() -> str:
    if (smi := shutil.which("nvidia-smi")) is None:
        return "unknown"
    command = [smi, "--query-gpu=driver_version", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.partition("\n")[0].strip() or "unknown"


def results_file(gpu: str, prefix: str = "") -> Path:
    """Where the figures of a GPU go unless told otherwise."""
    name = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    return machine.ROOT / "results" / f"{prefix}{name}.json"
