# SPDX-License-Identifier: MIT
"""Stores filled without training anything."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from lmc_fast.studies.cells import alive_column, column, measurement_columns, splits_of
from lmc_fast.studies.config import LearningRateConfig, WidthConfig
from lmc_fast.studies.learning_rate import Bracket, settings
from lmc_fast.studies.provenance import PROVENANCE
from lmc_fast.studies.store import Curve, Probe, Row, create

Config = WidthConfig | LearningRateConfig


def fill_store(folder: Path, config: Config, failed: int = 0, loss: float = 1e-9) -> Path:
    """Fill a folder with invented rows.

    A barrier is lr / m x (1 + sin(pair) / 10), times 1, 10, 100 from the configuration's last
    matching to its first; losses are ``loss``, every neuron is alive, the divergence threshold is
    about 1, and the first ``failed`` students of every group have failed.
    """
    if isinstance(config, WidthConfig):
        groups = [(m, config.lr_at(m)) for m in config.widths]
    else:
        groups = settings(config, Bracket(0.99, 1.01))
    with create(folder, config, {**measurement_columns(config), **PROVENANCE}) as store:
        if isinstance(config, LearningRateConfig):
            store.add_probe(Probe(0.99, 4, 0, 2.0, 0.1))
            store.add_probe(Probe(1.01, 4, 4, None, 0.1))
        for m, lr in groups:
            for pair in range(config.pairs):
                row, curves = _invent(config, m, lr, pair, failed, loss)
                store.add(row, curves)
    return folder


def _invent(
    config: Config, m: int, lr: float, pair: int, failed: int, loss: float
) -> tuple[Row, list[Curve]]:
    row: Row = {"width": m, "lr": lr, "seed_a": 2 * pair, "seed_b": 2 * pair + 1}
    for name, kind in measurement_columns(config).items():
        row[name] = 0 if kind == "INTEGER" else 0.5
    for side, seed in (("a", 2 * pair), ("b", 2 * pair + 1)):
        row[f"alive_{side}"] = m
        row[f"failed_{side}"] = int(seed < failed)
        row[f"loss_{side}"] = loss
        if isinstance(config, LearningRateConfig):
            row |= {f"{alive_column(step)}_{side}": m for step in config.counted_steps}
    alphas = np.linspace(0, 1, config.alphas)
    curves = []
    for power, matching in enumerate(reversed(config.matchings)):
        for split in splits_of(config):
            height = lr / m * 10.0**power * (1 + 0.1 * math.sin(pair))
            row[column("barrier", matching, split)] = None if 2 * pair < failed else height
            losses = 4 * height * alphas * (1 - alphas)
            # An accuracy that tells the curves apart, with images.
            scored = 1 / (1 + losses) if split != "population" else None
            curves.append(Curve(matching, split, alphas, losses, scored))
    return row, curves
