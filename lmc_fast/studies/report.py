# SPDX-License-Identifier: MIT
"""What a study shows in the terminal: a progress bar while it runs, a table when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from ..barrier import Barrier
from .config import LearningRateConfig
from .plot_style import unit_of
from .statistics import FEWEST, Array, short
from .summary import Group, Summary, fate_of_stuck


class ProgressBar:
    """Bar on standard error, with the time left; see :class:`runner.Progress`.

    Above it stands a line that names the study, its device and what else is known, once there is
    something to do.
    """

    def __init__(self, title: str, device: str, note: str = "") -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[cells]} cells"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=Console(stderr=True),
        )
        self._title, self._heading = title, f"{title} on {device}{note}"
        self._task = self._bar.add_task(title, total=None, cells="0")
        self._cells = self._done = 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        # Nothing is shown of a study that could not begin: its error is one line.
        if self._bar.live.is_started:
            self._bar.stop()

    def searching(self, text: str) -> None:
        """Show how far the search for the divergence threshold is."""
        self._start()
        self._bar.update(self._task, description=text)

    def begin(self, cells: int, cost: float) -> None:
        """Show the bar of ``cells`` cells; it moves by their cost."""
        self._start()
        self._cells = cells
        # Reset, so that the time left is estimated from the grid alone.
        self._bar.reset(self._task, description=self._title, total=cost or None, cells=f"0/{cells}")

    def _start(self) -> None:
        if not self._bar.live.is_started:
            self._bar.console.print(self._heading, soft_wrap=True, highlight=False, markup=False)
            self._bar.start()

    def advance(self, cells: int, cost: float) -> None:
        """Move the bar."""
        self._done += cells
        self._bar.update(self._task, advance=cost, cells=f"{self._done}/{self._cells}")


def study_table(summary: Summary) -> Table:
    """One line per width or step size: barriers, sparsity, failures.

    The best matching has its 95% bootstrap interval where there are pairs enough for one; the
    intervals of the others are in the figures. Fits a terminal of 80 columns.
    """
    config, split, best = summary.config, summary.splits[-1], summary.best_matching()
    unit = "" if split == "population" else f" ({split}{unit_of(config.problem, ', {}')})"
    enough = config.pairs >= FEWEST
    over = "95% interval over pairs" if enough else "too few pairs for intervals"
    table = narrow_table(f"Mean loss barrier{unit}, {over}")
    rates = isinstance(config, LearningRateConfig)
    titles = ["lr/max" if rates else "m", "pairs"]
    for name in config.matchings:
        heading = "naive" if name == "none" else str(name)
        titles.append(f"{heading} [95%]" if enough and name == best else heading)
        titles += ["median"] * (name == summary.median_of())
    extra = _extra_columns(summary)
    titles += ["alive", "loss", *extra]
    titles += ["failed"] * bool(summary.failed)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for group in summary.groups:
        first = str(group.width)
        if summary.bracket is not None:
            first = f"{group.lr / summary.bracket.threshold:.3f}"
        cells = [first, f"{len(group.sound)}/{group.pairs}"]
        for name in config.matchings:
            cells.append(_barrier(group, name, split, name == best))
            if name == summary.median_of():
                cells.append(_short(group.median(name, split)))
        cells += [_mean(group.student_values("alive"), ".2f"), _typical_loss(group)]
        cells += [_mean(measure(group), ".2f") for measure in extra.values()]
        cells += [str(group.failed)] * bool(summary.failed)
        table.add_row(*cells)
    table.caption = _caption(summary)
    return table


def barrier_table(results: Mapping[str, Barrier]) -> Table:
    """One line per split and pair: height, where, and both ends."""
    table = narrow_table("Loss barrier")
    first = next(iter(results.values()))
    matched = first.matching
    titles = ["loss on", "pair", "barrier", "at alpha", "loss a", "loss b"]
    if first.curve.accuracies is not None:
        titles += ["acc. a", "lowest", "acc. b"]
    if matched is not None:
        titles += ["naive", "moved"]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for split, result in results.items():
        for pair in range(len(result.height)):
            table.add_row(*_barrier_cells(split, pair, result))
    how = "" if matched is None else f"neurons matched by '{matched.method}'; "
    table.caption = f"{how}definition '{first.definition}', {len(first.curve.alphas)} alphas"
    return table


def show(table: Table) -> None:
    """Print it whole: wider than the terminal rather than with digits cut off."""
    needed = Console(width=10_000).measure(table).maximum
    Console(width=max(Console().width, needed)).print(table)


def narrow_table(title: str) -> Table:
    """An empty table without lines, so that many columns fit a terminal."""
    table = Table(title=title, box=None)
    table.padding, table.pad_edge, table.caption_justify = (0, 1, 0, 0), False, "left"
    return table


def _extra_columns(summary: Summary) -> dict[str, Callable[[Group], Array]]:
    """What only some studies measure of a student, by the column's title."""
    if summary.splits[-1] == "test":
        return {"acc.%": lambda group: 100 * group.student_values("accuracy_test")}
    if isinstance(summary.config, LearningRateConfig):
        return {"lr*s/2": Group.edge}
    return {}


def _barrier(group: Group, name: str, split: str, with_interval: bool) -> str:
    barrier = group.barrier(name, split)
    if not np.isfinite(barrier.value):
        return "-"
    return short(barrier.value) + (barrier.ends(short) if with_interval else "")


def _short(value: float) -> str:
    return short(value) if np.isfinite(value) else "-"


def _typical_loss(group: Group) -> str:
    losses = group.student_values("loss")
    return short(float(np.median(losses))) if len(losses) else "-"


def _mean(values: Array, form: str) -> str:
    return format(float(np.mean(values)), form) if len(values) else "-"


def _caption(summary: Summary) -> str:
    lines = []
    best, split = summary.best_matching(), summary.splits[-1]
    tail = summary.tail(best, split)
    if tail is not None:
        slope = tail.exponent
        lines.append(
            f"tail, m = {tail.first} to {tail.last}, '{best}', {split}: "
            f"mean barrier ~ m^{slope.value:.2f}{slope.ends('{:.2f}'.format)}"
        )
    for i, part in enumerate(summary.bent_tail(best, split) or ()):
        slope, said = part.exponent, "and" if i else "no straight line:"
        lines.append(
            f"  {said} m^{slope.value:.2f}{slope.ends('{:.2f}'.format)} "
            f"over m = {part.first} to {part.last}"
        )
    lines += _width_findings(summary)
    if summary.bracket is not None:
        low, high = summary.bracket
        lines.append(f"max: divergence threshold, between lr = {low:.5g} and {high:.5g}")
        if summary.edge is not None:
            share = summary.edge / summary.bracket.threshold
            lines.append(
                "lr*s/2: lr x sharpness / 2; at small lr the edge of stability 2 / sharpness is "
                f"{summary.edge:.4g} = {share:.3f} max"
            )
    counts = f"{summary.failed} of {summary.students} students failed (their pairs are left out)"
    if summary.stuck:
        counts += f", {summary.stuck} did not converge ({fate_of_stuck(summary)})"
    if summary.median_of() is not None:
        lines.append(f"median: over pairs, '{best}'")
    lines += ["alive: mean count; loss: median over students", counts]
    return "\n".join(lines)


def _width_findings(summary: Summary) -> list[str]:
    """Peak, sensitivity to the matcher, and how well the students have converged."""
    best, split = summary.best_matching(), summary.splits[-1]
    peak, lines = summary.peak(best, split), []
    if peak is not None:
        place, height, _ = peak
        lines += [
            f"{peak.name}, '{best}', {split}:",
            f"  m = {place.value:.0f}{place.ends('{:.0f}'.format)}, "
            f"height {short(height.value)}{height.ends(short)}",
        ]
    for name in summary.config.matchings:
        gain = summary.matcher_gain(name, split) if name not in ("none", "random", best) else None
        if gain is not None:
            lines.append(
                f"'{name}' over '{best}': {gain.low:.2f} (m = {gain.low_width}) to "
                f"{gain.high:.2f} (m = {gain.high_width})"
            )
    left = summary.residual()
    if left is not None:
        lines.append(
            f"endpoint loss over barrier: at most {short(left.high)} (m = {left.high_width})"
        )
    return lines


def _barrier_cells(split: str, pair: int, result: Barrier) -> list[str]:
    losses, accuracies = result.curve.losses[pair], result.curve.accuracies
    cells = [
        split,
        str(pair),
        f"{float(result.height[pair]):.5g}",
        f"{float(result.alpha[pair]):.3f}",
        f"{float(losses[0]):.5g}",
        f"{float(losses[-1]):.5g}",
    ]
    if accuracies is not None:
        ends = accuracies[pair, 0], accuracies[pair].min(), accuracies[pair, -1]
        cells += [f"{float(value):.2%}" for value in ends]
    if result.naive is not None and result.matching is not None:
        cells += [f"{float(result.naive.height[pair]):.5g}"]
        cells += [f"{float(result.matching.moved[pair]):.0%}"]
    return cells
