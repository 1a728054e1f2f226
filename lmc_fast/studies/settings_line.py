# SPDX-License-Identifier: MIT
"""The problem and the training in a line, and that of several studies which differ in a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .config import (
    DatasetProblem,
    DepthConfig,
    GridConfig,
    LearningRateConfig,
    StudyConfig,
    TeacherProblem,
    TheoryConfig,
    WidthConfig,
)
from .plot_style import loss_name

_DATA = {"digits": "8×8 digits", "mnist": "MNIST"}
_METHODS = {
    "population_gd": "population GD",
    "gd": "GD",
    "sgd": "SGD",
    "adam": "Adam",
}
# Training images of the whole data sets.
ALL_IMAGES = {"digits": 1438, "mnist": 60_000}


class Clause(NamedTuple):
    """One setting in words: a form such as ``"d = {}"``, and what stands in it."""

    form: str
    value: str

    @property
    def text(self) -> str:
        """Both together."""
        return self.form.format(self.value)


Clauses = dict[str, Clause]


def describe(config: GridConfig) -> str:
    """The problem and, after a semicolon, the training."""
    return describe_all([config])


def describe_all(configs: Sequence[GridConfig]) -> str:
    """The same for several studies: where they differ all values are given, in their order."""
    halves = []
    for part in (_problem, _training):
        found = [part(config) for config in configs]
        names = list(dict.fromkeys(name for clauses in found for name in clauses))
        halves.append(", ".join(_joined([each[n] for each in found if n in each]) for n in names))
    return "; ".join(half for half in halves if half)


def _joined(clauses: Sequence[Clause]) -> str:
    """``d = 5, 10 or 20`` of clauses of one form, otherwise one whole clause beside the other."""
    forms = list(dict.fromkeys(clause.form for clause in clauses))
    if len(forms) > 1:
        return _listed(list(dict.fromkeys(clause.text for clause in clauses)))
    return forms[0].format(_listed(list(dict.fromkeys(clause.value for clause in clauses))))


def _listed(values: Sequence[str]) -> str:
    return " or ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)


def _problem(config: GridConfig) -> Clauses:
    problem = config.problem
    if isinstance(problem, DatasetProblem):
        count = problem.train_samples or ALL_IMAGES[problem.data]
        return {
            "data": Clause("{}", _DATA[problem.data]),
            "samples": Clause("n = {} training images", f"{count:,}"),
            "loss": Clause("{}", loss_name(problem)),
        }
    found = {
        "teacher": Clause(
            f"teacher with M = {{}} {problem.teacher_kind} neurons", f"{problem.teacher_width}"
        ),
        "d": Clause("d = {}", f"{problem.d}"),
    }
    if problem.inputs != "gaussian":
        found["inputs"] = Clause("inputs on a sphere of radius {}", f"{problem.radius:g}")
    if problem.samples is not None:
        found["samples"] = Clause("n = {} samples", f"{problem.samples:,}")
    return found


def _training(config: GridConfig) -> Clauses:
    if isinstance(config, TheoryConfig):
        return {"how": Clause("{}", "random global minima, nothing trained")}
    if isinstance(config, DepthConfig):
        how = {"adam": "Adam", "sgd": "SGD with momentum 0.9"}[config.optimizer]
        return {
            "how": Clause("{}", how),
            "batch": Clause("batches of {}", f"{config.batch_size:,}"),
            "lr": Clause("lr = {}", f"{config.lr:g}"),
            "steps": Clause("{} steps", f"{config.steps:,}"),
        }
    assert isinstance(config, StudyConfig)
    return _of_students(config)


def _of_students(config: StudyConfig) -> Clauses:
    found: Clauses = {}
    if isinstance(config, LearningRateConfig):
        found["m"] = Clause("m = {}", f"{config.width}")
    method = _METHODS[config.method]
    if config.batch_size is not None:
        method += f" with batches of {config.batch_size:,}"
    found["how"] = Clause("{}", method)
    if isinstance(config, WidthConfig):
        per = "/m" if config.lr_per_width else ""
        found["lr"] = Clause("lr = {}", f"{config.lr:g}{per}")
    steps = f"{config.steps:,}"
    if config.steps_per_neuron:
        steps = f"max({steps}, {config.steps_per_neuron} m)"
    found["steps"] = Clause("{} steps", steps)
    scale = f"{config.init_scale:.3g}" + ("/m" if config.init_scale_per_width else "")
    found["scale"] = Clause("first weights of scale {}", scale)
    if isinstance(config.problem, TeacherProblem):
        found["w2"] = Clause("w2 {}", "trained" if config.trains_w2 else "fixed")
    return found
