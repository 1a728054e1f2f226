# SPDX-License-Identifier: MIT
"""What the README shows is true: its example prints what it says, its commands and files exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmc_fast.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_example_prints_what_the_readme_says() -> None:
    (example,) = blocks("python")
    (shown,) = blocks("text")
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stderr == ""
    # The last digits depend on the processor.
    numbers = r"\d+\.\d+"
    assert re.sub(numbers, "#", done.stdout) == re.sub(numbers, "#", shown)
    found, wanted = ([float(x) for x in re.findall(numbers, s)] for s in (done.stdout, shown))
    assert wanted
    assert found == pytest.approx(wanted, rel=0.02)


def test_the_make_targets_exist() -> None:
    shown = set(re.findall(r"\bmake ([a-z-]+)", README))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"study", "test"} <= shown <= targets


def test_the_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    commands = re.findall(
        r"^ +lmc-fast ([a-z]+)((?: --?[a-z-]+| [a-z-]+\b)*)", README, re.MULTILINE
    )
    assert len(commands) >= 5
    for command, rest in commands:
        words = [command]
        if command == "study":
            words.append(rest.split()[0])
        assert main([*words, "--help"]) == 0
        help_text = capsys.readouterr().out
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in help_text, f"lmc-fast {' '.join(words)} {option}"


def test_linked_files_exist() -> None:
    linked = re.findall(r"\]\(([^):]+)\)|src=\"([^\"]+)\"", README)
    named = [path for pair in linked for path in pair if path]
    assert named
    for path in named:
        assert (ROOT / path).is_file(), path
