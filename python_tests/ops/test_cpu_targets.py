# SPDX-License-Identifier: MIT
"""Every op's tests, once per CPU target other than the one in use (which the plain run covers)."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmc_fast import _native

HERE = Path(__file__).parent
OTHER_TARGETS = [t for t in _native.supported_cpu_targets() if t != _native.cpu_target()]


@pytest.mark.sanitize_quick
@pytest.mark.skipif(
    "LMC_FAST_CPU_TARGET" in os.environ, reason="runs once, from the plain test run"
)
@pytest.mark.parametrize("target", OTHER_TARGETS)
@pytest.mark.parametrize(
    "op",
    sorted(
        p.name for p in (HERE.parents[1] / "csrc").iterdir() if p.is_dir() and p.name != "common"
    ),
)
def test_ops_pass_on_every_cpu_target(op: str, target: str) -> None:
    files = [str(p) for p in sorted(HERE.glob(f"test_{op}*.py"))]
    assert files, f"csrc/{op} has no python_tests/ops/test_{op}.py"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files],
        env={**os.environ, "LMC_FAST_CPU_TARGET": target},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-8000:]


@pytest.fixture
def restored_target() -> Iterator[str]:
    """The target in use, which is in use again afterwards."""
    target = _native.cpu_target()
    yield target
    _native.use_cpu_target(target)


@pytest.mark.parametrize("target", _native.supported_cpu_targets())
def test_the_target_can_be_switched(target: str, restored_target: str) -> None:
    _native.use_cpu_target(target)
    assert _native.cpu_target() == target


def test_an_unknown_target_is_refused_and_changes_nothing(restored_target: str) -> None:
    with pytest.raises(ValueError, match=r"name must be one of baseline.*; got 'sse9'"):
        _native.use_cpu_target("sse9")
    assert _native.cpu_target() == restored_target


@pytest.mark.parametrize("target", ["avx2", "avx512"])
def test_wide_targets_share_no_code_with_narrow_ones(target: str) -> None:
    """A weak symbol may be kept from any file; one compiled for AVX-512 would crash elsewhere."""
    objects = [str(p) for p in (HERE.parents[1] / "build").glob(f"*/**/csrc/**/*_{target}.cpp.o")]
    if not objects:
        pytest.skip("no build tree with object files beside the tests")
    # Mangled, since nm cannot demangle all of them: a namespace is its length and its name.
    listing = subprocess.run(["nm", *objects], capture_output=True, text=True, check=True).stdout
    weak = [line[19:] for line in listing.splitlines() if line[17:18] in ("W", "V", "u")]
    assert weak, "nm listed no weak symbols: the check no longer sees what it should"
    stray = [s for s in weak if f"{len(target)}{target}" not in s and not s.startswith("DW.ref")]
    assert not stray, stray
