# SPDX-License-Identifier: MIT
"""A results folder: one SQLite file of finished cells, and trained weights beside it.

``study.sqlite`` holds ``meta`` (the configuration), ``cells`` (one row per width, learning rate
and pair of seeds), ``curves`` (their losses along alpha), ``probes`` (the search for the divergence
threshold) and ``claims`` (which chunks some process has begun). ``weights/`` holds the
trained networks as safetensors.

What makes it safe to kill and to share: a row is one transaction in a write-ahead log; a weights
file is complete under its name before a row refers to it; rows are keyed and a second insert of
the same key is ignored, which is harmless since equal keys have equal measurements.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .checkpoints import remove_stale
from .config import GridConfig, text_digest
from .errors import StoreError
from .presets import difference, same_settings
from .store_format import (
    DATABASE,
    KEY,
    check_ours,
    check_teacher,
    column_names,
    has_tables,
    keep_accuracies,
    make_tables,
    refuse_comparison,
)

WEIGHTS = "weights"
BUSY_SECONDS = 60.0
_RESUME = (
    "finished cells are kept: make room or give a writable --out, and run the same command "
    "again to resume"
)

Value = float | int | str | None
Row = dict[str, Value]


class CellKey(NamedTuple):
    """What names a cell within a configuration: m, the step size, and the two seeds."""

    width: int
    lr: float
    seed_a: int
    seed_b: int


class Curve(NamedTuple):
    """Losses (A,) along alphas (A,) for one pair, matching and split of the data.

    ``accuracies`` (A,) are the shares of images classified correctly; None with a teacher, and in
    stores of before they were kept.
    """

    matching: str
    split: str
    alphas: npt.NDArray[np.float64]
    losses: npt.NDArray[np.float64]
    accuracies: npt.NDArray[np.float64] | None = None


class Probe(NamedTuple):
    """One step size tried in the search for the divergence threshold."""

    lr: float
    students: int
    diverged: int
    sharpness: float | None
    seconds: float


class Store:
    """An open results folder; use :func:`create` or :func:`open_existing`, then ``with``."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection
        with self._reported():
            meta = dict(connection.execute("SELECT key, value FROM meta"))
            self.columns = column_names(connection, "cells")
        text, digest = meta.get("config"), meta.get("config_hash")
        if not isinstance(text, str) or text_digest(text) != digest:
            raise StoreError(_damaged(folder, "its configuration is not what was written"))
        self.config_text: str = text
        self.config_hash: str = digest

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; what was added stays."""
        self._connection.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        with reported(self.folder):
            yield

    def require(self, config: GridConfig) -> None:
        """Raise StoreError, which shows the difference, where these are other settings' results."""
        if not same_settings(self.config_text, config):
            changes = "; ".join(difference(self.config_text, config.canonical()))
            raise StoreError(
                f"{self.folder} holds results of another configuration ({changes}): "
                "give the same settings to resume it, or another --out"
            )

    def not_of(self, wanted: str) -> StoreError:
        """The error of a folder that holds another kind of study than ``wanted``."""
        held = json.loads(self.config_text)["study"]
        return StoreError(f"{self.folder} holds a {held} study, not {wanted}: give another folder")

    def finished(self) -> set[CellKey]:
        """Keys of the cells that have a row."""
        with self._reported():
            query = "SELECT width, lr, seed_a, seed_b FROM cells WHERE config_hash = ?"
            return {CellKey(*row) for row in self._connection.execute(query, (self.config_hash,))}

    def add(self, row: Mapping[str, Value], curves: Iterable[Curve] = ()) -> bool:
        """Write one finished cell and its curves in one transaction; False if it was there.

        Raises
        ------
        StoreError
            Full disk, read-only folder or damaged file; rows added before are kept.
        """
        full = {"config_hash": self.config_hash, **row}
        key = tuple(full[name] for name in KEY)
        columns = ", ".join(f'"{name}"' for name in full)
        marks = ", ".join("?" * len(full))
        with self._reported(), self._transaction() as connection:
            insert = f"INSERT OR IGNORE INTO cells ({columns}) VALUES ({marks})"
            fresh = connection.execute(insert, tuple(full.values())).rowcount == 1
            if fresh:
                connection.executemany(
                    "INSERT OR IGNORE INTO curves VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (*key, c.matching, c.split, *map(_blob, (c.alphas, c.losses, c.accuracies)))
                        for c in curves
                    ],
                )
        return fresh

    def rows(self) -> list[Row]:
        """Every finished cell, in the order of its key."""
        order = ", ".join(KEY)
        with self._reported():
            cursor = self._connection.execute(f"SELECT * FROM cells ORDER BY {order}")
            names = [item[0] for item in cursor.description]
            return [dict(zip(names, values, strict=True)) for values in cursor]

    def curves(self, key: CellKey) -> list[Curve]:
        """Barrier curves of one cell."""
        with self._reported():
            kept = "accuracies" in column_names(self._connection, "curves")
            query = (
                f"SELECT matching, split, alphas, losses, {'accuracies' if kept else 'NULL'} "
                "FROM curves WHERE config_hash = ? AND width = ? AND lr = ? AND seed_a = ? "
                "AND seed_b = ? ORDER BY matching, split"
            )
            found = self._connection.execute(query, (self.config_hash, *key)).fetchall()
        return [
            Curve(
                matching,
                split,
                np.frombuffer(alphas, "<f8"),
                np.frombuffer(losses, "<f8"),
                None if accuracies is None else np.frombuffer(accuracies, "<f8"),
            )
            for matching, split, alphas, losses, accuracies in found
        ]

    def claim(self, chunk: str) -> bool:
        """Say that this process begins a chunk; False when some process has said so before.

        A claim is a hint that spares two processes the same work, never a lock: one left behind
        by a killed process only moves its chunk to the end of the queue.
        """
        with self._reported(), self._transaction() as connection:
            insert = "INSERT OR IGNORE INTO claims VALUES (?, ?, ?)"
            return connection.execute(insert, (chunk, os.getpid(), time.time())).rowcount == 1

    def probes(self) -> list[Probe]:
        """Step sizes tried so far in the search for the divergence threshold, rising."""
        with self._reported():
            query = "SELECT lr, students, diverged, sharpness, seconds FROM probes ORDER BY lr"
            return [Probe(*row) for row in self._connection.execute(query)]

    def add_probe(self, probe: Probe) -> Probe:
        """Write one tried step size; returns what the store now says of it.

        That is another process's probe if it came first: all go on with the same one, for
        machines differ in the last bits of a sharpness, which places the grid.
        """
        query = "SELECT lr, students, diverged, sharpness, seconds FROM probes WHERE lr = ?"
        with self._reported(), self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO probes VALUES (?, ?, ?, ?, ?)", probe)
            return Probe(*connection.execute(query, (probe.lr,)).fetchone())

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # IMMEDIATE takes the write lock at once, so that waiting happens under the busy timeout.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def create(folder: Path, config: GridConfig, columns: Mapping[str, str]) -> Store:
    """Open the folder for writing, making it where it does not exist.

    Parameters
    ----------
    folder : path
    config : GridConfig
        Must be the one the folder was made with.
    columns : mapping of str to str
        Measurement columns of ``cells`` and their SQLite types.

    Raises
    ------
    StoreError
        The folder holds another configuration (the difference is shown), or rows of another random
        teacher, is a comparison's, read-only, on a full disk, or its database is damaged or another
        program's.
    """
    refuse_comparison(folder)
    with reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(folder / DATABASE, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            # Another program's database is refused before anything is changed.
            if has_tables(connection):
                check_ours(folder, connection)
            _use_log(connection)
            (folder / WEIGHTS).mkdir(exist_ok=True)
            remove_stale(folder / WEIGHTS)
            make_tables(connection, config, columns)
            check_teacher(folder, connection, config)
            keep_accuracies(connection)
            store = Store(folder, connection)
        except BaseException:
            connection.close()
            raise
    try:
        store.require(config)
    except StoreError:
        store.close()
        raise
    expected = {*KEY, *columns}
    if expected != set(store.columns):
        store.close()
        odd = ", ".join(sorted(expected ^ set(store.columns)))
        raise StoreError(
            f"{folder} was written by another version of lmc_fast (columns {odd} differ): "
            "give another --out"
        )
    return store


def open_existing(folder: Path) -> Store:
    """Open a results folder for reading.

    Raises
    ------
    StoreError
        There is no store but perhaps a comparison, it is empty, damaged or another program's, or
        some of its rows cannot be read where it is.
    """
    path = folder / DATABASE
    if not path.is_file():
        refuse_comparison(folder)
        raise StoreError(
            f"{folder} holds no study ({DATABASE} is missing): "
            "give the folder that 'lmc-fast study' printed"
        )
    with reported(folder):
        connection = _connect_existing(path)
        try:
            if not has_tables(connection):
                raise StoreError(f"{path} is empty: give the folder of a study that has begun")
            check_ours(folder, connection)
            return Store(folder, connection)
        except BaseException:
            connection.close()
            raise


def _use_log(connection: sqlite3.Connection) -> None:
    # Two processes that open a fresh file at once may meet while one switches it to the log;
    # SQLite then answers "locked" without waiting, so wait here.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    # NORMAL syncs at checkpoints: a killed process loses nothing, a power cut the last rows.
    connection.execute("PRAGMA synchronous = NORMAL")


def _connect_existing(path: Path) -> sqlite3.Connection:
    # "rw" and not "ro": the last reader then clears the write-ahead log away when it closes.
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(
        f"{uri}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    try:
        has_tables(connection)
    except sqlite3.OperationalError as error:
        # A log needs a shared-memory file beside it; in a read-only folder there can be none.
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        if log.is_file() and log.stat().st_size > 0:
            raise StoreError(
                f"{path} cannot be read here ({error}), for rows are still in {log.name}: "
                "copy the folder to a writable place to read it"
            ) from error
        connection = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True)
    return connection


def _blob(values: npt.NDArray[np.float64] | None) -> bytes | None:
    return None if values is None else np.ascontiguousarray(values, dtype="<f8").tobytes()


@contextmanager
def reported(folder: Path, remedy: str = _RESUME) -> Iterator[None]:
    """Turn what SQLite and the file system raise into one :class:`StoreError` line.

    Parameters
    ----------
    folder : path
        What the error names.
    remedy : str
        What to do when a file cannot be written.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(_database_message(folder, error)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"cannot write to {folder}: {reason}; {remedy}") from error


def _database_message(folder: Path, error: sqlite3.Error) -> str:
    path, text = folder / DATABASE, str(error)
    if "full" in text:
        return f"the disk with {folder} is full; {_RESUME}"
    if "readonly" in text or "unable to open" in text:
        return f"cannot write to {path}: {text}; give a writable --out"
    if any(sign in text for sign in ("not a database", "malformed", "no such table")):
        return _damaged(folder, text)
    return f"{path}: {text}"


def _damaged(folder: Path, reason: str) -> str:
    return (
        f"{folder / DATABASE} is damaged or not a study's database ({reason}): move it away to "
        f"start anew; trained weights stay in {folder / WEIGHTS}"
    )
