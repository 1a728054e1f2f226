# SPDX-License-Identifier: MIT
"""Tables and lines about the rows that were measured."""

from collections.abc import Sequence
from typing import Any

from ..timer import OURS

HEADINGS = ("size", "contestant", "time (quartiles)", "ratio", "of floor", "error", "memory")


def table(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The cells of one op's rows."""
    cells = []
    for row in rows:
        first = row["size"]
        for name in (*row["median_s"], *row["left_out"]):
            errors = row["errors"].get(name, {})
            peak = row["peak_bytes"].get(name)
            if name in row["median_s"]:
                low, high = row["quartiles_s"][name]
                time = f"{_ms(row['median_s'][name])} ({_ms(low)} to {_ms(high)}) ms"
            else:
                time = row["left_out"][name]
            known = row["floor"].get(name)
            ratio = row["ratio"].get(name)
            cells.append(
                (
                    first,
                    name,
                    time,
                    "1" if name == OURS and not row["left_out"].get(name) else _ratio(ratio),
                    f"{known['share']:.0%} ({known['by']})" if known else "",
                    ", ".join(f"{what} {error:.1e}" for what, error in errors.items()),
                    "" if peak is None else f"{peak / 2**20:.0f} MiB",
                )
            )
            first = ""
    return cells


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g}"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def target_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each target that was measured."""
    return [
        f"{row['op']} {row['size']}: {target['baseline']} / {target['ours']} = "
        f"{_ratio(target['reached'])}, target {target['wanted']:g}: "
        + ("reached" if target["reached"] >= target["wanted"] else "NOT REACHED")
        + _error_ratio(target)
        for row in rows
        for target in row["targets"]
    ]


def _error_ratio(target: dict[str, Any]) -> str:
    ratio = target.get("error_ratio")
    return "" if ratio is None else f"; its error is {_ratio(ratio)} times ours"


def plain(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table as text, its columns aligned."""
    lines = [list(headings), *cells]
    widths = [max(len(line[k]) for line in lines) for k in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def print_table(title: str, cells: Sequence[Sequence[str]]) -> None:
    """By rich, where it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(f"\n{title}\n{plain(HEADINGS, cells)}", flush=True)
        return
    drawn = Table(*HEADINGS, title=title, title_justify="left")
    for line in cells:
        drawn.add_row(*line)
    Console(width=200, markup=False).print(drawn)
