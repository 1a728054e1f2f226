# SPDX-License-Identifier: MIT
"""Makes the helpers of this folder importable by the tests below it, and shares fixtures."""

import os
import signal

import pytest
import torch
from hypothesis import settings

# Property tests draw the same examples in every run.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("repeatable")

# Plots in tests never open a window.
os.environ.setdefault("MPLBACKEND", "Agg")

# A shell that starts the tests in the background ignores Ctrl-C for them, and so would the
# processes that they start to be interrupted.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Under `pytest -n` the workers share the cores already.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    """Seeded random numbers."""
    return torch.Generator().manual_seed(20250603)
