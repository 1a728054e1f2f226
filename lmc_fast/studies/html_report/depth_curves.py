# SPDX-License-Identifier: MIT
"""The stored loss curves of all pairs of deeper networks."""

from __future__ import annotations

from typing import Any

from ..config import ArchitectureName
from ..depth import MATCHINGS, SPLITS, column
from ..depth_summary import LABELS, DepthGroup, DepthSummary
from ..plot_style import LOOKS
from ..store import Store
from .packed_curves import CurveGroup, PairCurves, cell_of, number, pack


def depth_curves(summary: DepthSummary, store: Store) -> dict[str, Any] | None:
    """The curves of every pair without a failure, see :func:`pack`; None without any.

    A group per architecture and width.
    """
    groups = [
        CurveGroup(f"{LABELS[name]}, m = {group.width}", _pairs(summary, group, name, store))
        for name in summary.config.architectures
        for group in summary.groups
    ]
    # The middle width of the architecture that is named last.
    at = len(groups) - (len(summary.groups) + 1) // 2
    matched = LOOKS["weights"]._replace(label="matched layer by layer")
    return pack(
        groups,
        (at, _median(groups[at].pairs)),
        [LOOKS["none"], matched],
        SPLITS,
        log=False,
        unit="cross entropy (nats)",
        about="the pair with the median matched barrier of its group",
    )


def _pairs(
    summary: DepthSummary, group: DepthGroup, name: ArchitectureName, store: Store
) -> list[PairCurves]:
    wanted = [(split, f"{matching}_{name}") for split in SPLITS for matching in MATCHINGS]
    pairs = []
    for row in group.sound(name):
        key = cell_of(group.width, summary.config.lr, row)
        found = {(c.split, c.matching): c for c in store.curves(key)}
        if all(place in found for place in wanted):
            heights = [
                [number(row[column("barrier", name, matching, split)]) for matching in MATCHINGS]
                for split in SPLITS
            ]
            pairs.append(PairCurves(key, heights, [found[place] for place in wanted]))
    return pairs


def _median(pairs: list[PairCurves]) -> int:
    """Which pair's matched barrier on the last split is the median; 0 without any."""
    ranked = sorted(range(len(pairs)), key=lambda i: pairs[i].heights[-1][-1] or 0.0)
    return ranked[len(ranked) // 2] if ranked else 0
