# SPDX-License-Identifier: MIT
"""What a study is asked to do: typed settings and the hash that names them."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from ..grouped_minima import LEAST_COVERAGE, coverage

StudyName = Literal["width", "learning-rate", "theory", "depth"]
DataName = Literal["teacher", "digits", "mnist"]
DefinitionName = Literal["chord", "endpoint_mean", "midpoint"]
TeacherKind = Literal["orthonormal", "random"]
LossName = Literal["cross_entropy", "mse"]
ArchitectureName = Literal["mlp1", "mlp2", "mlp3", "mlp4", "cnn"]
MatchingName = Literal["none", "gap", "weights", "activations", "random"]

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Number = TypeVar("Number", int, float)


def _rises(value: tuple[float, ...]) -> tuple[float, ...]:
    if not value or list(value) != sorted(set(value)):
        raise ValueError(f"must rise strictly and not be empty; got {list(value)}")
    return value


Rising = Annotated[tuple[Number, ...], AfterValidator(_rises)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TeacherProblem(_Settings):
    """A teacher with M neurons and Gaussian or spherical inputs: loss and barrier in closed form.

    Letters as everywhere: d is the input dimension, M the teacher's width. A student at least as
    wide as its teacher counts as converged when the loss it was trained on is at most
    ``converged_loss``. ``samples`` are n fixed inputs, the same for all students, to be trained on
    by methods gd and sgd; barriers are the population's all the same.
    """

    data: Literal["teacher"] = "teacher"
    d: Count = 10
    teacher_width: Count = 5
    teacher_kind: TeacherKind = "orthonormal"
    teacher_seed: Seed = 0
    inputs: Literal["gaussian", "sphere"] = "gaussian"
    radius: Positive = 1.0
    converged_loss: Positive = 1e-4
    samples: Count | None = None
    samples_seed: Seed = 0

    @model_validator(mode="after")
    def _teacher_fits(self) -> TeacherProblem:
        if self.teacher_kind == "orthonormal" and self.teacher_width > self.d:
            raise ValueError(
                f"teacher_width must be at most d = {self.d} for an orthonormal teacher; "
                f"got {self.teacher_width}: raise d or take teacher_kind = 'random'"
            )
        return self


class DatasetProblem(_Settings):
    """Classification of real images by a two-layer network without biases.

    ``loss`` is the cross entropy in nats, or "mse", the mean over images of sum over outputs of
    (f - y)^2 / 2 with y = 1 for the image's class and 0 elsewhere. ``train_samples`` and
    ``test_samples`` keep the first that many samples; None keeps all.
    """

    data: Literal["digits", "mnist"]
    loss: LossName = "cross_entropy"
    train_samples: Count | None = None
    test_samples: Count | None = None


Problem = Annotated[TeacherProblem | DatasetProblem, Field(discriminator="data")]


class GridConfig(_Settings):
    """Settings that all studies share. Everything in a configuration is part of its hash.

    The p-th pair of students uses the seeds ``first_seed + 2p`` and ``first_seed + 2p + 1``, in
    every group of cells.
    """

    study: ClassVar[StudyName]

    problem: Problem = TeacherProblem()
    pairs: Count = 64
    first_seed: Seed = 0

    def canonical(self) -> str:
        """Settings as JSON with sorted keys and no spaces: equal settings, equal text."""
        return json.dumps(
            {"study": self.study, **self.model_dump(mode="json")},
            sort_keys=True,
            separators=(",", ":"),
        )

    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of :meth:`canonical`."""
        return text_digest(self.canonical())


class StudyConfig(GridConfig):
    """Settings that the studies of trained students share.

    w1 starts as N(0, ``init_scale``^2 / d), or with ``init_scale_per_width`` as
    N(0, (``init_scale`` / m)^2 / d). With a teacher w2 is ones, and fixed; with images it starts as
    N(0, ``w2_scale``^2 / m), and is trained; ``train_w2`` changes either. A student of width m
    takes ``steps`` updates, or ``steps_per_neuron`` times m where that is more. ``method`` "adam"
    has torch's default betas and eps, and the mini-batches of "sgd".
    """

    method: Literal["population_gd", "gd", "sgd", "adam"] = "population_gd"
    steps: Count = 2500
    steps_per_neuron: Annotated[int, Field(ge=0)] = 0
    batch_size: Count | None = None
    tol: Annotated[float, Field(ge=0)] = 0.0
    init_scale: Positive = 0.1
    init_scale_per_width: bool = False
    train_w2: bool | None = None
    w2_scale: Positive = 1.0
    dtype: Literal["float32", "float64"] = "float64"
    matchings: tuple[MatchingName, ...] = ("none", "gap", "weights")
    definition: DefinitionName = "chord"
    alphas: Annotated[int, Field(ge=2)] = 25
    alive_threshold: Annotated[float, Field(ge=0, lt=1)] = 1e-3

    @property
    def trains_w2(self) -> bool:
        """Whether w2 is trained too."""
        if self.train_w2 is not None:
            return self.train_w2
        return not isinstance(self.problem, TeacherProblem)

    def steps_at(self, width: int) -> int:
        """Largest number of updates at one width."""
        return max(self.steps, self.steps_per_neuron * width)

    def init_scale_at(self, width: int) -> float:
        """Norm, about, of a neuron's first weights at one width."""
        return self.init_scale / width if self.init_scale_per_width else self.init_scale

    @field_validator("matchings")
    @classmethod
    def _matchings_differ(cls, value: tuple[MatchingName, ...]) -> tuple[MatchingName, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError(f"needs at least one name, none of them twice; got {list(value)}")
        return value

    @model_validator(mode="after")
    def _method_fits(self) -> StudyConfig:
        teacher = isinstance(self.problem, TeacherProblem)
        if self.method == "population_gd" and not teacher:
            raise ValueError(
                f"method 'population_gd' needs a teacher; data '{self.problem.data}' has samples: "
                "take method = 'sgd' or 'gd'"
            )
        samples = self.problem.samples if isinstance(self.problem, TeacherProblem) else None
        if self.method == "gd" and teacher and samples is None:
            raise ValueError(
                "method 'gd' trains on a fixed sample: set problem.samples, or take method = "
                "'population_gd' for the closed-form loss, or 'sgd' for fresh samples every step"
            )
        if self.method == "population_gd" and samples is not None:
            raise ValueError(
                "problem.samples goes with methods 'gd' and 'sgd'; got method 'population_gd', "
                f"which has no samples, and {samples}: drop one"
            )
        if self.method == "adam" and teacher:
            raise ValueError(
                "method 'adam' trains on images; with a teacher take method = 'population_gd', "
                "'sgd', or 'gd' with problem.samples"
            )
        batches = self.method in ("sgd", "adam")
        if batches != (self.batch_size is not None):
            raise ValueError(
                "batch_size goes with methods 'sgd' and 'adam' and only with them; got method "
                f"'{self.method}' and batch_size {self.batch_size}: "
                + ("set a number" if batches else "set batch_size=none")
            )
        if samples is not None and self.batch_size is not None and self.batch_size > samples:
            raise ValueError(
                f"batch_size must be at most problem.samples = {samples}; got {self.batch_size}"
            )
        if self.definition == "midpoint" and self.alphas % 2 == 0:
            raise ValueError(
                "definition 'midpoint' needs the point alpha = 1/2, which an even number of "
                f"alphas leaves out; got {self.alphas}: take an odd number"
            )
        if "activations" in self.matchings and teacher:
            raise ValueError(
                "matching 'activations' needs samples; with a teacher take 'gap' or 'weights'"
            )
        return self


class WidthConfig(StudyConfig):
    """Width study: ``pairs`` pairs of students at each of ``widths``.

    The step size is ``lr`` / m, or ``lr`` itself with ``lr_per_width = false``. The tail exponent
    is fitted on the widths from ``tail_from``; None is 2 M with a teacher, and the width of the
    highest matched barrier with images.
    """

    study = "width"

    widths: Rising[Count] = (3, 4, 5, 6, 7, 8, 10, 14, 20, 28, 40, 56, 80)
    lr: Positive = 4.0
    lr_per_width: bool = True
    tail_from: Count | None = None

    def lr_at(self, width: int) -> float:
        """Step size at one width."""
        return self.lr / width if self.lr_per_width else self.lr


class LearningRateConfig(StudyConfig):
    """Learning-rate study at one ``width``, in units of the divergence threshold.

    The threshold is found first: from ``pilot_lr`` (/ m with ``lr_per_width``), known to be calm,
    a bracket is grown and bisected until it is narrower than ``bracket_tolerance`` of its upper
    end, training ``bracket_students`` students per probe; a step size is above the threshold when
    at least ``diverged_share`` of them diverge. ``grid`` lists step sizes as multiples of it.
    Alive neurons are counted at the end, and after each number of updates in ``alive_steps`` that
    training takes.
    """

    study = "learning-rate"

    width: Count = 20
    grid: Rising[Positive] = (0.25, 0.5, 0.75, 0.85, 0.9, 0.95, 1.02)
    pilot_lr: Positive = 1.0
    lr_per_width: bool = True
    bracket_students: Count = 16
    bracket_tolerance: Annotated[float, Field(ge=1e-6, lt=0.5)] = 0.005
    diverged_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    alive_steps: Annotated[tuple[Count, ...], AfterValidator(lambda v: _rises(v) if v else v)] = ()

    def first_lr(self) -> float:
        """The calm step size from which the threshold is searched."""
        return self.pilot_lr / self.width if self.lr_per_width else self.pilot_lr

    @property
    def counted_steps(self) -> tuple[int, ...]:
        """Those of ``alive_steps`` that are not beyond the end of training."""
        return tuple(step for step in self.alive_steps if step <= self.steps_at(self.width))


class TheoryConfig(GridConfig):
    """Theory study: ``pairs`` pairs of random global minima at each of ``widths``; see ``theory``.

    Every neuron is dead with probability r, for each r of ``deaths``; 0 is the dense law. The power
    of m is fitted to the dense barriers of the widths from ``tail_from``: it is approached slowly.
    """

    study = "theory"

    pairs: Count = 256
    widths: Rising[Count] = (5, 6, 7, 8, 10, 14, 20, 50, 100, 300, 1000, 3000, 10_000)
    deaths: Rising[Annotated[float, Field(ge=0, lt=1), AfterValidator(abs)]] = (0.0, 0.01, 0.1)
    alphas: Annotated[int, Field(ge=3)] = 25
    tail_from: Count = 300

    @model_validator(mode="after")
    def _law_exists(self) -> TheoryConfig:
        problem = self.problem
        if not isinstance(problem, TeacherProblem) or problem.teacher_kind != "orthonormal":
            raise ValueError(
                "the global minima are known for orthonormal teachers alone: take "
                "problem.data = 'teacher' and problem.teacher_kind = 'orthonormal'"
            )
        M, m, r = problem.teacher_width, self.widths[0], self.deaths[-1]
        if not coverage(M, m, r) >= LEAST_COVERAGE:
            raise ValueError(
                f"widths must be such that m neurons are of all M = {M} types with probability "
                f"{LEAST_COVERAGE:g} at least; got m = {m} with death rate {r:g}: drop small widths"
            )
        return self


class DepthConfig(GridConfig):
    """Depth study: ``pairs`` pairs of deeper networks at each of ``widths``; see ``depth``.

    The networks of a pair are trained for each of ``architectures``, in float32: ``mlp3`` has three
    hidden layers of m neurons, ``cnn`` two convolutions of m / 4 channels, at least one. Networks
    of one pair are matched from ``starts`` starting points, of which the best counts.
    """

    study = "depth"

    problem: Problem = DatasetProblem(data="digits")
    pairs: Count = 10
    architectures: tuple[ArchitectureName, ...] = ("mlp1", "mlp2", "mlp3", "mlp4", "cnn")
    widths: Rising[Count] = (4, 8, 16, 32, 64, 128, 256)
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Positive = 0.002
    steps: Count = 600
    batch_size: Count = 64
    starts: Count = 1
    definition: DefinitionName = "chord"
    alphas: Annotated[int, Field(ge=3)] = 25

    @field_validator("architectures")
    @classmethod
    def _architectures_differ(
        cls, value: tuple[ArchitectureName, ...]
    ) -> tuple[ArchitectureName, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError(f"needs at least one name, none of them twice; got {list(value)}")
        return value

    @model_validator(mode="after")
    def _images_are_given(self) -> DepthConfig:
        if isinstance(self.problem, TeacherProblem):
            raise ValueError(
                "the depth study is of images: take problem.data = 'digits' or 'mnist'"
            )
        if self.problem.loss != "cross_entropy":
            raise ValueError(
                "the depth study trains on the cross entropy alone; got problem.loss = "
                f"'{self.problem.loss}': drop it"
            )
        if self.definition == "midpoint" and self.alphas % 2 == 0:
            raise ValueError(
                "definition 'midpoint' needs the point alpha = 1/2, which an even number of "
                f"alphas leaves out; got {self.alphas}: take an odd number"
            )
        return self


def cell_count(config: AnyConfig) -> int:
    """Cells of the finished study."""
    groups = config.grid if isinstance(config, LearningRateConfig) else config.widths
    return len(groups) * config.pairs


def text_digest(text: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


AnyConfig = WidthConfig | LearningRateConfig | TheoryConfig | DepthConfig
CONFIG_TYPES: dict[str, type[AnyConfig]] = {
    "width": WidthConfig,
    "learning-rate": LearningRateConfig,
    "theory": TheoryConfig,
    "depth": DepthConfig,
}
