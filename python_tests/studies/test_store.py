# SPDX-License-Identifier: MIT
"""The results folder: what goes in comes out, and every way it can be bad ends in one line."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from invented import fill_store

from lmc_fast.studies.config import WidthConfig, text_digest
from lmc_fast.studies.errors import StoreError
from lmc_fast.studies.store import (
    CellKey,
    Curve,
    Probe,
    Row,
    Store,
    create,
    open_existing,
)
from lmc_fast.studies.store_format import DATABASE

COLUMNS = {"barrier_gap": "REAL", "alive_a": "INTEGER"}


def make(folder: Path, config: WidthConfig) -> Store:
    return create(folder, config, COLUMNS)


def row(seed: int, height: float | None = 0.25) -> Row:
    return {
        "width": 3, "lr": 0.1, "seed_a": seed, "seed_b": seed + 1,
        "barrier_gap": height, "alive_a": 3,
    }  # fmt: skip


def test_rows_and_curves_come_back(tmp_path: Path, tiny: WidthConfig) -> None:
    curve = Curve("gap", "population", np.linspace(0, 1, 3), np.array([0.0, 1e-17, 2.0]))
    with make(tmp_path, tiny) as store:
        assert store.add(row(2, None))
        assert store.add(row(0), [curve])
    with open_existing(tmp_path) as store:
        first, second = store.rows()
        assert first == {"config_hash": tiny.digest(), **row(0)}
        assert second["barrier_gap"] is None
        key = CellKey(3, 0.1, 0, 1)
        assert store.finished() == {key, CellKey(3, 0.1, 2, 3)}
        (found,) = store.curves(key)
        assert found[:2] == curve[:2]
        np.testing.assert_array_equal(found.alphas, curve.alphas)
        np.testing.assert_array_equal(found.losses, curve.losses)


def test_a_learning_rate_is_found_again_to_the_last_bit(tmp_path: Path, tiny: WidthConfig) -> None:
    rates = [4 / 3, 0.1 + 0.2, np.nextafter(1, 2), 5e-324]
    with make(tmp_path, tiny) as store:
        for lr in rates:
            store.add({**row(0), "lr": lr})
        assert {key.lr for key in store.finished()} == set(rates)


def test_a_second_insert_changes_nothing(tmp_path: Path, tiny: WidthConfig) -> None:
    with make(tmp_path, tiny) as store:
        assert store.add(row(0, 1.0))
        assert not store.add(row(0, 2.0))
        assert [found["barrier_gap"] for found in store.rows()] == [1.0]


def test_a_chunk_is_claimed_once(tmp_path: Path, tiny: WidthConfig) -> None:
    with make(tmp_path, tiny) as one, make(tmp_path, tiny) as other:
        assert one.claim("chunk")
        assert not other.claim("chunk")


def test_probes_come_back_in_order(tmp_path: Path, tiny: WidthConfig) -> None:
    probes = [Probe(0.2, 4, 4, None, 1.0), Probe(0.1, 4, 0, 6.5, 2.0)]
    with make(tmp_path, tiny) as store:
        for probe in probes:
            store.add_probe(probe)
        assert store.probes() == probes[::-1]


def test_the_first_probe_of_a_step_size_stands_for_every_process(
    tmp_path: Path, tiny: WidthConfig
) -> None:
    first, second = Probe(0.1, 4, 0, 6.5, 2.0), Probe(0.1, 4, 0, 6.5 * (1 + 1e-15), 3.0)
    with make(tmp_path, tiny) as one, make(tmp_path, tiny) as other:
        assert one.add_probe(first) == first
        assert other.add_probe(second) == first
        assert one.probes() == [first]


def test_another_configuration_is_refused_with_the_difference(
    tmp_path: Path, tiny: WidthConfig
) -> None:
    make(tmp_path, tiny).close()
    other = tiny.model_copy(update={"pairs": 9})
    with pytest.raises(StoreError, match=r"another configuration \(pairs: stored 4, given 9\)"):
        make(tmp_path, other)
    make(tmp_path, tiny).close()


def test_other_columns_are_refused(tmp_path: Path, tiny: WidthConfig) -> None:
    make(tmp_path, tiny).close()
    with pytest.raises(StoreError, match=r"another version of lmc_fast \(columns extra differ\)"):
        create(tmp_path, tiny, {**COLUMNS, "extra": "REAL"})


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no study \(study\.sqlite is missing\)"):
        open_existing(tmp_path / "nowhere")


@pytest.mark.parametrize("opener", ["create", "open_existing"])
def test_foreign_and_damaged_files(tmp_path: Path, tiny: WidthConfig, opener: str) -> None:
    def reopen() -> None:
        (make(tmp_path, tiny) if opener == "create" else open_existing(tmp_path)).close()

    path = tmp_path / DATABASE
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE songs (title TEXT)")
    foreign.close()
    content = path.read_bytes()
    with pytest.raises(StoreError, match="is another program's database: give another --out"):
        reopen()
    assert path.read_bytes() == content
    assert [*tmp_path.iterdir()] == [path]
    path.write_text("Dear diary, today I overwrote a database with prose. " * 100)
    with pytest.raises(StoreError, match=r"is damaged or not a study's database .*weights stay in"):
        reopen()
    path.unlink()
    make(tmp_path, tiny).close()
    damaged = bytearray(path.read_bytes())
    damaged[100:3000] = b"\x5a" * 2900
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="is damaged or not a study's database"):
        reopen()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM meta WHERE key = 'config'",
        "UPDATE meta SET value = substr(value, 1, 30) WHERE key = 'config'",
        "UPDATE meta SET value = CAST(value AS BLOB) WHERE key = 'config'",
        "DROP TABLE meta",
    ],
)
@pytest.mark.parametrize("opener", ["create", "open_existing"])
def test_a_damaged_configuration_is_told_with_the_file(
    tmp_path: Path, tiny: WidthConfig, opener: str, damage: str
) -> None:
    make(tmp_path, tiny).close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute(damage)
    connection.close()
    with pytest.raises(StoreError, match=r"study\.sqlite is damaged .* move it away"):
        (make(tmp_path, tiny) if opener == "create" else open_existing(tmp_path)).close()


def test_an_empty_file_is_said_to_be_empty_and_can_be_filled(
    tmp_path: Path, tiny: WidthConfig
) -> None:
    (tmp_path / DATABASE).touch()
    with pytest.raises(StoreError, match=r"study\.sqlite is empty: give the folder of a study"):
        open_existing(tmp_path)
    make(tmp_path, tiny).close()
    open_existing(tmp_path).close()


def test_a_store_of_a_later_format_is_refused(tmp_path: Path, tiny: WidthConfig) -> None:
    make(tmp_path, tiny).close()
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(
        StoreError, match="has store format 99, this version of lmc_fast reads up to 2"
    ):
        open_existing(tmp_path)


def test_accuracies_come_back(tmp_path: Path, tiny: WidthConfig) -> None:
    alphas, losses = np.linspace(0, 1, 3), np.array([0.0, 1e-17, 2.0])
    with make(tmp_path, tiny) as store:
        store.add(row(0), [Curve("gap", "test", alphas, losses, np.array([0.5, 0.25, 1.0]))])
        (found,) = store.curves(CellKey(3, 0.1, 0, 1))
    np.testing.assert_array_equal(found.accuracies, [0.5, 0.25, 1.0])


def put_back_to_format_1(folder: Path) -> None:
    with sqlite3.connect(folder / DATABASE) as connection:
        connection.execute("ALTER TABLE curves DROP COLUMN accuracies")
        connection.execute("PRAGMA user_version = 1")
    connection.close()


def test_a_store_of_another_random_teacher_is_read_but_not_gone_on_with(
    tmp_path: Path, tiny: WidthConfig
) -> None:
    """Format 1 is of before the teacher of a seed changed: rows of two teachers make no mean."""
    problem = tiny.problem.model_copy(update={"teacher_kind": "random"})
    config = tiny.model_copy(update={"problem": problem})
    with make(tmp_path, config) as store:
        store.add(row(0), [])
    make(tmp_path, config).close()
    put_back_to_format_1(tmp_path)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"another random teacher from the same seed: finish"):
            make(tmp_path, config)
    with open_existing(tmp_path) as store:
        assert len(store.rows()) == 1


def test_a_store_of_before_accuracies_is_read_and_gone_on_with(
    tmp_path: Path, tiny: WidthConfig
) -> None:
    curve = Curve("gap", "population", np.linspace(0, 1, 3), np.array([0.0, 1e-17, 2.0]))
    with make(tmp_path, tiny) as store:
        store.add(row(0), [curve])
    put_back_to_format_1(tmp_path)
    for opened in (open_existing(tmp_path), make(tmp_path, tiny)):
        with opened as store:
            (found,) = store.curves(CellKey(3, 0.1, 0, 1))
            assert found.accuracies is None
            np.testing.assert_array_equal(found.losses, curve.losses)
    with make(tmp_path, tiny) as store:
        store.add(row(2), [curve._replace(accuracies=np.ones(3))])
    with open_existing(tmp_path) as store:
        (found,) = store.curves(CellKey(3, 0.1, 2, 3))
        np.testing.assert_array_equal(found.accuracies, np.ones(3))


def test_a_full_disk_loses_no_row_that_was_there(tmp_path: Path, tiny: WidthConfig) -> None:
    """SQLite's own error: the database may not grow beyond the pages it has."""
    with make(tmp_path, tiny) as store:
        store.add(row(0))
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        curve = Curve("gap", "population", np.zeros(5000), np.zeros(5000))
        with pytest.raises(StoreError, match=r"the disk .* is full; finished cells are kept"):
            store.add(row(2), [curve])
        assert store.finished() == {CellKey(3, 0.1, 0, 1)}
    with open_existing(tmp_path) as store:
        assert len(store.rows()) == 1


AS_NOBODY = """
import os, sys
from pathlib import Path
from lmc_fast.studies.errors import StoreError
from lmc_fast.studies.presets import config_from_json
from lmc_fast.studies.store import create, open_existing
folder, text = Path(sys.argv[1]), sys.argv[2]
if os.getuid() == 0:
    os.setuid(65534)
print(len(open_existing(folder).rows()))
for target in (folder, folder / "new"):
    try:
        create(target, config_from_json(text), {"barrier_gap": "REAL", "alive_a": "INTEGER"})
    except StoreError as error:
        print(error)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that a process without rights can reach; pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_readonly_folder_can_be_read_and_not_written(
    open_folder: Path, tiny: WidthConfig
) -> None:
    folder = open_folder / "study"
    with make(folder, tiny) as store:
        store.add(row(0))
    for path in (folder, folder / "weights"):
        path.chmod(0o555)
    (folder / DATABASE).chmod(0o444)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(folder), tiny.canonical()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    folder.chmod(0o755)  # so that it can be removed
    assert done.returncode == 0, done.stderr
    rows, existing, new = done.stdout.splitlines()
    assert rows == "1"
    assert existing.startswith("cannot write to")
    assert new.startswith("cannot write to")
    assert "Permission denied" in new


KILLED = """
import os, sys
from pathlib import Path
from lmc_fast.studies.presets import config_from_json
from lmc_fast.studies.store import create
columns = {"barrier_gap": "REAL", "alive_a": "INTEGER"}
store = create(Path(sys.argv[1]), config_from_json(sys.argv[2]), columns)
for seed in range(0, 10, 2):
    store.add({"width": 3, "lr": 0.1, "seed_a": seed, "seed_b": seed + 1})
    if sys.argv[3] == "checkpointed" and seed == 4:
        store._connection.execute("PRAGMA wal_checkpoint")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("log", ["checkpointed", "never checkpointed"])
def test_rows_in_a_log_that_cannot_be_read_are_not_passed_over(
    open_folder: Path, tiny: WidthConfig, log: str
) -> None:
    """A killed study, copied without its shared memory to where nothing can be written."""
    folder, config = open_folder / "study", tiny.canonical()
    subprocess.run([sys.executable, "-c", KILLED, str(folder), config, log], check=False)
    assert (folder / f"{DATABASE}-wal").stat().st_size > 0
    (folder / f"{DATABASE}-shm").unlink()
    folder.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(folder), config],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    folder.chmod(0o755)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "copy the folder to a writable place to read it" in done.stderr.splitlines()[-1]
    with open_existing(folder) as store:
        assert len(store.rows()) == 5


def test_readers_of_a_store_leave_no_log_behind(tmp_path: Path, tiny: WidthConfig) -> None:
    fill_store(tmp_path, tiny)
    open_existing(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [DATABASE, "weights"]


def test_a_study_of_an_earlier_version_is_resumed(tmp_path: Path, tiny: WidthConfig) -> None:
    """Its settings lack what was added since, whose defaults are what it did."""
    make(tmp_path, tiny).close()
    old = json.loads(tiny.canonical())
    del old["steps_per_neuron"], old["problem"]["samples"]
    text = json.dumps(old, sort_keys=True, separators=(",", ":"))
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        for key, value in (("config", text), ("config_hash", text_digest(text))):
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
    connection.close()
    same = tiny.model_copy(update={"steps_per_neuron": 0})
    make(tmp_path, same).close()
    # What is at its default is no difference.
    with pytest.raises(
        StoreError, match=r"configuration \(steps_per_neuron: stored absent, given 1\)"
    ):
        make(tmp_path, tiny.model_copy(update={"steps_per_neuron": 1}))
