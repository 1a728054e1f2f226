# SPDX-License-Identifier: MIT
"""Every setting of a study in words."""

from __future__ import annotations

import json

from ..config import GridConfig
from ..presets import flatten


def settings(config: GridConfig) -> dict[str, str]:
    """Values by full names, such as ``problem.d``, with those of the problem last."""
    found = config.model_dump(mode="json")
    found["problem"] = found.pop("problem")
    flat = {"study": config.study, **flatten(found)}
    return {name: "none" if v is None else json.dumps(v).strip('"') for name, v in flat.items()}
