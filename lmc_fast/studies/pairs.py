# SPDX-License-Identifier: MIT
"""The barrier between two checkpoints, outside any study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..barrier import Barrier
from ..matching import match as match_neurons
from ..weights import Weights, check_same_architecture
from .checkpoints import checkpoint_metadata, load_checkpoint
from .errors import CheckpointError
from .plot_style import COLUMN, new_figure, style
from .presets import parse_config, preset_settings
from .store import reported
from .tasks import make_task


def measure_pair(
    a: Path,
    b: Path,
    *,
    problem: Mapping[str, Any],
    data_dir: Path | None = None,
    match: str | None = None,
    definition: str = "chord",
    alphas: int = 25,
) -> dict[str, Barrier]:
    """Barrier between the networks of two files, per split of the data.

    Parameters
    ----------
    a, b : path
        See :func:`load_checkpoint`; P networks each.
    problem : mapping
        Settings of the problem (see ``config``); None or missing takes what the file ``a`` says of
        itself, then the default.
    match, definition, alphas
        As in :func:`lmc_fast.barrier`.

    Returns
    -------
    dict of str to Barrier
        With a matching, ``naive`` has the barrier without it.
    """
    ends = load_checkpoint(a), load_checkpoint(b)
    check_same_architecture(*ends)
    settings = _settings(a, problem, ends[0])
    settings |= {"definition": definition, "alphas": alphas}
    task = make_task(parse_config("width", settings), data_dir)
    naive = task.barriers(*ends)
    if match is None:
        return naive
    x = task.matching_inputs if match == "activations" else None
    matching = match_neurons(*ends, cost=match, x=x)
    matched = task.barriers(ends[0], matching.apply(ends[1]))
    return {
        split: Barrier(found.height, found.alpha, found.curve, definition, matching, naive[split])
        for split, found in matched.items()
    }


def save_curve(results: Mapping[str, Barrier], path: Path) -> None:
    """Draw the loss along the segment, a panel per split.

    Raises
    ------
    CheckpointError
        The name ends in something no figure can be written as.
    StoreError
        The folder cannot be written.
    """
    with style(), reported(path, "give a name that can be written"):
        figure = new_figure(COLUMN * len(results), 2.6)
        if path.suffix[1:] not in figure.canvas.get_supported_filetypes():
            raise CheckpointError(f"--save-plot must end in .png or .svg; got {path.name}")
        row = figure.subplots(1, len(results), squeeze=False)[0]
        for axes, (split, result) in zip(row, results.items(), strict=True):
            result.plot(axes)
            axes.set_ylabel(f"{split} loss")
        figure.savefig(path)


def _settings(path: Path, given: Mapping[str, Any], weights: Weights) -> dict[str, Any]:
    asked = {name: value for name, value in given.items() if value is not None}
    stored = json.loads(checkpoint_metadata(path).get("config", "{}")).get("problem", {})
    data = asked.get("data") or stored.get("data") or "teacher"
    if stored.get("data") != data:
        stored = {}
    settings = preset_settings("width", data, "quick")
    settings["problem"] = {**stored, **asked, "data": data}
    if data == "teacher":
        settings["problem"]["d"] = weights.w1.shape[2]
    settings["dtype"] = "float32" if weights.w1.dtype == torch.float32 else "float64"
    return settings
