# SPDX-License-Identifier: MIT
"""The tables of a store, and which formats of them this version reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from .config import GridConfig, TeacherProblem
from .errors import StoreError

DATABASE = "study.sqlite"
INDEX = "comparison.json"  # in a folder whose folders are studies
# Written into the SQLite header, so that another program's database is recognised as foreign.
_APPLICATION_ID = 0x4C4D4346  # "LMCF"
_FORMAT = 2
_WITHOUT_ACCURACIES = 1  # the format before curves had them, and before teachers were drawn as now
_KEY_TYPES = {
    "config_hash": "TEXT",
    "width": "INTEGER",
    "lr": "REAL",
    "seed_a": "INTEGER",
    "seed_b": "INTEGER",
}
KEY = tuple(_KEY_TYPES)


def is_comparison(folder: Path) -> bool:
    """Whether a folder holds a comparison."""
    return (folder / INDEX).is_file()


def refuse_comparison(folder: Path) -> None:
    """Raise StoreError for the folder of a comparison where a study's is wanted."""
    if is_comparison(folder):
        inside = sorted(path.parent.name for path in folder.glob(f"*/{DATABASE}"))
        such = f", such as {folder / inside[0]}" if inside else ""
        raise StoreError(f"{folder} is a comparison: give the folder of one of its studies{such}")


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether a database holds anything."""
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def make_tables(
    connection: sqlite3.Connection, config: GridConfig, columns: Mapping[str, str]
) -> None:
    """Make the tables and write the configuration, where there are none."""
    connection.execute("BEGIN IMMEDIATE")
    if has_tables(connection):
        connection.execute("ROLLBACK")
        return
    measured = "".join(f', "{name}" {kind}' for name, kind in columns.items())
    key = ", ".join(f"{name} {kind} NOT NULL" for name, kind in _KEY_TYPES.items())
    primary = ", ".join(KEY)
    for statement in (
        f"PRAGMA application_id = {_APPLICATION_ID}",
        f"PRAGMA user_version = {_FORMAT}",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
        f"CREATE TABLE cells ({key}{measured}, PRIMARY KEY ({primary}))",
        f"CREATE TABLE curves ({key}, matching TEXT NOT NULL, split TEXT NOT NULL, "
        "alphas BLOB NOT NULL, losses BLOB NOT NULL, accuracies BLOB, "
        f"PRIMARY KEY ({primary}, matching, split))",
        "CREATE TABLE probes (lr REAL PRIMARY KEY, students INTEGER NOT NULL, "
        "diverged INTEGER NOT NULL, sharpness REAL, seconds REAL NOT NULL)",
        "CREATE TABLE claims (chunk TEXT PRIMARY KEY, process INTEGER NOT NULL, at REAL NOT NULL)",
    ):
        connection.execute(statement)
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        [("config", config.canonical()), ("config_hash", config.digest())],
    )
    connection.execute("COMMIT")


def keep_accuracies(connection: sqlite3.Connection) -> None:
    """Bring a store of the format before to the present one; its curves stay without accuracies."""
    connection.execute("BEGIN IMMEDIATE")
    if "accuracies" not in column_names(connection, "curves"):
        connection.execute("ALTER TABLE curves ADD COLUMN accuracies BLOB")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
    connection.execute("COMMIT")


def check_teacher(folder: Path, connection: sqlite3.Connection, config: GridConfig) -> None:
    """Refuse to mix random teachers; orthonormal ones are all the same but for a rotation."""
    problem = getattr(config, "problem", None)
    random = isinstance(problem, TeacherProblem) and problem.teacher_kind == "random"
    if random and _format_of(connection) == _WITHOUT_ACCURACIES:
        raise StoreError(
            f"{folder} was begun by a version of lmc_fast that drew another random teacher from the"
            " same seed: finish it with that version, or give another --out (plots and tables of "
            "it can be made as before)"
        )


def _format_of(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def check_ours(folder: Path, connection: sqlite3.Connection) -> None:
    """Raise StoreError for another program's database, or a format this version does not know."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise StoreError(f"{folder / DATABASE} is another program's database: give another --out")
    found = _format_of(connection)
    if found not in (_FORMAT, _WITHOUT_ACCURACIES):
        raise StoreError(
            f"{folder} has store format {found}, this version of lmc_fast reads up to {_FORMAT}: "
            "read it with the version that wrote it, or give another --out"
        )


def column_names(connection: sqlite3.Connection, table: str) -> list[str]:
    """Columns of a table."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
