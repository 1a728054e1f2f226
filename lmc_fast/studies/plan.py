# SPDX-License-Identifier: MIT
"""What a study would compute: its groups of cells, and how many are finished already."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.table import Table

from . import learning_rate
from .config import AnyConfig, LearningRateConfig
from .kinds import kind_of
from .learning_rate import Bracket, bracket_of
from .report import narrow_table
from .store import open_existing
from .store_format import DATABASE


def plan_table(config: AnyConfig, folder: Path) -> Table:
    """One line per width and step size, in the kind's own columns.

    It reads the folder if there is one, and writes nothing.

    Raises
    ------
    StoreError
        The folder holds another configuration, or cannot be read.
    """
    bracket, finished = _there(config, folder)
    kind = kind_of(config)
    table = narrow_table("")
    total = done = 0
    for m, lr, shown in _groups(config, bracket):
        there = finished[m, lr]
        own = kind.plan(config, m, shown)
        if not table.columns:
            for title in ("m", *own, "pairs", "finished"):
                table.add_column(title, justify="right", no_wrap=True)
        table.add_row(str(m), *own.values(), str(config.pairs), str(there))
        total, done = total + config.pairs, done + there
    table.caption = f"{total:,} cells, {done:,} finished\na cell: {kind.cell(config)}"
    return table


def _groups(config: AnyConfig, bracket: Bracket | None) -> list[tuple[int, float, str]]:
    """Width, step size, and how to write it, of every group."""
    if not isinstance(config, LearningRateConfig):
        return [(m, lr, f"{lr:.5g}") for m, lr in kind_of(config).settings(config)]
    if bracket is None:
        return [(config.width, multiple, f"{multiple:g} x threshold") for multiple in config.grid]
    return [(m, lr, f"{lr:.5g}") for m, lr in learning_rate.settings(config, bracket)]


def _there(config: AnyConfig, folder: Path) -> tuple[Bracket | None, Counter[tuple[int, float]]]:
    """The divergence threshold if it is known, and the finished cells of every group."""
    if not (folder / DATABASE).is_file():
        return None, Counter()
    with open_existing(folder) as store:
        store.require(config)
        cells = Counter((key.width, key.lr) for key in store.finished())
        if not isinstance(config, LearningRateConfig):
            return None, cells
        bracket = bracket_of(store.probes(), config.diverged_share)
        # While it is searched, the bracket is wider, and its middle not yet the threshold.
        known = bracket is not None and (bool(cells) or bracket.within(config))
        return bracket if known else None, cells
