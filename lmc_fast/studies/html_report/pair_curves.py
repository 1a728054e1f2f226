# SPDX-License-Identifier: MIT
"""The stored loss curves of all pairs, packed for the page to draw any of them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cells import column
from ..config import TeacherProblem
from ..plot_alpha import typical_pair
from ..plot_style import LOOKS, loss_name, unit_of
from ..store import CellKey, Row, Store
from ..summary import Group, Summary
from .chart import DASHES
from .trained_charts import places


def pair_curves(summary: Summary, store: Store) -> dict[str, Any] | None:
    """Everything the page needs to draw the curves of a chosen pair; None without any curve.

    Losses are kept as little-endian float32 in base64: about five bytes each. Those of a pair are
    in the order of split, matching, alpha. Accuracies in percent are kept likewise where all of a
    group's curves have them.
    """
    matchings, splits = list(summary.config.matchings), list(summary.splits)
    typical = typical_pair(summary)
    groups: list[dict[str, Any]] = []
    first = [0, 0]
    alphas: list[float] = []
    for place, group in zip(places(summary, summary.groups), summary.groups, strict=True):
        pairs: list[list[Any]] = []
        packed: list[npt.NDArray[np.float64]] = []
        scored: list[npt.NDArray[np.float64] | None] = []
        for row in group.sound:
            key = _key(group, row)
            found = {(c.split, c.matching): c for c in store.curves(key)}
            if len(found) < len(splits) * len(matchings):
                continue
            ordered = [found[split, name] for split in splits for name in matchings]
            alphas = ordered[0].alphas.tolist()
            if typical is not None and typical[1] == key:
                first = [len(groups), len(pairs)]
            packed += [curve.losses for curve in ordered]
            scored += [curve.accuracies for curve in ordered]
            pairs.append([row["seed_a"], row["seed_b"], _heights(summary, row)])
        if pairs:
            name = f"m = {group.width}, lr = {group.lr:.4g}"
            if summary.bracket is not None:
                name += f" ({place:.3f} of the threshold)"
            shares = [100 * curve for curve in scored if curve is not None]
            groups.append(
                {
                    "name": name,
                    "pairs": pairs,
                    "losses": _packed(packed),
                    "accuracies": _packed(shares) if len(shares) == len(scored) else None,
                }
            )
    if not groups:
        return None
    problem = summary.config.problem
    teacher = isinstance(problem, TeacherProblem)
    return {
        "alphas": alphas,
        "splits": splits,
        "looks": [[LOOKS[n].label, LOOKS[n].colour, DASHES[LOOKS[n].line]] for n in matchings],
        "groups": groups,
        "first": first,
        "log": teacher,
        "unit": "loss" if teacher else loss_name(problem) + unit_of(problem, " ({})"),
    }


def _packed(curves: list[npt.NDArray[np.float64]]) -> str:
    return base64.b64encode(np.concatenate(curves).astype("<f4").tobytes()).decode()


def _heights(summary: Summary, row: Row) -> list[list[float | None]]:
    """Stored barriers of one pair, by split and matching."""
    names = summary.config.matchings
    return [
        [_number(row[column("barrier", name, split)]) for name in names] for split in summary.splits
    ]


def _number(value: object) -> float | None:
    return float(f"{value:.4g}") if isinstance(value, float) else None


def _key(group: Group, row: Row) -> CellKey:
    return CellKey(group.width, group.lr, int(row["seed_a"] or 0), int(row["seed_b"] or 0))
