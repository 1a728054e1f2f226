# SPDX-License-Identifier: MIT
"""Losses and gradients of all students of a group at once, for ``stepwise``.

Every sum over a student's samples or outputs is folded by halves with elementwise additions, so
that its bits do not depend on how many students there are.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ... import _native
from ...ensemble import EnsembleProblem
from ...reference.population_loss import input_scale
from .. import population_loss, two_layer_relu
from .._library import sum_first_axis
from .memory import TERMS, block_of_samples


class Slope(NamedTuple):
    """Loss (S,) in float64, with its gradients; that of untrained w2 is None."""

    loss: Tensor
    w1: Tensor
    w2: Tensor | None


class Objective(Protocol):
    """What ``stepwise`` descends."""

    def full_loss(self, w1: Tensor, w2: Tensor) -> Tensor:
        """(S,) float64."""

    def slope(self, w1: Tensor, w2: Tensor, step: int) -> Slope:
        """Loss and gradients for this step."""


def objective_of(problem: EnsembleProblem) -> Objective:
    """The objective that the problem's method descends."""
    if problem.method == "population_gd":
        return PopulationObjective(problem)
    if problem.x is None:
        return FreshSamplesObjective(problem)
    return FixedSamplesObjective(problem)


def sum_per_student(t: Tensor) -> Tensor:
    """(S, ...) -> (S,), folded."""
    return sum_first_axis(t.flatten(1).T)


def zero_loss(problem: EnsembleProblem) -> Tensor:
    """(S,) float64, the full objective of the network whose outputs are 0."""
    S, _, d = problem.w1.shape
    c = problem.w2.shape[1]
    if problem.y is None:
        w1 = problem.w1.new_zeros((1, 1, d), dtype=torch.float64)
        zero = PopulationObjective(problem).full_loss(w1, w1.new_zeros((1, c, 1)))
    elif problem.loss == "cross_entropy":
        zero = problem.w1.new_full((1,), c, dtype=torch.float64).log()
    else:
        y = problem.y if problem.own_y else problem.y[None]
        zero = sum_per_student(y.double().square()) / 2 / y.shape[1]
    return zero.expand(S).contiguous()


class PopulationObjective:
    """The population loss."""

    def __init__(self, problem: EnsembleProblem) -> None:
        assert problem.teacher is not None
        self.teacher = problem.teacher
        self.scale = input_scale(problem.inputs, problem.radius, problem.w1.shape[-1])
        self.train_w2 = problem.train_w2

    def full_loss(self, w1: Tensor, w2: Tensor) -> Tensor:
        """(S,) float64."""
        loss: Tensor = population_loss.OP(w1, w2, *self.teacher, self.scale, [False, False])[0]
        return loss

    def slope(self, w1: Tensor, w2: Tensor, step: int) -> Slope:
        """The same for every step."""
        wanted = [True, self.train_w2]
        loss, dw1, dw2 = population_loss.OP(w1, w2, *self.teacher, self.scale, wanted)
        return Slope(loss, dw1, dw2 if self.train_w2 else None)


class SamplePass:
    """The mean loss on samples and its gradients, block by block."""

    def __init__(self, loss: str, train_w2: bool) -> None:
        self.train_w2 = train_w2
        self.residuals = cross_entropy_residuals if loss == "cross_entropy" else squared_residuals

    def loss(self, w1: Tensor, w2: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """(S,) float64."""
        loss = w1.new_zeros(len(w1), dtype=torch.float64)
        for x_, y_ in self._blocks(w1, w2, x, y):
            f = two_layer_relu.OP(x_, w1, None, w2, None, False, TERMS)[0]
            loss += self.residuals(f, y_, 1.0)[0]
        return loss / x.shape[-2]

    def slope(self, w1: Tensor, w2: Tensor, x: Tensor, y: Tensor) -> Slope:
        """With the gradients."""
        n = x.shape[-2]
        loss = w1.new_zeros(len(w1), dtype=torch.float64)
        dw1, dw2 = torch.zeros_like(w1), torch.zeros_like(w2) if self.train_w2 else None
        for x_, y_ in self._blocks(w1, w2, x, y):
            f, signs = two_layer_relu.OP(x_, w1, None, w2, None, True, TERMS)
            total, df = self.residuals(f, y_, 1 / n)
            loss += total
            wanted = [False, True, False, self.train_w2, False]
            found = two_layer_relu.BACKWARD_OP(df, x_, w1, None, w2, signs, wanted, TERMS)
            dw1 += found[1]
            if dw2 is not None:
                dw2 += found[3]
        return Slope(loss / n, dw1, dw2)

    def _blocks(
        self, w1: Tensor, w2: Tensor, x: Tensor, y: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Samples with their targets, each of which may have a leading S."""
        n, x_axis = x.shape[-2], x.ndim - 2
        y_axis = y.ndim - (1 if self.residuals is cross_entropy_residuals else 2)
        (_, m, d), c = w1.shape, w2.shape[1]
        block = block_of_samples(n, m, d, c, w1.element_size())
        for first in range(0, n, block):
            size = min(block, n - first)
            yield x.narrow(x_axis, first, size), y.narrow(y_axis, first, size)


def squared_residuals(f: Tensor, y: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Sum over samples of |f - y|^2 / 2, (S,) float64, and scale times its gradient in f."""
    r = f - y
    return sum_per_student(r.double().square()) / 2, r * scale


def cross_entropy_residuals(f: Tensor, labels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The same of -log softmax(f)[label]."""
    labels = labels.expand(f.shape[:-1])[..., None]
    shifted = f.double() - f.amax(-1, keepdim=True).double()
    margin = shifted.gather(-1, labels)[..., 0]
    p = shifted.exp()
    total = sum_first_axis(p.movedim(-1, 0))
    p = p / total[..., None]
    p = p.scatter(-1, labels, p.gather(-1, labels) - 1)
    return sum_per_student(total.log() - margin), p.to(f.dtype) * scale


class FixedSamplesObjective:
    """The loss on n samples: of all (gd), or of mini-batches of shuffled epochs (sgd)."""

    def __init__(self, problem: EnsembleProblem) -> None:
        assert problem.x is not None
        assert problem.y is not None
        self.x, self.own_x = problem.x.contiguous(), problem.own_x
        self.y, self.own_y = problem.y.contiguous(), problem.own_y
        self.batch_size = problem.batch_size
        self.samples = SamplePass(problem.loss, problem.train_w2)
        self.seeds: list[int] = problem.seeds.tolist()
        self._orders: dict[int, Tensor] = {}

    def full_loss(self, w1: Tensor, w2: Tensor) -> Tensor:
        """(S,) float64, on all samples."""
        return self.samples.loss(w1, w2, self.x, self.y)

    def slope(self, w1: Tensor, w2: Tensor, step: int) -> Slope:
        """On the samples of this step."""
        if self.batch_size == 0:
            return self.samples.slope(w1, w2, self.x, self.y)
        chosen = self._positions(step * self.batch_size, self.batch_size)
        student = torch.arange(len(w1), device=w1.device)[:, None]
        x = self.x[student, chosen] if self.own_x else self.x[chosen]
        y = self.y[student, chosen] if self.own_y else self.y[chosen]
        return self.samples.slope(w1, w2, x, y)

    def _positions(self, start: int, size: int) -> Tensor:
        """(S, size), the samples at positions start, start + 1, ... of the shuffles end to end."""
        n = self.x.shape[-2]
        epochs = range(start // n, (start + size - 1) // n + 1)
        self._orders = {e: self._orders[e] if e in self._orders else self._order(e) for e in epochs}
        parts = []
        for epoch, order in self._orders.items():
            low, high = max(start, epoch * n), min(start + size, (epoch + 1) * n)
            parts.append(order[:, low - epoch * n : high - epoch * n])
        return torch.cat(parts, dim=1)

    def _order(self, epoch: int) -> Tensor:
        """(S, n) int64, the order in which each student visits the samples."""
        orders = torch.empty(len(self.seeds), self.x.shape[-2], dtype=torch.int64, device="cpu")
        for seed, order in zip(self.seeds, orders, strict=True):
            _native.train_ensemble_shuffle(seed, epoch, order)
        return orders.to(self.x.device)


class FreshSamplesObjective:
    """Samples drawn for every step and labelled by the teacher; in full the population loss."""

    def __init__(self, problem: EnsembleProblem) -> None:
        assert problem.teacher is not None
        w1, v = problem.w1, problem.teacher
        self.v1, self.v2 = (t.to(w1.dtype).repeat(len(w1), 1, 1) for t in (v.v1, v.v2))
        self.seeds = problem.seeds.to(w1.device)
        self.batch_size = problem.batch_size
        self.radius = problem.radius if problem.inputs == "sphere" else None
        self.samples = SamplePass("mse", problem.train_w2)
        self.population = PopulationObjective(problem)

    def full_loss(self, w1: Tensor, w2: Tensor) -> Tensor:
        """(S,) float64, over the population."""
        return self.population.full_loss(w1, w2)

    def slope(self, w1: Tensor, w2: Tensor, step: int) -> Slope:
        """On the samples of this step."""
        x = normals(self.seeds, self.batch_size * w1.shape[-1], step)
        x = x.view(len(w1), self.batch_size, w1.shape[-1])
        if self.radius is not None:
            squares = sum_first_axis(x.square().movedim(-1, 0))
            x = x * (self.radius / squares.sqrt())[..., None]
        x = x.to(w1.dtype)
        y = two_layer_relu.OP(x, self.v1, None, self.v2, None, False, TERMS)[0]
        return self.samples.slope(w1, w2, x, y)


def normals(seeds: Tensor, count: int, step: int) -> Tensor:
    """(S, count) float64, the standard normals of a training step."""
    out = torch.empty((len(seeds), count), dtype=torch.float64, device=seeds.device)
    if out.is_cuda:
        stream = torch.cuda.current_stream(out.device).cuda_stream
        _native.train_ensemble_normals_cuda(seeds, out, step, stream)
    else:
        for seed, row in zip(seeds.tolist(), out, strict=True):
            _native.train_ensemble_normals(seed, step, row)
    return out
