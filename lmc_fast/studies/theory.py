# SPDX-License-Identifier: MIT
"""Theory study: the matched barrier between random global minima against the width m.

Nothing is trained: students are drawn by :func:`sample_grouped_minimum`, and step sizes are 0. A
cell is a pair of seeds at one width, measured at every death rate r; its columns end in r.
"""

from __future__ import annotations

import time

from ..grouped_minima import barrier_floor, mixed_pairs, mixed_path_losses, sample_grouped_minimum
from ..reference.population_loss import input_scale
from .cells import Cell, Chunk, ChunkResult
from .config import TeacherProblem, TheoryConfig
from .provenance import provenance
from .store import Row
from .tasks import Sizes


def settings(config: TheoryConfig) -> list[tuple[int, float]]:
    """Width and step size, which is 0, of every group of cells."""
    return [(m, 0.0) for m in config.widths]


def sizes(config: TheoryConfig) -> Sizes:
    """Of the problem."""
    return Sizes(0, problem_of(config).d, 1)


def column(quantity: str, death: float) -> str:
    """Name of a measurement at one death rate: ``barrier_r0.01``."""
    return f"{quantity}_r{death!r}"


def measurement_columns(config: TheoryConfig) -> dict[str, str]:
    """Names and SQLite types of what is measured for one pair at each death rate.

    ``mixed`` is K, the pairs of neurons of different types, zero iff some permutation has zero
    barrier; ``barrier`` is that of the grouped matching, attained at ``alpha``; ``floor`` is a
    lower bound on the barrier of every permutation. See :mod:`lmc_fast.grouped_minima`.
    """
    kinds = {"mixed": "INTEGER", "barrier": "REAL", "alpha": "REAL", "floor": "REAL"}
    return {column(name, r): kind for r in config.deaths for name, kind in kinds.items()}


def run_chunk(chunk: Chunk) -> ChunkResult:
    """Draw and measure every pair of a chunk; a row depends on the pair's seeds and m alone."""
    begun = time.perf_counter()
    assert isinstance(chunk.config, TheoryConfig)
    cells = []
    for key in chunk.keys:
        row: Row = dict(key._asdict())
        for death in chunk.config.deaths:
            row |= _measure(chunk.config, key.width, (key.seed_a, key.seed_b), death)
        cells.append(Cell(row, []))
    return ChunkResult(chunk, cells, {}, time.perf_counter() - begun, provenance())


def _measure(config: TheoryConfig, m: int, seeds: tuple[int, int], death: float) -> Row:
    problem = problem_of(config)
    M = problem.teacher_width
    scale = input_scale(problem.inputs, problem.radius, problem.d)
    a, b = (sample_grouped_minimum(M, m, seed, death) for seed in seeds)
    pairs = mixed_pairs(a, b)
    curve = mixed_path_losses(pairs, M, config.alphas)
    # The ends are minima: their loss is zero, so that the chord is too.
    height, place = curve.losses[0].max(0)
    return {
        column("mixed", death): len(pairs.share_a),
        column("barrier", death): scale * float(height),
        column("alpha", death): float(curve.alphas[place]),
        column("floor", death): scale * barrier_floor(a, b),
    }


def problem_of(config: TheoryConfig) -> TeacherProblem:
    """The teacher of a theory study."""
    assert isinstance(config.problem, TeacherProblem)  # the configuration has checked it
    return config.problem
