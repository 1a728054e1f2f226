# SPDX-License-Identifier: MIT
"""Settings of every test run."""

import os

import torch

# Under `pytest -n`, each worker would otherwise start as many torch threads as there are cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(2)
