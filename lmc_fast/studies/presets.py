# SPDX-License-Identifier: MIT
"""Where a study's settings come from, and what is said when one of them is wrong.

In rising order of precedence: the defaults in ``config``, a preset (``presets/*.toml``), a TOML
file, and overrides from the command line. A key that does not exist is refused.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from .config import (
    CONFIG_TYPES,
    AnyConfig,
    DataName,
    GridConfig,
    StudyName,
)
from .errors import ConfigError
from .setting_faults import explain

PresetName = Literal["quick", "full", "gpu"]


def load_config(
    study: StudyName,
    *,
    preset: PresetName = "quick",
    data: DataName | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    under: Mapping[str, Any] | None = None,
    over: Mapping[str, Any] | None = None,
) -> AnyConfig:
    """Build a study's settings from a preset, a TOML file and ``key=value`` overrides.

    Parameters
    ----------
    study : {"width", "learning-rate", "theory", "depth"}
    preset : {"quick", "full", "gpu"}
        What the file and the overrides are laid over; "gpu" is there for MNIST.
    data : {"teacher", "digits", "mnist"} or None
        None takes the file's ``[problem] data``, and where that says nothing the first of which
        there are presets: "teacher", or "digits" for the depth study.
    file : path or None
        TOML; a missing key keeps the preset's value.
    overrides : sequence of str
        ``"pairs=128"``, ``"widths=[3, 4, 5]"``, ``"problem.d=20"``: values are TOML, or a bare
        word. "none", here and in the file, unsets what the preset has set.
    under, over : mapping, optional
        Settings between the preset and the file, and above everything.

    Raises
    ------
    ConfigError
        Unreadable TOML, an unknown key (the nearest valid one is named), or a value out of range.
    """
    given = {} if file is None else read_toml(file)
    given = merge(given, parse_overrides(overrides))
    given = merge(merge(under or {}, given), over or {})
    if given.pop("study", study) != study:
        source = "--set study" if file is None else str(file)
        raise ConfigError(f"{source} is for another study; got the command 'study {study}'")
    problem = given.get("problem")
    named = problem.get("data") if isinstance(problem, Mapping) else None
    if data is not None and named is not None and named != data:
        raise ConfigError(
            f"problem.data is '{named}' in the configuration but --data says '{data}': drop one"
        )
    chosen = data or named or str(next(iter(_presets(study))))
    return parse_config(study, merge(preset_settings(study, chosen, preset), given))


def preset_settings(study: str, data: str, preset: str) -> dict[str, Any]:
    """Settings of one shipped preset, as plain data: quick, under full, under gpu."""
    tables = _presets(study)
    if not isinstance(data, str) or data not in tables:
        raise ConfigError(f"problem.data must be one of {', '.join(tables)}; got {data!r}")
    if preset not in tables[data]:
        there = ", ".join(tables[data])
        raise ConfigError(f"the study '{study}' of data '{data}' has presets {there}; got {preset}")
    settings: dict[str, Any] = {}
    for name, table in tables[data].items():
        settings = merge(settings, table)
        if name == preset:
            break
    return merge(settings, {"problem": {"data": data}})


def _presets(study: str) -> dict[str, Any]:
    file = resources.files(__package__).joinpath("presets").joinpath(f"{study}.toml")
    return tomllib.loads(file.read_text("utf-8"))


def parse_config(study: str, settings: Mapping[str, Any]) -> AnyConfig:
    """Check plain settings and return them typed; every fault is one line of the error."""
    kind = CONFIG_TYPES[study]
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        lines = [explain(kind, dict(fault), settings) for fault in error.errors(include_url=False)]
        raise ConfigError("; ".join(lines)) from None


def config_from_json(text: str) -> AnyConfig:
    """Inverse of :meth:`GridConfig.canonical`."""
    settings = json.loads(text)
    return parse_config(settings.pop("study"), settings)


def same_settings(stored: str, config: GridConfig) -> bool:
    """Whether a canonical text says the same as a configuration.

    A text that an earlier version wrote lacks the settings added since: their defaults are what
    that version did.
    """
    try:
        return config_from_json(stored).canonical() == config.canonical()
    except ConfigError:
        return False


def difference(stored: str, given: str) -> list[str]:
    """Settings in which two canonical texts differ, as ``key: stored ..., given ...`` lines.

    What is absent from a text of an earlier version is at its default.
    """
    old, new = flatten(json.loads(stored)), flatten(json.loads(given))
    absent = "absent"
    try:
        meant = flatten(json.loads(config_from_json(stored).canonical()))
    except ConfigError:
        meant = old
    return [
        f"{key}: stored {old.get(key, absent)}, given {new.get(key, absent)}"
        for key in sorted(meant.keys() | new.keys())
        if meant.get(key, absent) != new.get(key, absent)
    ]


class Measured(NamedTuple):
    """How long a preset took as shipped, and where."""

    seconds: float
    machine: str


def measured_time(study: str, data: str, preset: str) -> Measured | None:
    """The running time of a preset that was measured; None where none was.

    Those of comparisons are by their names, under "comparisons" in place of the data.
    """
    file = resources.files(__package__).joinpath("presets/measured.toml")
    table = tomllib.loads(file.read_text("utf-8"))
    seconds = table.get(study, {}).get(data, {}).get(preset)
    return None if seconds is None else Measured(float(seconds), str(table["machine"]))


def to_toml(config: GridConfig) -> str:
    """The settings as a TOML file that ``--config`` reads back to the same settings."""
    settings = config.model_dump(mode="json")
    problem = settings.pop("problem")
    lines = [f'study = "{config.study}"', *(_toml_line(k, v) for k, v in settings.items())]
    lines += ["", "[problem]", *(_toml_line(k, v) for k, v in problem.items())]
    return "\n".join(lines) + "\n"


def _toml_line(key: str, value: Any) -> str:
    # JSON and TOML write the strings, numbers, booleans and flat arrays used here alike.
    return f"{key} = {json.dumps('none' if value is None else value)}"


def read_toml(file: Path) -> dict[str, Any]:
    """A configuration file as plain settings."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None


def parse_override(text: str) -> dict[str, Any]:
    """``"problem.d=20"`` as nested settings."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key or not value:
        raise ConfigError(f"--set must be KEY=VALUE, such as pairs=128; got '{text}'")
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    for part in reversed(key.split(".")):
        parsed = {part: parsed}
    result: dict[str, Any] = parsed
    return result


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Several overrides as nested settings, the later over the earlier."""
    given: dict[str, Any] = {}
    for text in texts:
        given = merge(given, parse_override(text))
    return given


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of ``top`` laid over those of ``base``, table by table; "none" unsets."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            # TOML has no word for it.
            merged[key] = None if value == "none" else value
    return merged


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their full names, such as ``problem.d``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
