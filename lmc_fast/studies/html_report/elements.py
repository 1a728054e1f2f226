# SPDX-License-Identifier: MIT
"""Pieces of HTML. Every text that comes from outside is escaped here."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence

from rich.table import Table


def text(value: object) -> str:
    """A value as text that HTML cannot mistake for markup."""
    return html.escape(str(value))


def paragraph(value: str) -> str:
    """One paragraph."""
    return f"<p>{text(value)}</p>"


def section(title: str, *parts: str) -> str:
    """A heading and what stands below it."""
    return "\n".join(["<section>", f"<h2>{text(title)}</h2>", *parts, "</section>"])


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", name: str = ""
) -> str:
    """A table; cells are written as they print.

    Parameters
    ----------
    head : sequence of str
    rows : iterable of sequences as long as ``head``
    caption : str
        Written below, line by line.
    name : str
        The table's id.
    """
    cells = "".join(f'<th scope="col">{text(title)}</th>' for title in head)
    lines = [
        f'<div class="wide"><table id="{text(name)}">' if name else '<div class="wide"><table>'
    ]
    if caption:
        below = "<br>".join(text(line.strip()) for line in caption.splitlines())
        lines.append(f"<caption>{below}</caption>")
    lines.append(f"<thead><tr>{cells}</tr></thead><tbody>")
    written = ("".join(f"<td>{text(cell)}</td>" for cell in row) for row in rows)
    lines += [f"<tr>{row}</tr>" for row in written]
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def terminal_table(made: Table, name: str) -> str:
    """A table as the terminal shows it."""
    head = [str(column.header) for column in made.columns]
    rows = zip(*([str(cell) for cell in column.cells] for column in made.columns), strict=True)
    return table(head, rows, f"{made.title}\n{made.caption or ''}", name)


def data(name: str, value: object) -> str:
    """Plain data for the page's script, read with ``JSON.parse``; NaN becomes null."""
    written = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    # Inside a script element "<" alone could end it.
    written = written.replace("<", "\\u003c")
    return f'<script type="application/json" id="{text(name)}">{written}</script>'


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
