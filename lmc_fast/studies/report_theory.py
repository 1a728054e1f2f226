# SPDX-License-Identifier: MIT
"""The table of a theory study."""

from __future__ import annotations

import math

from rich.table import Table

from ..grouped_minima import crossover_width
from .report import narrow_table
from .statistics import short
from .theory import problem_of
from .theory_summary import DENSE, TheorySummary


def theory_table(summary: TheorySummary) -> Table:
    """One line per death rate and width, with 95% intervals; fits a terminal of 80 columns.

    Barriers have bootstrap intervals, the probability of zero barrier has Wilson's.
    """
    table = narrow_table("Matched barrier between random global minima, 95% intervals over pairs")
    for title in ("r", "m", "pairs", "mean barrier [95%]", "floor", "P(zero) [95%]", "K"):
        table.add_column(title, justify="right", no_wrap=True)
    for death in summary.config.deaths:
        for group in summary.groups:
            barrier, zero = group.barrier(death), group.certificate(death)
            table.add_row(
                f"{death:g}" if group is summary.groups[0] else "",
                str(group.width),
                str(len(group.rows)),
                short(barrier.value) + barrier.ends(short),
                short(group.mean("floor", death)),
                f"{zero.value:.2f}{zero.ends('{:.2f}'.format)}",
                f"{group.mean('mixed', death):.1f}",
            )
    table.caption = "\n".join([*theory_lines(summary), _LETTERS])
    return table


_LETTERS = (
    "barrier: grouped matching, no less than the least over all permutations;\n"
    "floor: no more than it; r: death rate; P(zero): zero for some permutation;\n"
    "K: mean number of pairs of neurons of different types"
)


def theory_lines(summary: TheorySummary) -> list[str]:
    """What was found, a line per death rate: the power of m, or where the barrier ends."""
    lines = []
    tail = summary.tail()
    if tail is not None:
        slope, last = tail.exponent, summary.groups[-1]
        scaled = last.width**2 * last.mean("barrier", DENSE)
        lines += [
            f"r = 0, m = {tail.first} to {tail.last}: mean barrier ~ "
            f"m^{slope.value:.3f}{slope.ends('{:.3f}'.format)};",
            f"       m^2 x mean barrier = {scaled:.2f} at m = {last.width}",
        ]
    for death in summary.config.deaths:
        crossover = crossover_width(problem_of(summary.config).teacher_width, death)
        if math.isinf(crossover):
            continue
        start = summary.zero_from(death)
        seen = "not yet for all pairs" if start is None else f"for all pairs from m = {start}"
        lines.append(f"r = {death:g}: no power law, zero {seen}; crossover {crossover:.0f}")
    return lines
