# SPDX-License-Identifier: MIT
"""A configuration small enough to be run in a test."""

from __future__ import annotations

import pytest

pytest.importorskip("pydantic", reason="needs the extra lmc_fast[studies]")

from lmc_fast.studies.config import WidthConfig
from lmc_fast.studies.presets import load_config


@pytest.fixture(scope="session")
def tiny() -> WidthConfig:
    """Trains in a fraction of a second: 2 widths, 4 pairs, 20 steps."""
    config = load_config("width", overrides=["widths=[3,5]", "pairs=4", "steps=20", "alphas=5"])
    assert isinstance(config, WidthConfig)
    return config
