# SPDX-License-Identifier: MIT
"""Rows say who computed them, and do not invent what is not known."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

import lmc_fast
from lmc_fast.studies import provenance as module
from lmc_fast.studies.provenance import UNKNOWN, provenance


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one committed package."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "begin")
    git(tmp_path, "tag", "v1", "-m", "one")
    return tmp_path


def test_the_commit_of_a_checkout(checkout: Path) -> None:
    assert module._commit(checkout / "package") == "v1"
    (checkout / "package" / "__init__.py").write_text("changed = True\n")
    assert module._commit(checkout / "package") == "v1-dirty"


def test_a_package_that_some_repository_ignores_has_no_commit(checkout: Path) -> None:
    installed = checkout / "site-packages" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert module._commit(installed) == UNKNOWN


def test_without_git_the_commit_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert module._commit(checkout / "package") == UNKNOWN


def test_version_and_backend_are_the_librarys() -> None:
    found = provenance()
    assert found["version"] == lmc_fast.backend().version
    assert found["backend"] == f"cpu {lmc_fast.backend().cpu_target}"
    assert "cores" in found["machine"]


def test_the_backend_of_a_row_is_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    found = provenance(torch.device("cuda", 3))
    assert found["backend"] == "cuda:3 GPU 3"
    assert {**found, "backend": ""} == {**provenance(), "backend": ""}
