# SPDX-License-Identifier: MIT
"""Loss along the segment between two students, before and after matching; with images, accuracy."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .captions import code, count_failures, wrapped
from .cells import column
from .config import LearningRateConfig, StudyConfig, TeacherProblem
from .plot_style import COLUMN, LINE, LOOKS, PAGE, legend_below, loss_name, new_figure, unit_of
from .settings_line import describe
from .statistics import ROUNDING, Array
from .store import CellKey, Curve, Row, Store
from .summary import Group, Summary

Curves = Mapping[tuple[str, str], Curve]


def alpha_figure(summary: Summary, store: Store) -> Figure | None:
    """Curves of the :func:`typical_pair`; None where there is none.

    A column per split, with the loss, and the accuracy below it where the store has kept it.
    """
    found = typical_pair(summary)
    if found is None:
        return None
    group, key = found
    curves = {(c.split, c.matching): c for c in store.curves(key)}
    scored = all(curve.accuracies is not None for curve in curves.values())
    # Before accuracies were kept, the figure was of the split that is reported.
    splits = summary.splits if scored else summary.splits[-1:]
    rows = 2 if scored else 1
    wide = COLUMN if len(splits) == 1 else PAGE
    title = wrapped(
        [
            f"Seeds {key.seed_a} and {key.seed_b}, m = {group.width}, lr = {group.lr:.3g}",
            f"(median matched barrier of {len(group.sound)} pairs)",
            describe(summary.config),
            *count_failures(summary),
            code(group.rows),
        ],
        wide,
    )
    height = (2.3 if rows == 1 else 3.8) + LINE * len(title.splitlines())
    figure = new_figure(wide, height)
    grid = figure.subplots(rows, len(splits), sharex=True, sharey="row", squeeze=False)
    for place, split in enumerate(splits):
        _draw_losses(grid[0, place], summary.config, split, curves)
        if scored:
            _draw_accuracies(grid[1, place], summary.config, split, curves)
        grid[-1, place].set_xlabel(r"$\alpha$  (0: student a, 1: student b)")
    figure.suptitle(title, fontsize=8)
    legend_below(figure, grid[0, 0], columns=2 if len(splits) == 1 else 3)
    return figure


def _draw_losses(axes: Axes, config: StudyConfig, split: str, curves: Curves) -> None:
    shown = {name: curves[split, name].losses for name in config.matchings}
    for name, losses in shown.items():
        _draw_line(axes, name, curves[split, name].alphas, losses)
    label, unit = loss_name(config.problem), unit_of(config.problem, " ({})")
    if not isinstance(config.problem, TeacherProblem):
        axes.set_ylabel(f"{label}, {split}{unit}")
        return
    axes.set_ylabel(label)
    axes.set_yscale("log")
    # The ends are losses of 1e-9 and less; the barrier is what the figure is about.
    lowest = max(min(float(losses.max()) for losses in shown.values()) * 1e-2, ROUNDING)
    if axes.get_ylim()[0] < lowest:
        axes.set_ylim(bottom=lowest)


def _draw_accuracies(axes: Axes, config: StudyConfig, split: str, curves: Curves) -> None:
    for name in config.matchings:
        curve = curves[split, name]
        if curve.accuracies is not None:
            _draw_line(axes, name, curve.alphas, 100 * curve.accuracies)
    axes.set_ylabel(f"accuracy, {split} (%)")


def _draw_line(axes: Axes, name: str, alphas: Array, values: Array) -> None:
    look = LOOKS[name]
    axes.plot(alphas, values, color=look.colour, linestyle=look.line, label=look.label)


def typical_pair(summary: Summary) -> tuple[Group, CellKey] | None:
    """The pair whose matched barrier is the median of its group's, and the group.

    The group: with a teacher, the highest matched barrier beyond m = M; with images, the middle
    width; in a learning-rate study, the last step size below the divergence threshold. None where
    no such pair survived.
    """
    group = _group(summary)
    if group is None:
        return None
    row = _median_row(group, column("barrier", summary.best_matching(), summary.splits[-1]))
    seeds = int(row["seed_a"] or 0), int(row["seed_b"] or 0)
    return group, CellKey(group.width, group.lr, *seeds)


def _group(summary: Summary) -> Group | None:
    groups = [group for group in summary.groups if group.sound]
    if summary.bracket is not None:
        # Beyond it some pairs survive by chance.
        groups = [group for group in groups if group.lr <= summary.bracket.low]
    if not groups or isinstance(summary.config, LearningRateConfig):
        return groups[-1] if groups else None
    problem = summary.config.problem
    if not isinstance(problem, TeacherProblem):
        return groups[len(groups) // 2]
    groups = [group for group in groups if group.width > problem.teacher_width] or groups
    best, split = summary.best_matching(), summary.splits[-1]
    return max(groups, key=lambda group: group.barrier(best, split).value)


def _median_row(group: Group, name: str) -> Row:
    ranked = sorted(group.sound, key=lambda row: float(row[name] or 0))
    return ranked[len(ranked) // 2]
