# SPDX-License-Identifier: MIT
"""Runs a study: cuts its grid into chunks, has an executor compute them, and writes the rows.

Work goes through the :class:`concurrent.futures.Executor` interface and comes back to one
writer, the calling process. The default executor runs a chunk where it is submitted: the native
call uses every core already, and Ctrl-C reaches it.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from . import learning_rate
from .cells import Chunk, ChunkResult
from .checkpoints import SUFFIX, save_tensors
from .chunk_size import chunk_size
from .config import AnyConfig, LearningRateConfig
from .errors import StudyError
from .kinds import kind_of
from .provenance import PROVENANCE
from .store import WEIGHTS, Probe, Row, Store, create, reported

Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
    """What a study tells about its advance; ``cost`` is in arbitrary units of work."""

    def searching(self, text: str) -> None:
        """The divergence threshold is being searched; ``text`` says how far."""

    def begin(self, cells: int, cost: float) -> None:
        """The grid is known: this many cells are still to do."""

    def advance(self, cells: int, cost: float) -> None:
        """This many more cells are in the store."""


class Silent:
    """Progress that tells nobody."""

    def searching(self, text: str) -> None:
        """Nothing."""

    def begin(self, cells: int, cost: float) -> None:
        """Nothing."""

    def advance(self, cells: int, cost: float) -> None:
        """Nothing."""


class InlineExecutor(Executor):
    """Runs what is submitted at once, in the calling thread.

    An interrupt is not caught: it ends the submission.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn`` and return a future that is already done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a study; ``finished`` of ``total`` cells are in ``folder``."""

    def __init__(self, folder: Path, finished: int, total: int | None) -> None:
        of = "" if total is None else f" of {total}"
        super().__init__(
            f"interrupted: {finished}{of} cells are finished and kept in {folder}; "
            "run the same command again to resume"
        )


@dataclass(frozen=True)
class Outcome:
    """A finished study: its folder, the number of its cells, and how many were computed now."""

    folder: Path
    cells: int
    computed: int


def run_study(
    config: AnyConfig,
    folder: Path,
    *,
    data_dir: Path | None = None,
    threads: int | None = None,
    device: str | torch.device = "cpu",
    executor: Executor | None = None,
    chunk_pairs: int | None = None,
    window: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Compute what a study's folder still lacks, and write it there row by row.

    Parameters
    ----------
    config : WidthConfig, LearningRateConfig, TheoryConfig or DepthConfig
    folder : path
        Made where it does not exist; resumed where it holds the same configuration.
    data_dir : path, optional
        Where the image files are.
    threads : int, optional
        Threads per native call on the CPU; None leaves it to the library.
    device : str or torch.device
        "cpu", "cuda", "cuda:1", or "auto", a GPU where there is one to use. Devices differ by
        rounding: every row names its own as ``backend``, and what one has begun another may finish.
        The theory and the depth study are for the CPU alone.
    executor : Executor, optional
        Computes the chunks; None does so in the calling thread. It is left open. For a GPU its
        processes must be spawned, not forked.
    chunk_pairs : int, optional
        Pairs in one native call; results do not depend on it. None is 16, in a depth study fewer,
        on a GPU what its free memory takes, at most 1024.
    window : int, optional
        Chunks in flight at once, and lost by a kill at the most. None is 1 without an executor,
        else twice the number of cores.
    progress : Progress, optional

    Raises
    ------
    StudyError
        The folder cannot be used, a setting does not fit the data, the threshold cannot be found,
        or the device is not there or has too little memory; finished rows are kept.
    FileNotFoundError
        Image files are missing.
    Interrupted
        Ctrl-C; finished rows are kept.
    """
    if window is None:
        window = 1 if executor is None else 2 * (os.cpu_count() or 1)
    for name, value in (("chunk_pairs", chunk_pairs), ("window", window)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    kind = kind_of(config)
    device = kind.device(device)
    # Images that cannot be read are found out before a folder is made.
    sizes, columns = kind.sizes(config, data_dir, device), kind.columns(config)
    executor = InlineExecutor() if executor is None else executor
    progress = Silent() if progress is None else progress
    total: int | None = None
    with create(folder, config, {**columns, **PROVENANCE}) as store:
        try:
            blank = Chunk(config, 0, 0.0, (), threads, data_dir, device)
            groups = _groups(config, store, executor, progress, blank)
            total = len(groups) * config.pairs
            pairs_at = chunk_size(chunk_pairs, config, sizes, device, window)
            chunks = list(plan(blank, groups, pairs_at))
            done = store.finished()
            left = [chunk for chunk in (_remaining(c, done) for c in chunks) if chunk.pairs]
            progress.begin(sum(len(c.pairs) for c in left), sum(map(_cost, left)))
            computed = 0
            for result in drain(executor, run_chunk, _claimed(store, left, progress), window):
                computed += _keep(store, result)
                progress.advance(len(result.cells), _cost(result.chunk))
        except KeyboardInterrupt:
            raise Interrupted(folder, len(store.finished()), total) from None
        except torch.cuda.OutOfMemoryError as error:
            raise StudyError(
                f"{device} has too little memory: pass a smaller --chunk, or --device cpu; "
                f"finished cells are kept in {folder} ({str(error).partition('. ')[0]})"
            ) from error
    return Outcome(folder, total, computed)


def plan(
    blank: Chunk, groups: Iterable[tuple[int, float]], pairs_at: Callable[[int], int]
) -> Iterator[Chunk]:
    """Cut every group (width m, step size) into chunks of at most ``pairs_at(m)`` pairs."""
    first = blank.config.first_seed
    pairs = [(first + 2 * p, first + 2 * p + 1) for p in range(blank.config.pairs)]
    for m, lr in groups:
        size = pairs_at(m)
        for start in range(0, len(pairs), size):
            part = tuple(pairs[start : start + size])
            yield replace(blank, width=m, lr=lr, pairs=part)


def drain(
    executor: Executor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    window: int,
) -> Iterator[Result]:
    """Results of ``work`` on ``items`` as they finish, ``window`` of them in flight.

    Items are asked for only when there is room, so that a generator of items can decide late.
    An error is raised once the results of what else is running have been given.
    """
    flying: set[Future[Result]] = set()
    queue = iter(items)
    exhausted = False
    failure: BaseException | None = None
    try:
        while flying or not exhausted:
            while not exhausted and len(flying) < window:
                try:
                    flying.add(executor.submit(work, next(queue)))
                except StopIteration:
                    exhausted = True
                except Exception as error:
                    exhausted, failure = True, error
            if not flying:
                break
            done, flying = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                raised = future.exception()
                if raised is None:
                    yield future.result()
                else:
                    exhausted, failure = True, failure or raised
            if failure is not None:
                flying = {future for future in flying if not future.cancel()}
        if failure is not None:
            raise failure
    finally:
        for future in flying:
            future.cancel()


def _groups(
    config: AnyConfig,
    store: Store,
    executor: Executor,
    progress: Progress,
    blank: Chunk,
) -> list[tuple[int, float]]:
    if not isinstance(config, LearningRateConfig):
        return kind_of(config).settings(config)

    def probe(lr: float) -> Probe:
        progress.searching(f"looking for the divergence threshold, trying lr = {lr:.5g}")
        work = learning_rate.ProbeTask(config, lr, blank.threads, blank.data_dir, blank.device)
        found = executor.submit(learning_rate.run_probe, work).result()
        return store.add_probe(found)

    return learning_rate.settings(
        config, learning_rate.find_threshold(config, store.probes(), probe)
    )


def run_chunk(chunk: Chunk) -> ChunkResult:
    """Compute a chunk: a function of the module, so that other processes can."""
    return kind_of(chunk.config).run_chunk(chunk)


def _claimed(store: Store, chunks: Iterable[Chunk], progress: Progress) -> Iterator[Chunk]:
    """Chunks nobody has begun, then what is left of those that somebody had."""
    passed = []
    for chunk in chunks:
        if store.claim(chunk.name):
            yield chunk
        else:
            passed.append(chunk)
    for chunk in passed:
        left = _remaining(chunk, store.finished())
        gone = len(chunk.pairs) - len(left.pairs)
        if gone:
            progress.advance(gone, _cost(chunk) - _cost(left))
        if left.pairs:
            yield left


def _remaining(chunk: Chunk, finished: Iterable[tuple[object, ...]]) -> Chunk:
    done = set(finished)
    pairs = tuple(key[2:] for key in chunk.keys if key not in done)
    return replace(chunk, pairs=pairs)


def _cost(chunk: Chunk) -> float:
    """Work of a chunk in arbitrary units: what one step takes, of training or of drawing."""
    return len(chunk.pairs) * kind_of(chunk.config).cost(chunk.config, chunk.width)


def _keep(store: Store, result: ChunkResult) -> int:
    """Write weights, if any, then rows; returns how many rows are new."""
    shared: Row = {
        "weights": _keep_weights(store, result) if result.tensors else None,
        **result.provenance,
        # A chunk is timed as a whole; its pairs share the time evenly.
        "seconds": result.seconds / len(result.cells),
        "finished_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return sum(store.add({**cell.row, **shared}, cell.curves) for cell in result.cells)


def _keep_weights(store: Store, result: ChunkResult) -> str:
    """Write the students of a chunk; returns the file's place in the folder."""
    chunk = result.chunk
    # Named by content: where two processes have computed the same chunk, on machines that differ
    # in the last bits, every row keeps the weights it was measured on.
    name = f"{result.name}{SUFFIX}"
    about = {"config": chunk.config.canonical(), "width": str(chunk.width), "lr": repr(chunk.lr)}
    with reported(store.folder):
        save_tensors(store.folder / WEIGHTS / name, result.tensors, about)
    return f"{WEIGHTS}/{name}"
