# SPDX-License-Identifier: MIT
"""Who computed a row: package version, commit, machine and backend."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import torch

from ..backend import version
from .device import CPU, device_name

UNKNOWN = "unknown"
# Columns that say where and when a row was computed; all others are measurements. "backend" is the
# device: the CPU with its instruction set, or a GPU.
PROVENANCE = {
    "weights": "TEXT",
    "version": "TEXT",
    "commit": "TEXT",
    "machine": "TEXT",
    "backend": "TEXT",
    "seconds": "REAL",
    "finished_at": "TEXT",
}


@lru_cache(maxsize=16)
def provenance(device: torch.device = CPU) -> dict[str, str]:
    """Version, commit, machine and device of this process, as columns of a row."""
    return {
        "version": version(),
        "commit": _commit(Path(__file__).resolve().parents[1]),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "backend": device_name(device),
    }


def versions(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Every version and commit of the package that computed some row."""
    found = {(str(row["version"]), str(row["commit"])) for row in rows}
    return [f"lmc_fast {version} (commit {commit})" for version, commit in sorted(found)]


def _commit(package: Path) -> str:
    """Commit of the checkout that the package lies in; "unknown" elsewhere."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()

    try:
        # An environment inside some other repository is no checkout of this package.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("describe", "--always", "--dirty", "--tags")
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
