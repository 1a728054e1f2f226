# SPDX-License-Identifier: MIT
"""A chunk of cells: pairs of students at one width and step size, trained and measured together.

:func:`run_chunk` is a plain function of a picklable :class:`Chunk`, so any executor can run it,
in this process or another. Its rows depend on the seeds alone, not on how they are chunked.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..barrier import Barrier, barrier_height
from ..curves import PathLosses
from ..matching import Matching, match, measured_on_inputs
from ..sparsity import participation_ratio
from ..weights import Weights
from .config import GridConfig, LearningRateConfig, StudyConfig, TeacherProblem
from .device import CPU
from .provenance import provenance
from .store import CellKey, Curve, Row
from .tasks import Task, Trained, make_task

SIDES = ("a", "b")


@dataclass(frozen=True)
class Chunk:
    """Pairs of seeds to be trained at one width and step size, and how.

    ``threads`` and ``data_dir`` say how the work is done and do not change its result; another
    ``device`` changes it by rounding.
    """

    config: GridConfig
    width: int
    lr: float
    pairs: tuple[tuple[int, int], ...]
    threads: int | None = None
    data_dir: Path | None = None
    device: torch.device = CPU

    @property
    def name(self) -> str:
        """Names the chunk's claim; other pairs give another name."""
        exact = repr((self.width, self.lr, self.pairs)).encode()
        digest = hashlib.sha256(exact).hexdigest()[:8]
        return f"m{self.width}-lr{self.lr:.6g}-seed{self.pairs[0][0]}-{digest}"

    @property
    def keys(self) -> list[CellKey]:
        """Keys of the chunk's cells."""
        return [CellKey(self.width, self.lr, a, b) for a, b in self.pairs]


@dataclass(frozen=True)
class Cell:
    """One finished pair: its row and its barrier curves."""

    row: Row
    curves: list[Curve]


@dataclass(frozen=True)
class ChunkResult:
    """Finished cells of a chunk, and the students' tensors, if any, in the order of ``seeds``.

    Everything is on the CPU; ``provenance`` is that of the process which computed it.
    """

    chunk: Chunk
    cells: list[Cell]
    tensors: dict[str, Tensor]
    seconds: float
    provenance: dict[str, str]

    @property
    def name(self) -> str:
        """Names the weights file: the chunk, and what is in the tensors."""
        digest = hashlib.sha256()
        for tensor in self.tensors.values():
            digest.update(tensor.contiguous().numpy().tobytes())
        return f"{self.chunk.name}-{digest.hexdigest()[:8]}"


def column(quantity: str, matching: str, split: str = "population") -> str:
    """Name of a measurement in the store: ``barrier_gap``, ``barrier_gap_test``."""
    return f"{quantity}_{matching}" + ("" if split == "population" else f"_{split}")


def alive_column(step: int) -> str:
    """Name of a student's alive neurons after some updates, without its side."""
    return f"alive_at_{step}"


def splits_of(config: StudyConfig) -> tuple[str, ...]:
    """Where a configuration measures losses; the first is the one that is trained on."""
    return ("population",) if isinstance(config.problem, TeacherProblem) else ("train", "test")


def measurement_columns(config: StudyConfig) -> dict[str, str]:
    """Names and SQLite types of what :func:`run_chunk` measures for one pair.

    ``diverged`` and ``failed`` are 0 or 1, see :class:`Trained`; ``loss`` is the trained
    objective, in nats for cross entropy; ``alive`` counts neurons, see :meth:`Task.alive`;
    ``moved`` is the fraction of neurons a matching moved; ``alpha`` is where the barrier is
    attained. Barriers are NULL when a student failed.
    """
    sided = {
        "diverged": "INTEGER",
        "failed": "INTEGER",
        "steps": "INTEGER",
        "loss": "REAL",
        "alive": "INTEGER",
        "participation": "REAL",
    }
    images = not isinstance(config.problem, TeacherProblem)
    if isinstance(config, LearningRateConfig):
        if not images:
            sided["sharpness"] = "REAL"
        sided |= {alive_column(step): "INTEGER" for step in config.counted_steps}
    if images:
        sided |= {"accuracy_train": "REAL", "loss_test": "REAL", "accuracy_test": "REAL"}
    columns = {f"{name}_{side}": kind for name, kind in sided.items() for side in SIDES}
    for matching in config.matchings:
        for split in splits_of(config):
            columns[column("barrier", matching, split)] = "REAL"
            columns[column("alpha", matching, split)] = "REAL"
            if images:
                columns[column("accuracy_drop", matching, split)] = "REAL"
        columns[column("moved", matching)] = "REAL"
        columns[column("match_seconds", matching)] = "REAL"
    return columns


def run_chunk(chunk: Chunk) -> ChunkResult:
    """Train the chunk's students and measure every pair.

    Returns
    -------
    ChunkResult
        One cell per pair, in the order of ``chunk.pairs``.
    """
    begun = time.perf_counter()
    config = chunk.config
    assert isinstance(config, StudyConfig)
    task = make_task(config, chunk.data_dir, chunk.device)
    seeds = [seed for pair in chunk.pairs for seed in pair]
    trained = task.train(seeds, chunk.width, chunk.lr, chunk.threads)
    rows: list[Row] = [dict(key._asdict()) for key in chunk.keys]
    _measure_students(task, trained, rows)
    if isinstance(config, LearningRateConfig) and config.counted_steps:
        counts = task.alive_at(seeds, chunk.width, chunk.lr, config.counted_steps, chunk.threads)
        for step, values in zip(config.counted_steps, counts.unbind(1), strict=True):
            _write_students(rows, alive_column(step), values)
    curves: list[list[Curve]] = [[] for _ in rows]
    sound = ~trained.failed.view(-1, 2).any(1)
    kept = [int(i) for i in sound.nonzero()[:, 0]]
    if kept:
        index = torch.tensor(kept)
        ends = trained.take(2 * index), trained.take(2 * index + 1)
        for matching in config.matchings:
            _measure_pairs(
                task, matching, *ends, [rows[i] for i in kept], [curves[i] for i in kept]
            )
    empty = dict.fromkeys(measurement_columns(config))
    cells = [Cell({**empty, **row}, found) for row, found in zip(rows, curves, strict=True)]
    w1, w2 = trained.weights.w1.cpu(), trained.weights.w2.cpu()
    tensors = {"w1": w1, "w2": w2, "seeds": torch.tensor(seeds)}
    seconds = time.perf_counter() - begun
    return ChunkResult(chunk, cells, tensors, seconds, provenance(chunk.device))


def _measure_students(task: Task, trained: Trained, rows: list[Row]) -> None:
    weights = trained.weights
    # On the CPU, where a student's sums do not depend on how many others there are.
    w1, w2 = weights.w1.cpu(), weights.w2.cpu()
    measured = {
        "diverged": trained.diverged.to(torch.int64),
        "failed": trained.failed.to(torch.int64),
        "steps": trained.steps,
        "loss": trained.loss,
        "alive": task.alive(weights),
        "participation": participation_ratio(w1, w2),
    }
    if isinstance(task.config, LearningRateConfig):
        curvature = task.sharpness(weights)
        if curvature is not None:
            # The Hessian at the last finite weights of a diverged student says nothing.
            measured["sharpness"] = curvature.cpu().masked_fill(trained.failed, float("nan"))
    for name, values in measured.items():
        _write_students(rows, name, values)


def _write_students(rows: list[Row], name: str, values: Tensor) -> None:
    for i, value in enumerate(values.tolist()):
        # SQLite has no NaN: a value that is not a number is absent.
        rows[i // 2][f"{name}_{SIDES[i % 2]}"] = None if value != value else value


def _measure_pairs(
    task: Task, name: str, a: Weights, b: Weights, rows: list[Row], curves: list[list[Curve]]
) -> None:
    matching = _match(task, name, a, b, rows)
    measured = task.barriers(a, matching.apply(b))
    found = {split: _on_cpu(result) for split, result in measured.items()}
    for i, row in enumerate(rows):
        row[column("moved", name)] = float(matching.moved[i])
        row[column("match_seconds", name)] = matching.seconds / len(rows)
        for split, result in found.items():
            row[column("barrier", name, split)] = float(result.height[i])
            row[column("alpha", name, split)] = float(result.alpha[i])
            curve = result.curve
            accuracies = None if curve.accuracies is None else curve.accuracies[i].numpy()
            curves[i].append(
                Curve(name, split, curve.alphas.numpy(), curve.losses[i].numpy(), accuracies)
            )
            if accuracies is not None:
                _measure_accuracy(row, name, split, i, result)


def _on_cpu(result: Barrier) -> Barrier:
    """The numbers of P pairs at once: each transfer from a GPU takes its time."""
    alphas, losses, accuracies = result.curve
    curve = PathLosses(alphas, losses.cpu(), None if accuracies is None else accuracies.cpu())
    return replace(result, height=result.height.cpu(), alpha=result.alpha.cpu(), curve=curve)


def _measure_accuracy(row: Row, name: str, split: str, i: int, result: Barrier) -> None:
    accuracies = result.curve.accuracies
    assert accuracies is not None
    # An accuracy that falls is a barrier in its negative: one formula serves both.
    drop, _ = barrier_height(-accuracies[i : i + 1], result.curve.alphas, result.definition)
    row[column("accuracy_drop", name, split)] = float(drop[0])
    for side, end in zip(SIDES, (0, -1), strict=True):
        row[f"accuracy_{split}_{side}"] = float(accuracies[i, end])
        if split == "test":
            row[f"loss_test_{side}"] = float(result.curve.losses[i, end])


def _match(task: Task, name: str, a: Weights, b: Weights, rows: Sequence[Row]) -> Matching:
    x = task.matching_inputs if measured_on_inputs(name, a, b) else None
    if name != "random":
        return match(a, b, cost=name, x=x)
    # Drawn pair by pair from the pair's own seed, so that chunking does not change it.
    single = [
        match(_only(a, i), _only(b, i), cost=name, seed=int(row["seed_a"] or 0))
        for i, row in enumerate(rows)
    ]
    return Matching(
        torch.cat([found.perm for found in single]),
        torch.cat([found.cost for found in single]),
        sum(found.seconds for found in single),
        name,
    )


def _only(weights: Weights, i: int) -> Weights:
    return Weights(weights.w1[i : i + 1], None, weights.w2[i : i + 1], None)
