# SPDX-License-Identifier: MIT
"""What the figures were measured on, and the name of its files."""

import datetime
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

import lmc_fast

ROOT = Path(__file__).parent


def facts() -> dict[str, Any]:
    """Processor, build and versions, as they go into the JSON file."""
    backend = lmc_fast.backend()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "processor": _processor(),
        "cpu_target": backend.cpu_target,
        "commit": commit or "unknown",
        "version": backend.version,
        "compiler": backend.compiler,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def results_file(machine: dict[str, Any], threads: int, prefix: str = "") -> Path:
    """Where the figures of a machine go unless told otherwise."""
    name = re.sub(r"[^a-z0-9]+", "-", f"{machine['processor']} {machine['cpu_target']}".lower())
    return ROOT / "results" / f"{prefix}{name}-{threads}-threads.json"
