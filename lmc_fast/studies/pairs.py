# SPDX-License-Identifier: MIT
"""The barrier between two checkpoints, outside any study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from ..barrier import Barrier
from ..matching import match as match_neurons
from ..matching import measured_on_inputs
from ..weights import Weights, check_same_architecture
from .checkpoints import checkpoint_metadata, load_checkpoint
from .config import DataName
from .errors import CheckpointError
from .plot_style import COLUMN, new_figure, style
from .presets import parse_config
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
        Settings of the problem (see ``config``); None or missing takes what the files say of
        themselves, then the default.
    match, definition, alphas
        As in :func:`lmc_fast.barrier`.

    Returns
    -------
    dict of str to Barrier
        With a matching, ``naive`` has the barrier without it.

    Raises
    ------
    CheckpointError
        A file that cannot be read, files that were trained on different problems, or a matching
        that needs images with a teacher.
    """
    ends = load_checkpoint(a), load_checkpoint(b)
    check_same_architecture(*ends)
    settings = _settings(a, b, problem, ends[0])
    settings |= {"definition": definition, "alphas": alphas}
    task = make_task(parse_config("width", settings), data_dir)
    if match is None:
        return task.barriers(*ends)
    measured = measured_on_inputs(match, *ends)
    if measured and task.matching_inputs is None:
        biases = " of networks with biases" if match == "gap" else ""
        raise CheckpointError(
            f"--match {match}{biases} needs images, which a teacher has none of: name some with "
            "--data digits or --data mnist, or take another --match"
        )
    x = task.matching_inputs if measured else None
    return task.barriers(*ends, match_neurons(*ends, cost=match, x=x))


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


def _settings(a: Path, b: Path, given: Mapping[str, Any], weights: Weights) -> dict[str, Any]:
    asked = {name: value for name, value in given.items() if value is not None}
    known = [
        {**stored, **asked}
        for stored in map(_stored_problem, (a, b))
        if stored and asked.get("data", stored["data"]) == stored["data"]
    ]
    problem = known[0] if known else {"data": "teacher", **asked}
    for other in known[1:]:
        # All settings but this one change the loss.
        names = {*problem, *other} - {"converged_loss"}
        differing = sorted(k for k in names if problem.get(k) != other.get(k))
        if differing:
            values = "; ".join(f"{k}: {problem.get(k)} and {other.get(k)}" for k in differing)
            raise CheckpointError(
                f"{a.name} and {b.name} were trained on different problems ({values}): "
                "take networks of one problem, or say by options which one is meant"
            )
    teacher = problem["data"] == "teacher"
    if teacher:
        problem["d"] = weights.w1.shape[2]
    return {
        "problem": problem,
        "method": "population_gd" if teacher else "gd",
        "dtype": "float32" if weights.w1.dtype == torch.float32 else "float64",
    }


def _stored_problem(path: Path) -> dict[str, Any]:
    """What a study's weights file says it was trained on; nothing of other programs' files."""
    try:
        config = json.loads(checkpoint_metadata(path).get("config", "{}"))
    except ValueError:
        return {}
    problem = config.get("problem") if isinstance(config, dict) else None
    if isinstance(problem, dict) and problem.get("data") in list(get_args(DataName)):
        return problem
    return {}
