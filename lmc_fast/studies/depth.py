# SPDX-License-Identifier: MIT
"""Depth study: the matched barrier against width for networks of several depths, and a CNN.

The trend of the paper (arXiv 2503.06001) beyond two layers; every setting is a parameter. A cell is
a pair of seeds at one width, measured for every architecture; its columns end in the architecture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..barrier import barrier_height
from ..modules import PermutationGraph, match_modules, module_barrier, permutation_graph
from ..modules.check import tensors_of
from .cells import SIDES, Cell, Chunk, ChunkResult
from .config import ArchitectureName, DatasetProblem, DepthConfig
from .depth_networks import (
    CLASSES,
    Samples,
    Student,
    build,
    images,
    initialise,
    learnt,
    train_student,
)
from .provenance import provenance
from .store import CellKey, Curve, Row
from .tasks import Sizes

MATCHINGS = ("none", "weights")
SPLITS = ("train", "test")


class _Measured(NamedTuple):
    """One architecture of one pair: part of its row, curves, and tensors of both networks."""

    row: Row
    curves: list[Curve]
    tensors: list[dict[str, Tensor]]


def settings(config: DepthConfig) -> list[tuple[int, float]]:
    """Width and step size of every group of cells."""
    return [(m, config.lr) for m in config.widths]


def problem_of(config: DepthConfig) -> DatasetProblem:
    """The images of a depth study."""
    assert isinstance(config.problem, DatasetProblem)  # the configuration has checked it
    return config.problem


def samples(config: DepthConfig, data_dir: Path | None) -> dict[str, Samples]:
    """Images and labels per split."""
    return images(problem_of(config), config.batch_size, data_dir)


def sizes(config: DepthConfig, data_dir: Path | None) -> Sizes:
    """Of the problem."""
    n, d = samples(config, data_dir)["train"][0].shape
    return Sizes(n, d, CLASSES)


def column(quantity: str, architecture: str, matching: str = "", split: str = "") -> str:
    """Name of a measurement of one architecture: ``barrier_weights_test_mlp2``."""
    return "_".join(part for part in (quantity, matching, split, architecture) if part)


def measurement_columns(config: DepthConfig) -> dict[str, str]:
    """Names and SQLite types of what is measured for one pair with each architecture.

    ``diverged`` and ``failed``, no better than the zero network, are 0 or 1; ``loss`` is in nats;
    ``moved`` is the fraction of units the matching moved in ``passes`` passes. Barriers are NULL
    when a network failed.
    """
    columns: dict[str, str] = {}
    for name in config.architectures:
        for side in SIDES:
            columns |= {
                column(f"{flag}_{side}", name): "INTEGER" for flag in ("diverged", "failed")
            }
            for split in SPLITS:
                columns[column(f"loss_{split}_{side}", name)] = "REAL"
                columns[column(f"accuracy_{split}_{side}", name)] = "REAL"
        for matching in MATCHINGS:
            for split in SPLITS:
                for quantity in ("barrier", "alpha", "accuracy_drop"):
                    columns[column(quantity, name, matching, split)] = "REAL"
        columns |= {column("moved", name): "REAL", column("passes", name): "INTEGER"}
    return columns


def run_chunk(chunk: Chunk) -> ChunkResult:
    """Train and measure every pair of a chunk; a row depends on the pair's seeds and m alone.

    Every network is trained by itself, by one thread; threads take pairs and architectures.
    """
    begun = time.perf_counter()
    config = chunk.config
    assert isinstance(config, DepthConfig)
    jobs = [(key, name) for key in chunk.keys for name in config.architectures]
    given = samples(config, chunk.data_dir)
    # Here, for no other thread may run a network while torch.fx traces one.
    graphs = {name: _graph(name, chunk.width, given["train"]) for name in config.architectures}
    with _workers(chunk.threads) as run:
        measured = run(lambda job: _measure(config, job[0], job[1], given, graphs[job[1]]), jobs)
    rows: dict[CellKey, Row] = {key: dict(key._asdict()) for key in chunk.keys}
    curves: dict[CellKey, list[Curve]] = {key: [] for key in chunk.keys}
    students: dict[str, list[dict[str, Tensor]]] = {name: [] for name in config.architectures}
    for (key, name), found in zip(jobs, measured, strict=True):
        rows[key] |= found.row
        curves[key] += found.curves
        students[name] += found.tensors
    tensors = {
        f"{name}.{part}": torch.stack([tensors[part] for tensors in both])
        for name, both in students.items()
        for part in both[0]
    }
    tensors["seeds"] = torch.tensor([seed for pair in chunk.pairs for seed in pair])
    cells = [Cell(rows[key], curves[key]) for key in chunk.keys]
    return ChunkResult(chunk, cells, tensors, time.perf_counter() - begun, provenance())


@contextmanager
def _workers(threads: int | None) -> Iterator[Callable[..., list[_Measured]]]:
    """A map over jobs on threads of which each uses one core.

    torch's own threads are off meanwhile: they would change the order of sums.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads or before, initializer=torch.set_num_threads, initargs=(1,))
    torch.set_num_threads(1)
    try:
        yield lambda work, jobs: list(pool.map(work, jobs))
    finally:
        # After Ctrl-C what has not begun is not begun.
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _graph(name: ArchitectureName, m: int, given: Samples) -> PermutationGraph:
    x, _ = given
    network = build(name, m, x.shape[1], CLASSES)
    initialise(network, 0)
    return permutation_graph(network, x)


def _measure(
    config: DepthConfig,
    key: CellKey,
    name: ArchitectureName,
    given: dict[str, Samples],
    graph: PermutationGraph,
) -> _Measured:
    """Train both networks of one architecture, and measure the barrier between them."""
    pair = [
        train_student(config, name, key.width, seed, given["train"])
        for seed in (key.seed_a, key.seed_b)
    ]
    own = {full: None for full in measurement_columns(config) if full.endswith(f"_{name}")}
    tensors = [tensors_of(student.network) for student in pair]
    row, sound = _ends(name, pair, given)
    if not sound:
        return _Measured({**own, **row}, [], tensors)
    a, b = (student.network for student in pair)
    matching = match_modules(a, b, given["train"][0], starts=config.starts, graph=graph)
    row[column("moved", name)] = matching.moved
    row[column("passes", name)] = len(matching.objective) - 1
    curves = []
    for method, other in (("none", b), ("weights", matching.apply(b))):
        for split, (x, y) in given.items():
            found = module_barrier(
                a, other, x, y, loss="cross_entropy", alphas=config.alphas,
                definition=config.definition,
            )  # fmt: skip
            accuracies = found.curve.accuracies
            assert accuracies is not None
            # An accuracy that falls is a barrier in its negative: one formula serves both.
            drop, _ = barrier_height(-accuracies, found.curve.alphas, config.definition)
            row[column("barrier", name, method, split)] = float(found.height)
            row[column("alpha", name, method, split)] = float(found.alpha)
            row[column("accuracy_drop", name, method, split)] = float(drop)
            losses = found.curve.losses[0].numpy()
            curves.append(Curve(f"{method}_{name}", split, found.curve.alphas.numpy(), losses))
    return _Measured({**own, **row}, curves, tensors)


def _ends(name: str, pair: Sequence[Student], given: dict[str, Samples]) -> tuple[Row, bool]:
    """Losses and accuracies of both networks, and whether neither failed."""
    row: Row = {}
    sound = True
    for side, (network, diverged) in zip(SIDES, pair, strict=True):
        failed = diverged
        for split, (x, y) in given.items():
            if diverged:
                continue
            # The segment from a network to itself: its two ends are all there is to evaluate.
            curve = module_barrier(network, network, x, y, loss="cross_entropy", alphas=2).curve
            assert curve.accuracies is not None
            loss = float(curve.losses[0, 0])
            row[column(f"loss_{split}_{side}", name)] = loss
            row[column(f"accuracy_{split}_{side}", name)] = float(curve.accuracies[0, 0])
            if split == "train":
                failed = not learnt(loss, CLASSES)
        row[column(f"diverged_{side}", name)] = int(diverged)
        row[column(f"failed_{side}", name)] = int(failed)
        sound &= not failed
    return row, sound
