# SPDX-License-Identifier: MIT
"""What the students of a study learn: a teacher in closed form, or images.

A task initialises and trains students from seeds and evaluates segments between them; it knows
nothing of grids, chunks or files.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .. import data
from ..barrier import Barrier, barrier
from ..matching import Matching
from ..nets import init_students
from ..ops.population_loss import population_loss
from ..ops.train_ensemble import EnsembleResult, train_ensemble
from ..sharpness import sharpness
from ..sparsity import alive_count, alive_neurons
from ..weights import Weights
from .config import DatasetProblem, Problem, StudyConfig, TeacherProblem
from .device import CPU
from .errors import ConfigError

# A student whose loss is within this share of the zero network's has learnt nothing; a dead one
# equals it up to rounding.
_MARGIN = 1e-3
_BLOCK = 4096  # samples


class Sizes(NamedTuple):
    """Of a problem: n training samples (0 with a teacher), input dimension, outputs."""

    n: int
    d: int
    c: int


@dataclass(frozen=True)
class Trained:
    """S trained students: ``weights``, and per student (S,), on the CPU, what became of it.

    ``diverged`` is the trainer's flag. ``failed`` covers students that diverged and those that
    ended no better than the network which is zero everywhere: with a large step size a student
    on images does not overflow, it dies.
    """

    weights: Weights
    loss: Tensor
    steps: Tensor
    diverged: Tensor
    failed: Tensor

    def take(self, index: Tensor) -> Weights:
        """Weights of some of the students."""
        return Weights(self.weights.w1[index], None, self.weights.w2[index], None)


class Task(ABC):
    """One learning problem with a study's training settings, on one device.

    Students start the same on every device: they are drawn on the CPU.

    Attributes
    ----------
    sizes : Sizes
    zero_loss : float
        Loss of the network that is zero everywhere, in the distribution that barriers are of.
    zero_trained : float
        Its loss on what students are trained on.
    matching_inputs : Tensor, shape (n, d), or None
        Samples for matching by activations.
    """

    sizes: Sizes
    zero_loss: float
    zero_trained: float
    matching_inputs: Tensor | None = None

    def __init__(self, config: StudyConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.dtype = torch.float32 if config.dtype == "float32" else torch.float64

    def train(self, seeds: Sequence[int], m: int, lr: float, threads: int | None) -> Trained:
        """Train one student of width m per seed with step size lr."""
        result = self._train(self.start(seeds, m), seeds, lr, self.config.steps_at(m), threads)
        weights = Weights(result.w1, None, result.w2, None)
        loss, steps, diverged = (t.cpu() for t in (result.loss, result.steps, result.diverged))
        failed = diverged | ~(loss < (1 - _MARGIN) * self.zero_trained)
        return Trained(weights, loss, steps, diverged, failed)

    def alive_at(
        self, seeds: Sequence[int], m: int, lr: float, steps: Sequence[int], threads: int | None
    ) -> Tensor:
        """Alive neurons (S, K) after each of K rising numbers of updates, NaN once diverged."""
        start, taken = self.start(seeds, m), 0
        # The closed form is descended in float64, whatever type its weights are returned in.
        state = torch.float64 if self.config.method == "population_gd" else self.dtype
        goes_on = self.config.method in ("population_gd", "gd") and state == self.dtype
        lost = torch.zeros(len(seeds), dtype=torch.bool)
        counts = []
        for step in steps:
            # Gradient descent goes on from where it was, unless that is rounded; others begin anew.
            result = self._train(start, seeds, lr, step - taken, threads)
            reached = Weights(result.w1, None, result.w2, None)
            if goes_on:
                start, taken = reached, step
            lost |= result.diverged.cpu()
            counts.append(self.alive(reached).cpu().double().masked_fill(lost, float("nan")))
        return torch.stack(counts, 1)

    def start(self, seeds: Sequence[int], m: int) -> Weights:
        """Weights of the students before training."""
        drawn = self._draw(seeds, m)
        return Weights(drawn.w1.to(self.device), None, drawn.w2.to(self.device), None)

    @abstractmethod
    def _draw(self, seeds: Sequence[int], m: int) -> Weights: ...

    @abstractmethod
    def _train(
        self, start: Weights, seeds: Sequence[int], lr: float, steps: int, threads: int | None
    ) -> EnsembleResult: ...

    @abstractmethod
    def barriers(
        self, a: Weights, b: Weights, matching: Matching | None = None
    ) -> dict[str, Barrier]:
        """Barriers (P,) between P pairs per split, as they stand or with b reordered first."""

    def alive(self, weights: Weights) -> Tensor:
        """Neurons stronger than ``alive_threshold`` times the strongest: int64 (S,)."""
        return alive_count(weights.w1, weights.w2, self.config.alive_threshold)

    def sharpness(self, weights: Weights) -> Tensor | None:
        """Largest Hessian eigenvalue (S,) of the loss trained on; None where it is not known."""
        del weights
        return None


class TeacherTask(Task):
    """Students of a teacher: the loss is the population's, in closed form."""

    def __init__(
        self, config: StudyConfig, problem: TeacherProblem, device: torch.device = CPU
    ) -> None:
        super().__init__(config, device)
        self.problem = problem
        self.sizes = Sizes(0, problem.d, 1)
        teacher = data.teacher(
            problem.d,
            problem.teacher_width,
            kind=problem.teacher_kind,
            seed=problem.teacher_seed,
            dtype=self.dtype,
        )
        zero = torch.zeros(1, 1, problem.d, dtype=torch.float64)
        self.zero_loss = float(population_loss(zero, None, teacher, problem.inputs, problem.radius))
        self.teacher = teacher.to(device)
        self.zero_trained = self.zero_loss
        self.samples: Tensor | None = None
        if problem.samples is not None:
            x = data.sample_inputs(
                problem.samples,
                problem.d,
                problem.inputs,
                problem.radius,
                problem.samples_seed,
                self.dtype,
            )
            # The targets' mean square, where those of the population would be more or less.
            self.zero_trained = float(teacher(x).double().square().mean().detach()) / 2
            self.samples = x.to(device)

    def _draw(self, seeds: Sequence[int], m: int) -> Weights:
        scale = self.config.init_scale_at(m)
        return init_students(seeds, m, self.problem.d, scale=scale, dtype=self.dtype)

    def _train(
        self, start: Weights, seeds: Sequence[int], lr: float, steps: int, threads: int | None
    ) -> EnsembleResult:
        config, problem = self.config, self.problem
        return train_ensemble(
            start.w1,
            start.w2,
            method=config.method,
            lr=lr,
            steps=steps,
            teacher=self.teacher,
            x=self.samples,
            batch_size=config.batch_size,
            train_w2=config.trains_w2,
            seeds=list(seeds),
            tol=config.tol,
            threads=threads,
            inputs=problem.inputs,
            radius=problem.radius,
        )

    def barriers(
        self, a: Weights, b: Weights, matching: Matching | None = None
    ) -> dict[str, Barrier]:
        result = barrier(
            a,
            b,
            teacher=self.teacher,
            alphas=self.config.alphas,
            definition=self.config.definition,
            match=matching,
            inputs=self.problem.inputs,
            radius=self.problem.radius,
        )
        return {"population": result}

    def sharpness(self, weights: Weights) -> Tensor | None:
        if self.config.trains_w2:
            # What is computed is a part of the Hessian.
            return None
        if self.samples is not None:
            return sharpness(weights.w1, weights.w2, x=self.samples)
        return sharpness(
            weights.w1,
            weights.w2,
            self.teacher,
            inputs=self.problem.inputs,
            radius=self.problem.radius,
        )


class DatasetTask(Task):
    """Classifiers of images, c = 10, both layers trained on the problem's loss.

    A neuron is alive only if some training image activates it as well: with a large step size
    neurons die by turning away from the data, with weights of any size.
    """

    def __init__(
        self,
        config: StudyConfig,
        problem: DatasetProblem,
        data_dir: Path | None,
        device: torch.device = CPU,
    ) -> None:
        super().__init__(config, device)
        self.problem = problem
        loaded = data.digits() if problem.data == "digits" else data.mnist(data_dir)
        n, k = problem.train_samples, problem.test_samples
        self.samples = {
            "train": (loaded.x_train[:n].to(device, self.dtype), loaded.y_train[:n].to(device)),
            "test": (loaded.x_test[:k].to(device, self.dtype), loaded.y_test[:k].to(device)),
        }
        self._check_samples(loaded)
        x, _ = self.samples["train"]
        self.sizes = Sizes(len(x), x.shape[1], int(loaded.y_train.max()) + 1)
        # A target of the squared loss is 1 for one class and 0 for the others.
        self.zero_loss = 0.5 if problem.loss == "mse" else math.log(self.sizes.c)
        self.zero_trained = self.zero_loss
        self.matching_inputs = x

    def _check_samples(self, loaded: data.Dataset) -> None:
        problem = self.problem
        for name, asked, there in (
            ("problem.train_samples", problem.train_samples, len(loaded.x_train)),
            ("problem.test_samples", problem.test_samples, len(loaded.x_test)),
            ("batch_size", self.config.batch_size, len(self.samples["train"][0])),
        ):
            if asked is not None and asked > there:
                raise ConfigError(
                    f"setting '{name}' must be at most the {there} samples there are; got {asked}"
                )

    def _draw(self, seeds: Sequence[int], m: int) -> Weights:
        return init_students(
            seeds,
            m,
            self.sizes.d,
            scale=self.config.init_scale_at(m),
            c=self.sizes.c,
            w2_scale=self.config.w2_scale,
            dtype=self.dtype,
        )

    def _train(
        self, start: Weights, seeds: Sequence[int], lr: float, steps: int, threads: int | None
    ) -> EnsembleResult:
        config = self.config
        x, y = self.samples["train"]
        return train_ensemble(
            start.w1,
            start.w2,
            method=config.method,
            lr=lr,
            steps=steps,
            x=x,
            y=y,
            batch_size=config.batch_size,
            loss=self.problem.loss,
            train_w2=config.trains_w2,
            seeds=list(seeds),
            tol=config.tol,
            threads=threads,
        )

    def barriers(
        self, a: Weights, b: Weights, matching: Matching | None = None
    ) -> dict[str, Barrier]:
        return {
            split: barrier(
                a,
                b,
                x=x,
                y=y,
                loss=self.problem.loss,
                alphas=self.config.alphas,
                definition=self.config.definition,
                match=matching,
            )
            for split, (x, y) in self.samples.items()
        }

    def alive(self, weights: Weights) -> Tensor:
        x, _ = self.samples["train"]
        active = torch.zeros(weights.w1.shape[:2], dtype=torch.bool, device=x.device)
        for student, w1 in enumerate(weights.w1):
            for start in range(0, len(x), _BLOCK):
                active[student] |= (x[start : start + _BLOCK] @ w1.T > 0).any(0)
        strong = alive_neurons(weights.w1, weights.w2, self.config.alive_threshold)
        return (active & strong).sum(1)


@lru_cache(maxsize=2)
def make_task(
    config: StudyConfig, data_dir: Path | None = None, device: torch.device = CPU
) -> Task:
    """The task of a configuration on a device; kept, so that a worker reads its images once."""
    problem: Problem = config.problem
    if isinstance(problem, TeacherProblem):
        return TeacherTask(config, problem, device)
    return DatasetTask(config, problem, data_dir, device)
