# SPDX-License-Identifier: MIT
"""Loss curves of many pairs in little room, for the page to draw those of any."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..plot_style import Look
from ..store import CellKey, Curve, Row
from .chart import DASHES


class PairCurves(NamedTuple):
    """One pair: its cell, its stored barriers, and its curves by split, then matching."""

    key: CellKey
    heights: list[list[float | None]]
    curves: list[Curve]


class CurveGroup(NamedTuple):
    """Pairs that a reader chooses from, and what they have in common."""

    name: str
    pairs: list[PairCurves]


def pack(
    groups: Sequence[CurveGroup],
    first: tuple[int, int],
    looks: Sequence[Look],
    splits: Sequence[str],
    *,
    log: bool,
    unit: str,
    about: str,
) -> dict[str, Any] | None:
    """Everything the page needs to draw the curves of a chosen pair; None without any curve.

    Losses are kept as little-endian float32 in base64: about five bytes each. Those of a pair are
    in the order of split, matching, alpha. Accuracies in percent are kept likewise where all of a
    group's curves have them.

    Parameters
    ----------
    groups : sequence of CurveGroup
        Those without a pair are left out.
    first : (int, int)
        Group and pair that are drawn at first.
    looks : sequence of Look
        Of the matchings.
    splits : sequence of str
    log : bool
        Whether losses are drawn on a log axis at first.
    unit : str
        Of the losses, with their name.
    about : str
        Which pair ``first`` is.
    """
    there = [i for i, group in enumerate(groups) if group.pairs]
    if not there:
        return None
    return {
        "alphas": groups[there[0]].pairs[0].curves[0].alphas.tolist(),
        "splits": list(splits),
        "looks": [[look.label, look.colour, DASHES[look.line]] for look in looks],
        "groups": [_group(groups[i]) for i in there],
        "first": [there.index(first[0]), first[1]] if first[0] in there else [0, 0],
        "log": log,
        "unit": unit,
        "about": about,
    }


def _group(group: CurveGroup) -> dict[str, Any]:
    curves = [curve for pair in group.pairs for curve in pair.curves]
    shares = [100 * curve.accuracies for curve in curves if curve.accuracies is not None]
    return {
        "name": group.name,
        "pairs": [[pair.key.seed_a, pair.key.seed_b, pair.heights] for pair in group.pairs],
        "losses": _packed([curve.losses for curve in curves]),
        "accuracies": _packed(shares) if len(shares) == len(curves) else None,
    }


def _packed(curves: list[npt.NDArray[np.float64]]) -> str:
    return base64.b64encode(np.concatenate(curves).astype("<f4").tobytes()).decode()


def number(value: object) -> float | None:
    """A stored barrier to four digits; None where there is none."""
    return float(f"{value:.4g}") if isinstance(value, float) else None


def cell_of(width: int, lr: float, row: Row) -> CellKey:
    """The cell of a row."""
    return CellKey(width, lr, int(row["seed_a"] or 0), int(row["seed_b"] or 0))
