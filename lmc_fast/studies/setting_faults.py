# SPDX-License-Identifier: MIT
"""What is said of a setting that is wrong: what was wanted, and what came."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from .config import DatasetProblem, GridConfig, TeacherProblem

# What pydantic says of these is about Python's types.
_WANTED = {
    "tuple_type": "must be a list, such as [{0!r}]",
    "model_attributes_type": "must be a table, set key by key as in problem.data=digits",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def explain(kind: type[GridConfig], fault: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """One fault that pydantic found, as what the setting must be and what it was.

    Parameters
    ----------
    kind : type
        The configuration that was asked for.
    fault : mapping
        One of ``ValidationError.errors()``.
    settings : mapping
        What was checked.
    """
    where = list(fault["loc"])
    if where[:1] == ["problem"]:
        # pydantic puts the discriminator's value, "teacher" or so, behind it.
        del where[1:2]
    name = ".".join(str(part) for part in where)
    if fault["type"] == "extra_forbidden":
        return _unknown(kind, name, settings)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        return f"setting '{name}': {message}" if len(where) == 1 and name != "problem" else message
    given = fault["input"]
    wanted = _WANTED.get(fault["type"])
    message = wanted.format(given) if wanted else f"{message[0].lower()}{message[1:]}"
    return f"setting '{name}': {message}; got {given!r}"


def _unknown(kind: type[GridConfig], name: str, settings: Mapping[str, Any]) -> str:
    """Of a setting that does not exist: the one that may have been meant, if any is like it."""
    problem = settings.get("problem")
    data = problem.get("data") if isinstance(problem, Mapping) else None
    models = TeacherProblem.model_fields, DatasetProblem.model_fields
    own, other = models if data in (None, "teacher") else models[::-1]
    parts = name.split(".")
    if parts[0] == "problem" and parts[-1] in other:
        return f"setting '{name}' does not go with data '{data}': drop it"
    # Told apart by their last words, under which "d" is found for "problem.d" too.
    known = {key: f"problem.{key}" for key in own} | {key: key for key in kind.model_fields}
    near = difflib.get_close_matches(parts[-1], known, n=1)
    if not near:
        return f"unknown setting '{name}': --print-config shows every one"
    return f"unknown setting '{name}'; the nearest valid one is '{known[near[0]]}'"
