# SPDX-License-Identifier: MIT
"""Rows on the population loss, in float64: its gradient, and descent on it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

import lmc_fast

from ..population_loss import batched_torch
from ..timer import OURS
from .case import Case, Results, Target, Work, relative
from .closed_form import ClosedForm
from .device import Device
from .graphs import GraphedDescent, recorded
from .training import CHECKED_STEPS, Training, affordable, chosen_students

LR = 4.0
CLOSED, AUTOGRAD = "closed-form bmm, CUDA graph", "batched torch, autograd"
PER_PAIR = 60  # operations of an angle and its weights, about
ALLOWED = {"change": 1e-9, "loss": 1e-11, "dw1": 1e-9}


@dataclass(frozen=True)
class Population:
    """S students of m neurons, a teacher of M, d inputs."""

    op: ClassVar[str]

    S: int
    m: int
    M: int
    d: int
    targets: tuple[Target, ...] = ()

    def __str__(self) -> str:
        return f"S={self.S} m={self.m} M={self.M} d={self.d} float64"

    def quick(self) -> "Population":
        """A quarter of the students and neurons."""
        return replace(self, S=self.S // 4, m=self.m // 4, targets=())

    def work(self, times: int = 1) -> Work:
        """Per pair of neurons 3 d for the distance and the gradient, and PER_PAIR.

        Each takes the place of a multiply-add, and so counts for two.
        """
        pairs = self.S * self.m * (self.m + self.M)
        operations = 2.0 * pairs * (3 * self.d + PER_PAIR) * times
        return Work("float64", operations, 2 * 8.0 * self.S * self.m * self.d)

    def networks(self) -> tuple[Tensor, torch.nn.Module, Tensor]:
        """w1 on the CPU, the teacher and its first layer."""
        teacher = lmc_fast.teacher(self.d, self.M)
        generator = torch.Generator().manual_seed(0)
        w1 = torch.randn(self.S, self.m, self.d, generator=generator, dtype=torch.float64)
        return w1 / self.d**0.5, teacher, teacher.hidden.weight.detach()


@dataclass(frozen=True)
class PopulationLoss(Population):
    """Loss and gradient once."""

    op: ClassVar[str] = "population_loss"

    def __str__(self) -> str:
        return f"loss+gradient {super().__str__()}"

    def case(self, device: Device) -> Case:
        """Draw the inputs."""
        start, teacher, v1 = self.networks()
        chosen = chosen_students(self.S)
        w1, v1 = start.to(device.name).requires_grad_(), v1.to(device.name)

        def gradient(w1: Tensor, loss: Tensor) -> Results:
            return loss.detach(), *torch.autograd.grad(loss.sum(), w1)

        def ours(w1: Tensor = w1) -> Results:
            return gradient(w1, lmc_fast.population_loss(w1, None, teacher))

        exact = ours(start[chosen].requires_grad_())

        def errors(name: str, results: Results) -> dict[str, float]:
            found = (t.cpu()[chosen] for t in results)
            pairs = zip(("loss", "dw1"), found, exact, strict=True)
            return {what: relative(got, want) for what, got, want in pairs}

        return Case(
            self.op,
            str(self),
            {
                OURS: ours,
                CLOSED: _Recorded(w1.detach(), v1),
                AUTOGRAD: lambda: gradient(w1, batched_torch(w1, v1)),
            },
            errors,
            lambda name, what: ALLOWED[what],
            {OURS: self.work()},
            self.targets,
        )


class _Recorded:
    """The closed form, recorded when it is called first."""

    def __init__(self, w1: Tensor, v1: Tensor) -> None:
        self._networks = w1, v1
        self._replay: Callable[[], object] | None = None

    def __call__(self) -> Results:
        if self._replay is None:
            form, device = ClosedForm(*self._networks), self._networks[0].device
            self._replay = recorded(partial(self._keep, form), device.type)
        self._replay()
        return self._results

    def _keep(self, form: ClosedForm) -> None:
        self._results = form.loss_and_gradient()


@dataclass(frozen=True)
class PopulationDescent(Population):
    """Descent, so many steps per call."""

    op: ClassVar[str] = "train_ensemble"

    steps: int = 100

    def __str__(self) -> str:
        return f"population_gd {super().__str__()}"

    def case(self, device: Device) -> Case:
        """Draw the inputs."""
        start, teacher, v1 = self.networks()
        start, lr = 0.1 * start, LR / self.m
        there = start.to(device.name)
        v1 = v1.to(device.name)

        def ours(w1: Tensor, steps: int) -> Results:
            found = lmc_fast.train_ensemble(
                w1, method="population_gd", lr=lr, steps=steps, teacher=teacher
            )
            return (found.w1,)

        def closed(w1: Tensor) -> Callable[[], object]:
            form = ClosedForm(w1, v1)
            return lambda: w1.sub_(form.gradient(), alpha=lr)

        def autograd(steps: int) -> Results:
            w1 = there.clone()
            for _ in range(steps):
                w1.requires_grad_()
                (gradient,) = torch.autograd.grad(batched_torch(w1, v1).sum(), w1)
                w1 = w1.detach().sub_(gradient, alpha=lr)
            return (w1,)

        train = partial(ours, there)
        training = Training(start, affordable(self.steps, train, device))
        (exact,) = ours(start[chosen_students(self.S)], CHECKED_STEPS)
        training.ours(train, exact)
        training.baseline(CLOSED, GraphedDescent(there, closed), exact)
        training.baseline(AUTOGRAD, autograd, exact)
        size = str(self).replace(" S=", f" {training.steps} steps S=")
        return training.case(
            self.op, size, ALLOWED["change"], self.work(training.steps), self.targets
        )
