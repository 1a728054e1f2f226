# SPDX-License-Identifier: MIT
"""Runs the benchmarks, prints one table per op and writes bench/results/<machine>.json."""

import argparse
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from . import (
    assignment,
    ceiling,
    jax_baselines,
    machine,
    matching,
    path_losses,
    population_loss,
    sampled_deficits,
    scaling,
    train_ensemble,
    two_layer_relu,
)
from . import memory as memory_of
from .compare import compare
from .timer import OURS, Row, run

OPS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        two_layer_relu,
        path_losses,
        population_loss,
        train_ensemble,
        matching,
        sampled_deficits,
        assignment,
    )
}


def _seconds(s: float) -> str:
    return f"{s * 1e3:.3g} ms" if s < 1 else f"{s:.3g} s"


def _ratio(r: float) -> str:
    return f"{r:.2f}" if r < 10 else f"{r:.0f}"


def _table(op: str, rows: list[Row]) -> Table:
    table = Table(title=f"{op}: median (quartiles), ratio to {OURS}", title_justify="left")
    for heading in ("size", "contestant", "time", "ratio", "GFLOP/s", "of ceiling"):
        table.add_column(heading, justify="left" if heading in ("size", "contestant") else "right")
    for row in rows:
        for name, median in row.median_s.items():
            low, high = row.quartiles_s[name]
            first = name == OURS
            table.add_row(
                row.size if first else "",
                name,
                f"{_seconds(median)} ({_seconds(low)} to {_seconds(high)})",
                "1" if first else _ratio(row.ratio[name]),
                f"{row.gflops:.0f}" if first and row.gflops else "",
                f"{row.ceiling_share:.0%}" if first and row.ceiling_share else "",
            )
    return table


def _memory_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        "op", "size", "peak", title="memory beyond inputs and results", title_justify="left"
    )
    for row in rows:
        table.add_row(row["op"], row["size"], f"{row['bytes'] / 2**20:.0f} MiB")
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
        "--rounds", type=int, help="interleaved rounds per row (default 5, quick 3)"
    )
    parser.add_argument("--out", type=Path, help="JSON file (default bench/results/<machine>.json)")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("A.json", "B.json"),
        help="time nothing; print what moved from A to B beyond the spread",
    )
    parser.add_argument(
        "--scaling",
        action="store_true",
        help="only time against n, m and A, for a plot beside the JSON file",
    )
    arguments = parser.parse_args()
    if arguments.compare:
        print("\n".join(compare(*arguments.compare) or ["nothing moved beyond the spread"]))
        return
    rounds = arguments.rounds or (3 if arguments.quick else 5)
    facts = machine.facts()
    console = Console(width=150)
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()))
    console.print(f"threads {arguments.threads}, {rounds} rounds, contestants interleaved")
    torch.set_num_threads(arguments.threads)
    if arguments.scaling:
        out = arguments.out or machine.results_file(facts, arguments.threads, "scaling-")
        console.print("\n".join(scaling.run(facts, arguments.threads, rounds, out)))
        return
    ceilings = ceiling.measure(arguments.threads)
    console.print("ceilings: " + ", ".join(f"{key} {v:.0f}" for key, v in ceilings.items()))
    for name, contestant in (("JAX", jax_baselines), ("lapx", matching)):
        if reason := contestant.why_skipped():
            console.print(f"{name} is left out: {reason}")
    rows: list[Row] = []
    for op in arguments.op or OPS:
        measured = []
        for case in OPS[op].cases(arguments.quick):
            console.print(f"[dim]{op}: {case.size}[/dim]")
            measured.append(run(case, rounds, ceilings))
        console.print(_table(op, measured))
        rows += measured
    memory = [
        {"op": job.op, "size": job.size, "bytes": memory_of.measure(job)}
        for job in memory_of.JOBS
        if not arguments.quick and (arguments.op is None or job.op in arguments.op)
    ]
    if memory:
        console.print(_memory_table(memory))
    out = arguments.out or machine.results_file(facts, arguments.threads)
    document = {
        "machine": facts,
        "ceilings": ceilings,
        "rows": [row.as_dict() for row in rows],
        "peak_memory": memory,
    }
    out.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"written to {out}")


if __name__ == "__main__":
    main()
