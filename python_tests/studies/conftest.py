# SPDX-License-Identifier: MIT
"""Configurations small enough to be run in a test."""

from __future__ import annotations

import pytest

pytest.importorskip("pydantic", reason="needs the extra lmc_fast[studies]")

from lmc_fast.studies.config import LearningRateConfig, WidthConfig
from lmc_fast.studies.presets import load_config


@pytest.fixture(scope="session")
def tiny() -> WidthConfig:
    """Trains in a fraction of a second: 2 widths, 4 pairs, 20 steps."""
    config = load_config("width", overrides=["widths=[3,5]", "pairs=4", "steps=20", "alphas=5"])
    assert isinstance(config, WidthConfig)
    return config


@pytest.fixture(scope="session")
def tiny_rates() -> LearningRateConfig:
    """A learning-rate study as small: 2 step sizes, 4 pairs, 20 steps."""
    overrides = ["width=6", "grid=[0.5,0.9]", "pairs=4", "steps=20", "alphas=5",
                 "bracket_students=2", "bracket_tolerance=0.2"]  # fmt: skip
    config = load_config("learning-rate", overrides=overrides)
    assert isinstance(config, LearningRateConfig)
    return config
