# SPDX-License-Identifier: MIT
"""What the studies of a comparison found, a line each."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from .comparison import ComparedSummaries
from .config import TeacherProblem
from .report import narrow_table
from .statistics import FEWEST, Interval, short
from .summary import Group, Summary, pair_counts

# A mean this far below that of the calmest step size is a transition.
_FALLEN = 0.01


def comparison_table(compared: ComparedSummaries) -> Table:
    """Peak and tail of width studies; threshold, edge and transition of learning-rate studies."""
    table = narrow_table(compared.question)
    rates = compared.rates
    titles = _RATE_TITLES if rates else _WIDTH_TITLES
    for title in ("", *titles):
        table.add_column(title, justify="right", no_wrap=True)
    for label, summary in compared.summaries.items():
        table.add_row(label, *(_rate_cells(summary) if rates else _width_cells(summary)))
    how = [_intervals(compared), _RATE_CAPTION if rates else _WIDTH_CAPTION]
    table.caption = "\n".join(how)
    return table


_WIDTH_TITLES = ("pairs", "peak m", "peak m/M", "peak height", "tail exponent", "fitted on m",
                 "loss/barrier", "least alive", "left out")  # fmt: skip
_WIDTH_CAPTION = (
    "peak and tail of the best matching;\n"
    "loss/barrier: median endpoint loss over mean barrier, where it is largest beyond m = M;\n"
    "least alive: mean share of neurons alive, at the width where it is least;\n"
    "left out: pairs with a student that failed or did not converge;\n"
    "peak m: of the widths sampled; *: the highest mean, no peak told from the ends;\n"
    "~: no straight line: the exponents of both halves of these widths differ"
)
_RATE_TITLES = ("pairs", "threshold x m", "edge", "transition", "alive, calm", "alive, least",
                "barrier, calm", "barrier, least")  # fmt: skip
_RATE_CAPTION = (
    "edge: 2 / sharpness of the calmest students; transition: the least step size at which 1% of\n"
    "the neurons alive at the calmest are dead; both in units of the divergence threshold;\n"
    "barriers of the best matching, means over pairs; least: over step sizes below the threshold"
)


def _intervals(compared: ComparedSummaries) -> str:
    """Of what there are intervals, or why there are none."""
    groups = [group for summary in compared.summaries.values() for group in summary.groups]
    if not any(len(group.sound) >= FEWEST for group in groups):
        return f"too few pairs for intervals (below {FEWEST});"
    return f"95% bootstrap intervals over pairs, of {FEWEST} or more;"


def _width_cells(summary: Summary) -> list[str]:
    best, split = summary.best_matching(), summary.splits[-1]
    pairs = sum(group.pairs for group in summary.groups)
    lost = pairs - sum(len(group.sound) for group in summary.groups)
    peak, tail = summary.peak(best, split), summary.tail(best, split)
    problem = summary.config.problem
    cells = [pair_counts(summary.groups)]
    if peak is None:
        cells += ["-"] * 3
    else:
        place, height, told = peak
        mark = "" if told else "*"
        cells.append(f"{place.value:.0f}{place.ends('{:.0f}'.format)}{mark}")
        M = problem.teacher_width if isinstance(problem, TeacherProblem) else None
        cells.append("-" if M is None else f"{place.value / M:.2g}")
        cells.append(_with_ends(height))
    if tail is None:
        cells += ["-"] * 2
    else:
        slope = tail.exponent
        bent = "" if summary.bent_tail(best, split) is None else "~"
        cells.append(f"{slope.value:.2f}{slope.ends('{:.2f}'.format)}{bent}")
        cells.append(f"{tail.first} to {tail.last}")
    left = summary.residual()
    cells.append("-" if left is None else f"{short(left.high)} (m = {left.high_width})")
    cells.append(_least_alive(summary))
    return [*cells, f"{lost} of {pairs:,}"]


def _least_alive(summary: Summary) -> str:
    counts = [(group.student_values("alive"), group.width) for group in summary.groups]
    shares = [(float(np.mean(alive)) / m, m) for alive, m in counts if len(alive)]
    if not shares:
        return "-"
    share, m = min(shares)
    return f"{share:.1%} (m = {m})"


def _rate_cells(summary: Summary) -> list[str]:
    best, split = summary.best_matching(), summary.splits[-1]
    bracket = summary.bracket
    if bracket is None:
        return [pair_counts(summary.groups), *["-"] * (len(_RATE_TITLES) - 1)]
    groups = [group for group in summary.groups if group.sound and group.lr <= bracket.high]
    m, unit = summary.groups[0].width, bracket.threshold
    alive = [float(np.mean(group.student_values("alive"))) for group in groups]
    cells = [pair_counts(summary.groups), f"{unit * m:.3g}"]
    cells.append("-" if summary.edge is None else f"{summary.edge / unit:.3f}")
    lr = transition(groups, alive)
    cells.append("-" if lr is None else f"{lr / unit:.3f}")
    barriers = [group.barrier(best, split) for group in groups]
    if not groups:
        return [*cells, *["-"] * 4]
    lowest = min(barriers, key=lambda interval: interval.value)
    return [
        *cells,
        f"{alive[0]:.1f}",
        f"{min(alive):.1f}",
        _with_ends(barriers[0]),
        _with_ends(lowest),
    ]


def transition(groups: list[Group], alive: list[float]) -> float | None:
    """The least step size whose mean of alive neurons is 1% below that of the calmest."""
    for group, count in zip(groups, alive, strict=True):
        if count < (1 - _FALLEN) * alive[0]:
            return group.lr
    return None


def _with_ends(interval: Interval) -> str:
    return short(interval.value) + interval.ends(short)
