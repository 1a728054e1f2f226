# SPDX-License-Identifier: MIT
"""Several studies of one kind that differ in a few settings, side by side in one folder.

Every variant is a study in a folder of its own and can be resumed, drawn and exported by itself.
``comparison.json`` names them in order.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from .config import DataName, LearningRateConfig, StudyName, WidthConfig, cell_count
from .errors import ConfigError, StoreError
from .presets import (
    PresetName,
    flatten,
    load_config,
    merge,
    parse_override,
    parse_overrides,
    read_toml,
)
from .store import open_existing, reported
from .store_format import DATABASE, INDEX
from .summary import Summary, summarise

# What the shipped comparisons are of.
_SHIPPED_DATA: DataName = "teacher"


class Variant(NamedTuple):
    """One study of a comparison: its name in figures, its folder's name, and its settings."""

    label: str
    folder: str
    config: WidthConfig | LearningRateConfig


@dataclass(frozen=True)
class Comparison:
    """What the variants share: the study, and the question they answer together."""

    study: StudyName
    name: str
    question: str
    variants: tuple[Variant, ...]


def load_comparison(
    study: StudyName,
    name: str | None,
    *,
    vary: Sequence[str] = (),
    preset: PresetName = "quick",
    data: DataName | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> Comparison:
    """A shipped comparison by its name, or all combinations of ``vary``.

    Parameters
    ----------
    study : {"width", "learning-rate"}
    name : str or None
        One of :func:`shipped`; None with ``vary``.
    vary : sequence of str
        ``"problem.d=[5, 10, 20]"``: a setting and its values.
    preset, data, file, overrides
        As for :func:`load_config`: what all variants share.

    Raises
    ------
    ConfigError
        No such comparison, both or neither of ``name`` and ``vary``, a setting that is wrong, or
        one that the variants set themselves.
    """
    if not shipped(study):
        raise ConfigError(f"the study '{study}' has no comparisons: take width or learning-rate")
    if (name is None) == (not vary):
        raise ConfigError(
            f"give either --vary KEY=[...] or one of the comparisons of '{study}': "
            + ", ".join(shipped(study))
        )
    question, common, layers = "", {}, {}
    given = parse_overrides(overrides)
    if name is None:
        layers = _combinations(vary)
        name = ", ".join(text.partition("=")[0].strip() for text in vary)
        question = f"How does {name} change it?"
    else:
        known = shipped(study)
        if name not in known:
            raise ConfigError(f"'{study}' has the comparisons {', '.join(known)}; got '{name}'")
        question, common, layers = (known[name][k] for k in ("question", "common", "variants"))
        if file is not None:
            # What is varied by hand lies over a file; what ships would silently do so.
            given = merge(read_toml(file), given)
        _check_data(name, data, given)
    _check_free(name, given, layers)
    variants = []
    for label, layer in layers.items():
        config = load_config(
            study,
            preset=preset,
            data=data,
            file=file,
            overrides=overrides,
            under=common,
            over=layer,
        )
        assert isinstance(config, WidthConfig | LearningRateConfig)
        variants.append(Variant(label, slug(label), config))
    labels: dict[str, str] = {}
    for label, folder, _ in variants:
        if labels.setdefault(folder, label) != label:
            raise ConfigError(
                f"'{labels[folder]}' and '{label}' would share the folder '{folder}': compare them "
                "in two commands, with --out"
            )
    return Comparison(study, name, question, tuple(variants))


def shipped(study: str) -> dict[str, Any]:
    """The comparisons that come with a study."""
    file = resources.files(__package__).joinpath("presets/comparisons.toml")
    found: dict[str, Any] = tomllib.loads(file.read_text("utf-8")).get(study, {})
    return found


def _check_data(name: str, data: str | None, given: Mapping[str, Any]) -> None:
    """Refuse images where the shipped settings are for a teacher's students."""
    named = data or flatten(given).get("problem.data", _SHIPPED_DATA)
    if named != _SHIPPED_DATA:
        raise ConfigError(
            f"the comparison '{name}' has the settings of a teacher's students; got data "
            f"'{named}': give --vary KEY=[...] in place of '{name}'"
        )


def _check_free(name: str, given: Mapping[str, Any], layers: Mapping[str, Any]) -> None:
    """Refuse settings that have no effect, since variants set them to something else."""
    setters: dict[str, list[str]] = {}
    for label, layer in layers.items():
        for key in flatten(given):
            if any(_overlap(key, own) for own in flatten(layer)):
                setters.setdefault(key, []).append(label)
    if setters:
        found = "; ".join(
            f"'{key}' is set by " + ("every variant" if len(own) == len(layers) else ", ".join(own))
            for key, own in setters.items()
        )
        raise ConfigError(
            f"settings would be without effect, for in the comparison '{name}' {found}: drop them, "
            "or compare by --vary KEY=[...]"
        )


def _overlap(key: str, other: str) -> bool:
    """Whether two full names are one, or one is a table that the other is in."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def write_index(folder: Path, comparison: Comparison) -> None:
    """Say in the folder which studies it holds.

    Raises
    ------
    StoreError
        The folder cannot be written, is a study's own, or has a study of other settings in the
        place of one of these: then nothing is changed.
    """
    if (folder / DATABASE).is_file():
        raise StoreError(f"{folder} holds a study: give another --out")
    for variant in comparison.variants:
        place = folder / variant.folder
        if (place / DATABASE).is_file():
            with open_existing(place) as store:
                store.require(variant.config)
    with reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        entries = [{"label": v.label, "folder": v.folder} for v in comparison.variants]
        about = {"study": comparison.study, "name": comparison.name}
        index = {**about, "question": comparison.question, "variants": entries}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


@dataclass(frozen=True)
class ComparedSummaries:
    """The studies of a comparison that have finished cells, by label.

    ``unfinished`` are the labels of those that lack cells, and of those that have none.
    """

    question: str
    summaries: Mapping[str, Summary]
    unfinished: tuple[str, ...] = ()


def read_comparison(folder: Path) -> ComparedSummaries:
    """Summaries of every study of a comparison that has begun.

    Raises
    ------
    StoreError
        The index is damaged, or no study has a finished cell.
    """
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        question = str(index["question"])
        places = {str(v["label"]): folder / str(v["folder"]) for v in index["variants"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / INDEX} is damaged ({error}): run the comparison again, it resumes"
        ) from None
    found = {}
    for label, place in places.items():
        if place.is_dir():
            with open_existing(place) as store:
                if store.finished():
                    found[label] = summarise(store)
    if not found:
        raise StoreError(f"{folder} has no finished cell yet: run the comparison first")
    done = [
        label
        for label, summary in found.items()
        if sum(group.pairs for group in summary.groups) == cell_count(summary.config)
    ]
    return ComparedSummaries(question, found, tuple(x for x in places if x not in done))


def _combinations(vary: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every combination of values, by a label such as ``d = 10, pairs = 4``."""
    axes = []
    for text in vary:
        key = text.partition("=")[0].strip()
        values: Any = parse_override(text)
        for part in key.split("."):
            values = values[part]
        if not isinstance(values, list) or not values:
            raise ConfigError(f"--vary must be KEY=[VALUE, ...], such as lr=[2, 4]; got '{text}'")
        axes.append([(f"{key.split('.')[-1]} = {v}", _nested(key, v)) for v in values])
    combined: dict[str, dict[str, Any]] = {}
    for choice in product(*axes):
        layer: dict[str, Any] = {}
        for _, setting in choice:
            layer = merge(layer, setting)
        combined[", ".join(label for label, _ in choice)] = layer
    return combined


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def slug(label: str) -> str:
    """A label as a folder's name: ``GD, n = 500`` is ``gd-n-500``."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", label.replace("/", "-over-")).strip("-").lower()
