# SPDX-License-Identifier: MIT
"""Loss along the segment between two students, before and after matching."""

from __future__ import annotations

from matplotlib.figure import Figure

from .cells import column
from .config import LearningRateConfig, TeacherProblem
from .plot_style import COLUMN, LOOKS, new_figure
from .statistics import ROUNDING
from .store import CellKey, Row, Store
from .summary import Group, Summary


def alpha_figure(summary: Summary, store: Store) -> Figure | None:
    """Curves of the :func:`typical_pair`; None where there is none."""
    found = typical_pair(summary)
    if found is None:
        return None
    group, key = found
    split = summary.splits[-1]
    curves = {c.matching: c for c in store.curves(key) if c.split == split}
    figure = new_figure(COLUMN, 2.7)
    axes = figure.subplots()
    teacher = isinstance(summary.config.problem, TeacherProblem)
    lowest = max(min(float(c.losses.max()) for c in curves.values()) * 1e-2, ROUNDING)
    for name in summary.config.matchings:
        look, curve = LOOKS[name], curves[name]
        axes.plot(
            curve.alphas, curve.losses, color=look.colour, linestyle=look.line, label=look.label
        )
    if teacher:
        axes.set_yscale("log")
        # The ends are losses of 1e-9 and less; the barrier is what the figure is about.
        if axes.get_ylim()[0] < lowest:
            axes.set_ylim(bottom=lowest)
    axes.set_xlabel(r"$\alpha$  (0: student a, 1: student b)")
    axes.set_ylabel("population loss" if teacher else f"cross entropy, {split} (nats)")
    axes.set_title(
        f"Seeds {key.seed_a} and {key.seed_b}, m = {group.width}, lr = {group.lr:.3g}\n"
        f"(median matched barrier of {len(group.sound)} pairs)"
    )
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


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
