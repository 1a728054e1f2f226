# SPDX-License-Identifier: MIT
"""Times the ops on a GPU against torch and writes bench/results/<gpu>.json."""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import lmc_fast
from lmc_fast.ops import _cuda

from ..timer import OURS
from . import study
from .case import Row
from .device import Gpu
from .facts import facts, results_file
from .floors import measure_ceilings
from .measure import measure
from .report import print_table, table, target_lines
from .rows import chosen_rows

NO_GPU, NO_KERNELS = 3, 2  # exit statuses


def run(
    chosen: Sequence[Row],
    rounds: int,
    device: Gpu,
    document: dict[str, Any],
    save: Callable[[], None],
) -> None:
    """Measure the rows into ``document``, saving it after each. A row that fails is named there."""
    for given in chosen:
        print(f"{given.op}: {given}", flush=True)
        try:
            row = measure(given.case(device), rounds, document["ceilings"], device)
            for name, reason in row["left_out"].items():
                print(f"  left out: {name}: {reason}", flush=True)
            where = "rows" if OURS in row["median_s"] else "failed"
            document[where].append(row)
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
            document["failed"].append({"op": given.op, "size": str(given), "reason": reason})
        save()
        try:
            torch.cuda.synchronize()
            device.clean()
        except RuntimeError:
            print("the device is in a state of error: the rest was not run (see --only)")
            return


def run_study(most: float, document: dict[str, Any]) -> None:
    """Measure the study into ``document``."""
    try:
        row = study.measure(most)
        document["rows" if OURS in row["median_s"] else "failed"].append(row)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        document["failed"].append({"op": study.OP, "size": "full preset", "reason": reason})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.cuda", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer rounds")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 11, quick 5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose op and size have it")
    parser.add_argument(
        "--study",
        nargs="?",
        type=float,
        const=study.SECONDS,
        metavar="SECONDS",
        help="time a part of the width study instead, at most about so long on the CPU"
        f" (default {study.SECONDS:g})",
    )
    parser.add_argument("--out", type=Path, help="JSON file (default bench/results/<gpu>.json)")
    given = parser.parse_args(arguments)
    chosen: list[Row] = []
    if given.study is None:
        chosen = chosen_rows(given.quick, given.only)
        if not chosen:
            parser.error(f"no row has {given.only!r} in its op and size")
    if not torch.cuda.is_available():
        print("no GPU: nothing was run")
        return NO_GPU
    if not (_cuda.compiled("two_layer_relu.forward") and _cuda.compiled("path_losses")):
        print(f"no CUDA kernels in {lmc_fast.__file__}: nothing was run. Install where nvcc is")
        return NO_KERNELS
    known = facts()
    print(", ".join(f"{key} {value}" for key, value in known.items()))
    document: dict[str, Any] = {"machine": known, "ceilings": {}, "rows": [], "failed": []}
    out = given.out or results_file(known["gpu"], "" if given.study is None else "width-study-")

    def save() -> None:
        out.write_text(json.dumps(document, indent=1) + "\n")

    if given.study is not None:
        run_study(given.study, document)
        save()
    else:
        device = Gpu()
        document["ceilings"] = measure_ceilings(device, given.quick)
        ceilings = document["ceilings"].items()
        print("ceilings: " + ", ".join(f"{key} {value:.3g}/s" for key, value in ceilings))
        run(chosen, given.rounds or (5 if given.quick else 11), device, document, save)
    wrong = report(document)
    done = len(document["rows"]) + len(document["failed"])
    if done < len(chosen):
        wrong.append(f"{len(chosen) - done} rows were not run")
        print(wrong[-1])
    print(f"written to {out}")
    return 1 if wrong else 0


def report(document: dict[str, Any]) -> list[str]:
    """Print the tables, what became of the targets, and what is wrong; the latter is returned."""
    rows = document["rows"] + [row for row in document["failed"] if "median_s" in row]
    for op in dict.fromkeys(row["op"] for row in rows):
        cells = table([row for row in rows if row["op"] == op])
        print_table(f"{op}: median (quartiles), ratio to {OURS}", cells)
    print("\n".join(target_lines(rows)))
    wrong = [
        f"FAILED: {row['op']} {row['size']}: {name}: {reason}"
        for row in rows
        for name, reason in row["left_out"].items()
        if name.startswith(OURS)
    ]
    wrong += [
        f"FAILED: {row['op']} {row['size']}: {row['reason']}"
        for row in document["failed"]
        if "reason" in row
    ]
    print("\n".join(wrong))
    return wrong


if __name__ == "__main__":
    sys.exit(main())
