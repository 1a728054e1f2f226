# SPDX-License-Identifier: MIT
"""Verifies and times the contestants of a row."""

import statistics
from typing import Any

import torch

from ..timer import OURS, quartiles
from .case import Case
from .device import Device, interleaved
from .floors import floor


def measure(case: Case, rounds: int, ceilings: dict[str, float], device: Device) -> dict[str, Any]:
    """Verify all contestants of ours, then time them and the baselines; one row of the file.

    Whoever runs out of memory, or is wrong, is left out and named with the reason; so is a baseline
    that fails.
    """
    errors: dict[str, dict[str, float]] = {}
    peaks: dict[str, int] = {}
    left_out: dict[str, str] = {}
    for name, call in case.contestants.items():
        device.clean()
        try:
            result, peaks[name] = device.peak(call)
            if name in case.checks:
                result = case.checks[name]()
            errors[name] = case.errors(name, result)
            result = ()
        except torch.cuda.OutOfMemoryError as error:
            left_out[name] = "out of memory: " + str(error).partition(". ")[0]
            continue
        except RuntimeError as error:
            if name.startswith(OURS):
                raise
            left_out[name] = f"failed: {error}".partition("\n")[0]
            continue
        if name.startswith(OURS) and (reason := case.wrong(name, errors[name])):
            left_out[name] = reason
    device.clean()
    names = [name for name in case.contestants if name not in left_out]
    calls = {name: case.contestants[name] for name in names if OURS not in left_out}
    times = interleaved(calls, rounds, device.seconds)
    times = {name: [s / case.share.get(name, 1.0) for s in ts] for name, ts in times.items()}
    median = {name: statistics.median(ts) for name, ts in times.items()}
    row: dict[str, Any] = {
        "op": case.op,
        "size": case.size,
        "median_s": median,
        "quartiles_s": {name: quartiles(ts) for name, ts in times.items()},
        "rounds": {name: len(ts) for name, ts in times.items()},
        "ratio": {name: s / median[OURS] for name, s in median.items() if name != OURS},
        "errors": errors,
        "peak_bytes": peaks,
        "floor": {},
        "left_out": left_out,
        "targets": [],
    }
    for name in median:
        if name.startswith(OURS):
            work = case.work[name]
            least, bound = floor(work.operations, ceilings[work.unit], work.bytes, ceilings["copy"])
            row["floor"][name] = {
                "seconds": least,
                "by": bound,
                "unit": work.unit,
                "share": least / median[name],
            }
    for baseline, ours, wanted in case.targets:
        found = [name for name in median if name.startswith(baseline)]
        if found and ours in median:
            theirs, least = (next(iter(errors[who].values())) for who in (found[0], ours))
            row["targets"].append(
                {
                    "baseline": found[0],
                    "ours": ours,
                    "wanted": wanted,
                    "reached": median[found[0]] / median[ours],
                    "error_ratio": theirs / max(least, 1e-300),
                }
            )
    return row
