# SPDX-License-Identifier: MIT
"""Runs the benchmarks, prints one table per op and writes bench/results/<machine>.json."""

import argparse
import datetime
import json
import platform
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import lmc_fast

from . import path_losses, population_loss, train_ensemble, two_layer_relu
from .timer import OURS, Row, run

OPS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (two_layer_relu, path_losses, population_loss, train_ensemble)
}
ROOT = Path(__file__).parent


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
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


def _seconds(s: float) -> str:
    return f"{s * 1e3:.3g} ms" if s < 1 else f"{s:.3g} s"


def _table(op: str, rows: list[Row]) -> Table:
    table = Table(title=f"{op}: median (quartiles), ratio to {OURS}", title_justify="left")
    for heading in ("size", "contestant", "time", "ratio", "GFLOP/s"):
        table.add_column(heading, justify="left" if heading in ("size", "contestant") else "right")
    for row in rows:
        for name, median in row.median_s.items():
            low, high = row.quartiles_s[name]
            first = name == OURS
            table.add_row(
                row.size if first else "",
                name,
                f"{_seconds(median)} ({_seconds(low)} to {_seconds(high)})",
                "1" if first else f"{row.ratio[name]:.1f}",
                f"{row.gflops:.0f}" if first and row.gflops else "",
            )
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--op", choices=OPS, action="append", help="only this op (repeatable)")
    parser.add_argument(
        "--quick", action="store_true", help="one or two sizes per op, fewer rounds"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--rounds", type=int, help="interleaved rounds per row (default 9, quick 5)"
    )
    parser.add_argument("--out", type=Path, help="JSON file (default bench/results/<machine>.json)")
    arguments = parser.parse_args()
    rounds = arguments.rounds or (5 if arguments.quick else 9)
    facts = machine()
    console = Console(width=150)
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()))
    console.print(f"threads {arguments.threads}, {rounds} rounds, contestants interleaved")
    rows: list[Row] = []
    for op in arguments.op or OPS:
        measured = []
        for case in OPS[op].cases():
            if arguments.quick and not case.quick:
                continue
            console.print(f"[dim]{op}: {case.size}[/dim]")
            measured.append(run(case, arguments.threads, rounds))
        console.print(_table(op, measured))
        rows += measured
    name = re.sub(r"[^a-z0-9]+", "-", f"{facts['processor']} {facts['cpu_target']}".lower())
    out = arguments.out or ROOT / "results" / f"{name}-{arguments.threads}-threads.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": facts, "rows": [row.as_dict() for row in rows]}
    out.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"written to {out}")


if __name__ == "__main__":
    main()
