# SPDX-License-Identifier: MIT
"""Several studies of one kind that differ in a few settings, side by side in one folder.

Every variant is a study in a folder of its own and can be resumed, drawn and exported by itself.
``comparison.json`` names them in order.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """What the variants share: the study, and the question they answer together.

    ``command`` is that of the command line which makes them, but for the folder.
    """

    study: StudyName
    name: str
    question: str
    variants: tuple[Variant, ...]
    command: str = field(compare=False)


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
    settings = merge({} if file is None else read_toml(file), given)
    words = ["lmc-fast", "compare", study, *([] if name is None else [name])]
    if name is None:
        layers = _combinations(vary)
        name = ", ".join(text.partition("=")[0].strip() for text in vary)
        question = f"How does {name} change it?"
    else:
        known = shipped(study)
        if name not in known:
            raise ConfigError(f"'{study}' has the comparisons {', '.join(known)}; got '{name}'")
        question, common, layers = (known[name][k] for k in ("question", "common", "variants"))
        # What is varied by hand lies over a file; what ships would silently do so.
        given = settings
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
    words += [word for text in vary for word in ("--vary", text)]
    words += ["--preset", preset, *([] if data is None else ["--data", data])]
    words += _set(settings, layers)
    return Comparison(study, name, question, tuple(variants), shlex.join(words))


def shipped(study: str) -> dict[str, Any]:
    """The comparisons that come with a study."""
    file = resources.files(__package__).joinpath("presets/comparisons.toml")
    found: dict[str, Any] = tomllib.loads(file.read_text("utf-8")).get(study, {})
    return found


def _set(settings: Mapping[str, Any], layers: Mapping[str, Any]) -> list[str]:
    """Settings of a file and of the command line as options, without those that are varied."""
    varied = {key for layer in layers.values() for key in flatten(layer)}
    free = {
        key: value
        for key, value in flatten(settings).items()
        if key != "study" and not any(_overlap(key, own) for own in varied)
    }
    # TOML writes these as JSON does; "none" unsets.
    written = {key: json.dumps("none" if value is None else value) for key, value in free.items()}
    return [word for key, value in written.items() for word in ("--set", f"{key}={value}")]


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
        names = ("study", "name", "question", "command")
        index = {**{name: getattr(comparison, name) for name in names}, "variants": entries}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")


@dataclass(frozen=True)
class ComparedSummaries:
    """The studies of a comparison that have finished cells, by label.

    Attributes
    ----------
    name, question : str
    summaries : mapping of label to Summary
    folders : mapping of label to str
        Of every study, named within the comparison's folder.
    unfinished : tuple of str
        Labels of those that lack cells, and of those that have none.
    command : str
        What made it, but for the folder; empty where an earlier version did.
    """

    name: str
    question: str
    summaries: Mapping[str, Summary]
    folders: Mapping[str, str]
    unfinished: tuple[str, ...]
    command: str

    @property
    def configs(self) -> list[WidthConfig | LearningRateConfig]:
        """Settings of the studies that have begun."""
        return [summary.config for summary in self.summaries.values()]

    @property
    def rates(self) -> bool:
        """Whether they are of learning rates, not of widths."""
        return isinstance(self.configs[0], LearningRateConfig)


def read_comparison(folder: Path) -> ComparedSummaries:
    """Summaries of every study of a comparison that has begun.

    Raises
    ------
    StoreError
        The index is damaged, or no study has a finished cell.
    """
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        name, question = str(index["name"]), str(index["question"])
        folders = {str(v["label"]): str(v["folder"]) for v in index["variants"]}
        command = str(index.get("command", ""))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / INDEX} is damaged ({error}): run the comparison again, it resumes"
        ) from None
    found = {}
    for label, inside in folders.items():
        if (folder / inside).is_dir():
            with open_existing(folder / inside) as store:
                if store.finished():
                    found[label] = summarise(store)
    if not found:
        raise StoreError(f"{folder} has no finished cell yet: run the comparison first")
    done = [
        label
        for label, summary in found.items()
        if sum(group.pairs for group in summary.groups) == cell_count(summary.config)
    ]
    unfinished = tuple(label for label in folders if label not in done)
    return ComparedSummaries(name, question, found, folders, unfinished, command)


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
