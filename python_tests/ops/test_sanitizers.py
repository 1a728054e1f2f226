# SPDX-License-Identifier: MIT
"""`make sanitize` runs what it says: a read beyond an array ends the process with a report."""

import os
import subprocess
import sys

import pytest


@pytest.mark.sanitize_quick
@pytest.mark.skipif(
    "libasan" not in os.environ.get("LD_PRELOAD", ""), reason="only make sanitize has sanitizers"
)
def test_a_read_beyond_an_array_is_caught() -> None:
    code = """
import numpy as np
from lmc_fast import _native
beyond = np.lib.stride_tricks.as_strided(np.zeros(1000), (1001,))
_native.ceiling_copy(beyond, np.zeros(1001), 1)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr
    assert "ceiling" in result.stderr
