# SPDX-License-Identifier: MIT
"""Rows of train_ensemble on samples: gd, sgd on fixed samples, sgd on fresh ones."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

import lmc_fast

from . import sample_steps
from .case import Case, Results, Target, Work
from .device import Device
from .graphs import GraphedDescent
from .training import CHECKED_STEPS, Training, affordable, chosen_students

LR = 0.05
BMM, BMM_TF32 = "bmm, CUDA graph, TF32 off", "bmm, CUDA graph, TF32 on"
ONE, ONE_TF32 = "one product, CUDA graph, TF32 off", "one product, CUDA graph, TF32 on"
LOOP = "student loop, TF32 off"
LOOP_STUDENTS, LOOP_STEPS = 4, 20  # are timed, and scaled up
ALLOWED = 1e-3  # a z that rounds to the other side of zero changes a gradient by lr / n


@dataclass(frozen=True)
class Samples:
    """float32, w2 fixed to ones; gd without ``batch``, fresh samples of an M-neuron teacher if M.

    The baselines of sgd are spared the shuffling: each of their students takes the same batch of
    its own in every step, or all take one (``one product``). Fresh samples they draw as well.
    """

    op: ClassVar[str] = "train_ensemble"

    S: int
    n: int
    m: int
    d: int
    steps: int
    batch: int = 0
    M: int = 0
    targets: tuple[Target, ...] = ()

    def __str__(self) -> str:
        method = f"sgd batch={self.batch}" if self.batch else "gd"
        samples = f"fresh M={self.M}" if self.M else f"n={self.n}"
        return f"{method} S={self.S} {samples} m={self.m} d={self.d} float32"

    def quick(self) -> "Samples":
        """A quarter of the students."""
        return replace(self, S=self.S // 4, targets=())

    def work(self, steps: int) -> Work:
        """Two products of n m d per student and step, on the ordinary units."""
        multiply_adds = 2.0 * self.S * (self.batch or self.n) * self.m * self.d * steps
        numbers = 2 * self.S * self.m * self.d + self.n * (self.d + 1)
        return Work("float32", 2 * multiply_adds, 4.0 * numbers)

    def case(self, device: Device) -> Case:
        """Draw the inputs."""
        normal = partial(torch.randn, generator=torch.Generator().manual_seed(0))
        start = 0.1 * normal(self.S, self.m, self.d) / self.d**0.5
        x, y = normal(self.n, self.d), normal(self.n, 1)
        chosen = chosen_students(self.S)
        w1 = start[chosen].double()
        lr = LR / self.m
        there = device.name

        def exact(x: Tensor, y: Tensor) -> Tensor:
            return sample_steps.plain(w1, x.double(), y.double(), lr, CHECKED_STEPS)

        ours = partial(self.train, start.to(there), x.to(there), y.to(there))
        training = Training(start, affordable(self.steps, ours, device))
        if self.batch:
            # Which samples ours takes, only the library knows.
            wide = (w1, x.double(), y.double(), CHECKED_STEPS)
            training.ours(ours, self.train(*wide, seeds=chosen)[0])
        else:
            training.ours(ours, exact(x, y))

        def graphed(make: Any, *given: Any) -> GraphedDescent:
            given = tuple(t.to(there) for t in given)
            return GraphedDescent(start.to(there), partial(make, *given, lr))

        if self.M:
            own = normal(self.S, self.batch, self.d)
            v1 = self.teacher.hidden.weight.detach()
            labels = (own[chosen].double() @ v1.T).relu().sum(2, keepdim=True)
            for name, tf32 in ((BMM, False), (BMM_TF32, True)):
                runs = [
                    # Drawing changes the inputs: each has its own.
                    graphed(partial(sample_steps.fresh_products, draw), own.clone(), v1.float())
                    for draw in (True, False)
                ]
                truth = exact(own[chosen], labels)
                training.baseline(name, runs[0], truth, tf32=tf32, check=runs[1])
        else:
            count = self.batch or self.n
            rows = (torch.arange(self.S)[:, None] * count + torch.arange(count)) % self.n
            for name, tf32 in ((BMM, False), (BMM_TF32, True)):
                if self.batch:
                    run = graphed(sample_steps.own_products, x[rows], y[rows])
                    truth = exact(x[rows[chosen]], y[rows[chosen]])
                else:
                    run = graphed(sample_steps.everybodys_products, x, y)
                    truth = exact(x, y)
                training.baseline(name, run, truth, tf32=tf32)
            for name, tf32 in ((ONE, False), (ONE_TF32, True)):
                run = graphed(sample_steps.one_product, x[:count], y[:count])
                training.baseline(name, run, exact(x[:count], y[:count]), tf32=tf32)
        if not self.batch:
            some = start[chosen[:LOOP_STUDENTS]].to(there)
            loop = partial(sample_steps.student_loop, some, x.to(there), y.to(there), lr)
            training.few(LOOP, loop, exact(x, y), len(some), min(LOOP_STEPS, training.steps))
        size = str(self).replace(" S=", f" {training.steps} steps S=")
        return training.case(self.op, size, ALLOWED, self.work(training.steps), self.targets)

    @property
    def teacher(self) -> Any:
        """Of the fresh samples."""
        return lmc_fast.teacher(self.d, self.M)

    def train(self, start: Tensor, x: Tensor, y: Tensor, steps: int, **options: Any) -> Results:
        """Ours."""
        options |= {"teacher": self.teacher} if self.M else {"x": x, "y": y}
        if self.batch:
            options["batch_size"] = self.batch
        method = "sgd" if self.batch else "gd"
        found = lmc_fast.train_ensemble(
            start, method=method, lr=LR / self.m, steps=steps, **options
        )
        return (found.w1,)
