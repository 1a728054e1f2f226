# SPDX-License-Identifier: MIT
"""The table of a depth study."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from .depth_summary import LABELS, DepthSummary
from .report import narrow_table
from .statistics import FEWEST, short


def depth_table(summary: DepthSummary) -> Table:
    """One line per architecture and width: barriers and accuracies; fits 80 columns."""
    enough = summary.config.pairs >= FEWEST
    over = "95% interval over pairs" if enough else "too few pairs for intervals"
    table = narrow_table(f"Mean loss barrier (test, nats), {over}")
    matched = "matched [95%]" if enough else "matched"
    titles = ("network", "m", "pairs", "naive", matched, "train", "drop %", "acc.% train", "test")
    for title in titles:
        left = title == "network"
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    for name in summary.config.architectures:
        for group in summary.groups:
            naive, found = (group.mean("barrier", name, k, "test") for k in ("none", "weights"))
            train = group.mean("barrier", name, "weights", "train")
            drop = group.mean("accuracy_drop", name, "weights", "test")
            known = np.isfinite(found.value)
            table.add_row(
                name if group is summary.groups[0] else "",
                str(group.width),
                f"{len(group.sound(name))}/{len(group.rows)}",
                short(naive.value) if known else "-",
                short(found.value) + found.ends(short) if known else "-",
                short(train.value) if known else "-",
                f"{100 * drop.value:.1f}" if known else "-",
                *(f"{100 * group.accuracy(name, split):.1f}" for split in ("train", "test")),
            )
    about = ", ".join(f"{name}: {LABELS[name]}" for name in summary.config.architectures)
    table.caption = "\n".join(
        [
            "naive: not matched; matched: layer by layer, by weights;",
            "train: the same on training data; acc.: of the networks;",
            "drop: fall of test accuracy along the matched segment",
            *_wrapped(about),
            summary.exclusions(),
        ]
    )
    return table


def _wrapped(text: str, most: int = 58) -> list[str]:
    lines = [""]
    for part in text.split(", "):
        if len(lines[-1]) + len(part) > most:
            lines.append("")
        lines[-1] += ("; " if lines[-1] else "") + part
    return lines
