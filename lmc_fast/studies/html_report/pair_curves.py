# SPDX-License-Identifier: MIT
"""The stored loss curves of all pairs of trained students."""

from __future__ import annotations

from typing import Any

from ..cells import column
from ..config import TeacherProblem
from ..plot_alpha import typical_pair
from ..plot_style import LOOKS, loss_name, unit_of
from ..store import Row, Store
from ..summary import Group, Summary
from .packed_curves import CurveGroup, PairCurves, cell_of, number, pack
from .places import places


def pair_curves(summary: Summary, store: Store) -> dict[str, Any] | None:
    """The curves of every pair without a failure, see :func:`pack`; None without any."""
    typical = typical_pair(summary)
    groups: list[CurveGroup] = []
    first = (0, 0)
    for place, group in zip(places(summary, summary.groups), summary.groups, strict=True):
        name = f"m = {group.width}, lr = {group.lr:.4g}"
        if summary.bracket is not None:
            name += f" ({place:.3f} of the threshold)"
        pairs = _pairs(summary, group, store)
        keys = [pair.key for pair in pairs]
        if typical is not None and typical[1] in keys:
            first = (len(groups), keys.index(typical[1]))
        groups.append(CurveGroup(name, pairs))
    problem = summary.config.problem
    teacher = isinstance(problem, TeacherProblem)
    return pack(
        groups,
        first,
        [LOOKS[name] for name in summary.config.matchings],
        summary.splits,
        log=teacher,
        unit="loss" if teacher else loss_name(problem) + unit_of(problem, " ({})"),
        about="the pair of the study's figure, with the median matched barrier of its group",
    )


def _pairs(summary: Summary, group: Group, store: Store) -> list[PairCurves]:
    wanted = [(split, name) for split in summary.splits for name in summary.config.matchings]
    pairs = []
    for row in group.sound:
        key = cell_of(group.width, group.lr, row)
        found = {(c.split, c.matching): c for c in store.curves(key)}
        if all(place in found for place in wanted):
            curves = [found[place] for place in wanted]
            pairs.append(PairCurves(key, _heights(summary, row), curves))
    return pairs


def _heights(summary: Summary, row: Row) -> list[list[float | None]]:
    """Stored barriers of one pair, by split and matching."""
    names = summary.config.matchings
    return [
        [number(row[column("barrier", name, split)]) for name in names] for split in summary.splits
    ]
