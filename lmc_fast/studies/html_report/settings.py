# SPDX-License-Identifier: MIT
"""Every setting of a study in words, and those in which several studies differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from ..config import GridConfig
from ..presets import flatten

_ABSENT = "\u2013"


def settings(config: GridConfig) -> dict[str, str]:
    """Values by full names, such as ``problem.d``, with those of the problem last."""
    found = config.model_dump(mode="json")
    found["problem"] = found.pop("problem")
    flat = {"study": config.study, **flatten(found)}
    return {name: "none" if v is None else json.dumps(v).strip('"') for name, v in flat.items()}


class Settings(NamedTuple):
    """What all of several studies have, and the rest: name by name, the value of each study."""

    common: dict[str, str]
    varied: dict[str, list[str]]


def compare_settings(configs: Mapping[str, GridConfig]) -> Settings:
    """Settings of studies by their labels; a dash is a setting that the problem has not."""
    each = [settings(config) for config in configs.values()]
    names = dict.fromkeys(name for found in each for name in found)
    values = {name: [found.get(name, _ABSENT) for found in each] for name in names}
    same = {name: len(set(of_all)) == 1 for name, of_all in values.items()}
    return Settings(
        {name: of_all[0] for name, of_all in values.items() if same[name]},
        {name: of_all for name, of_all in values.items() if not same[name]},
    )
