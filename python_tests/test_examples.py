# SPDX-License-Identifier: MIT
"""The scripts in examples/ run as they stand, and what they print makes sense."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="needs the extra lmc_fast[studies]")

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def printed(name: str) -> str:
    """What an example writes; warnings count as failures."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def number(text: str, label: str) -> float:
    """The number that follows a label."""
    found = re.search(rf"{label} +([\d.]+)", text)
    assert found, text
    return float(found[1])


def test_a_loop_of_ones_own_learns_the_digits() -> None:
    written = printed("train_your_own.py")
    assert number(written, "test accuracy") > 90
    assert number(written, "last training loss") < 0.2
    assert 1 <= number(written, "alive neurons") <= 64


def test_the_matched_average_is_better_than_the_naive_one() -> None:
    written = printed("merge_two_networks.py")
    a, b, naive, matched = (
        number(written, f"accuracy of {name}")
        for name in ("a", "b", "naive average", "matched average")
    )
    assert min(a, b) > 93
    assert matched > naive + 1
    assert matched > min(a, b) - 3


def test_a_study_of_ones_own_finds_the_double_descent() -> None:
    lines = printed("custom_study.py").splitlines()
    assert "8 pairs" in lines[0]
    rows = [[float(word) for word in line.split()] for line in lines[2:]]
    assert [row[0] for row in rows] == [5, 7, 10, 20, 40]
    gaps = [row[3] for row in rows]
    # None at m = M, the highest just beyond, then falling.
    assert gaps[0] < 1e-4 < gaps[1]
    assert gaps[1:] == sorted(gaps[1:], reverse=True)
    for m, naive, weights, gap, alive in rows:
        assert max(weights, gap) < naive / 10
        assert 0 < alive <= m


def test_the_readme_names_every_example_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"\]\(examples/([^)]+)\)", readme))
    assert named == {path.name for path in EXAMPLES.glob("*.py")}


def test_examples_are_short() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 60, path.name
