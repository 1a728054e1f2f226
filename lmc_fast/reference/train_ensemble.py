# SPDX-License-Identifier: MIT
"""Gradient descent on S students, one after the other, in float64.

For one student, with t counting updates:

1. If t is a multiple of ``record_every``, the full objective goes into the trace.
2. At t = ``steps`` training ends.
3. Loss and gradient at the weights: of the population (population_gd), of all n samples (gd), or
   of the mini-batch (sgd, adam). If that loss is not finite, or above 1e3 times the larger of the
   initial full objective and that of the zero network, the student has diverged: it stops here,
   at step t.
4. For population_gd and gd: if the Frobenius norm of the gradient over the trained weights is at
   most ``tol``, the student stops at step t. (With tol = 0 only a gradient that is exactly zero
   stops it.)
5. w <- w - lr grad; for adam grad is replaced by the direction of Kingma and Ba, ICLR 2015, arXiv
   1412.6980, Algorithm 1, the bias-corrected mean of gradients over the root of that of their
   squares. If a weight is no longer finite the student has diverged, at step t, and keeps
   the weights it had before.

The loss that is returned is the full objective at the weights that are returned; the rule of 3 is
applied to it as well, so a student which its last update threw out is flagged. relu'(0) = 0.
Random numbers are those of :mod:`lmc_fast.reference.philox`: sgd on fixed samples takes
consecutive positions of epoch 0's shuffle, then epoch 1's, and so on, batches running across the
borders; sgd on fresh samples fills the (batch, d) matrix of step t row by row with that step's
normals.
"""

from typing import Any

import torch
from torch import Tensor

from ..ensemble import EnsembleProblem, EnsembleResult, ensemble_problem
from ..losses import mean_loss
from .philox import normals, shuffle
from .population_loss import population_loss, population_loss_gradient
from .two_layer_relu import two_layer_relu

DIVERGENCE_FACTOR = 1e3
BETAS, EPS = (0.9, 0.999), 1e-8


def train_ensemble(w1: Tensor, w2: Tensor | None = None, **options: Any) -> EnsembleResult:
    """Train S students; parameters as in :func:`lmc_fast.train_ensemble`.

    Arithmetic is float64 whatever the dtype of w1, to which the trained weights are rounded.
    """
    options.pop("threads", None)
    problem = ensemble_problem(w1, w2, **options)
    count, record_steps = len(problem.w1), problem.trace_steps
    trained_w1, trained_w2 = problem.w1.clone(), problem.w2.clone()
    loss = torch.empty(count, dtype=torch.float64)
    trace = torch.full((count, len(record_steps)), torch.nan, dtype=torch.float64)
    steps = torch.empty(count, dtype=torch.int64)
    diverged = torch.empty(count, dtype=torch.bool)
    for s in range(count):
        run = _Run(problem, s)
        run.train(trace[s])
        trained_w1[s], trained_w2[s] = run.w1, run.w2
        loss[s], steps[s], diverged[s] = run.objective(run.w1, run.w2), run.step, run.diverged
    return EnsembleResult(trained_w1, trained_w2, loss, trace, record_steps, steps, diverged)


class _Run:
    """One student's training."""

    def __init__(self, problem: EnsembleProblem, student: int) -> None:
        self.problem = problem
        self.w1, self.w2 = problem.w1[student].double(), problem.w2[student].double()
        self.lr, self.seed = float(problem.lr[student]), int(problem.seeds[student])
        self.step, self.diverged = 0, False
        self.means = [(torch.zeros_like(w), torch.zeros_like(w)) for w in (self.w1, self.w2)]
        self.x = None if problem.x is None else problem.x.double()
        if self.x is not None and self.x.ndim == 3:
            self.x = self.x[student]
        self.y = problem.y
        if self.y is not None:
            labels = problem.loss == "cross_entropy"
            self.y = self.y[student] if self.y.ndim == (2 if labels else 3) else self.y
            self.y = self.y if labels else self.y.double()
        self._orders: dict[int, Tensor] = {}
        zero = self.objective(torch.zeros_like(self.w1), torch.zeros_like(self.w2))
        start = self.objective(self.w1, self.w2)
        self.limit = DIVERGENCE_FACTOR * max(float(zero), float(start))

    def train(self, trace: Tensor) -> None:
        problem = self.problem
        while True:
            if problem.record_every and self.step % problem.record_every == 0:
                trace[self.step // problem.record_every] = self.objective(self.w1, self.w2)
            if self.step == problem.steps:
                self.diverged = not float(self.objective(self.w1, self.w2)) <= self.limit
                return
            loss, grad1, grad2 = self.loss_and_gradient()
            if not loss <= self.limit:  # NaN compares false
                self.diverged = True
                return
            squared = grad1.square().sum() + grad2.square().sum()
            if not problem.on_batches and float(squared.sqrt()) <= problem.tol:
                return
            step1, step2 = (grad1, grad2) if problem.method != "adam" else self.adam(grad1, grad2)
            w1, w2 = self.w1 - self.lr * step1, self.w2 - self.lr * step2
            if not all(bool(torch.isfinite(w.to(problem.w1.dtype)).all()) for w in (w1, w2)):
                self.diverged = True
                return
            self.w1, self.w2, self.step = w1, w2, self.step + 1

    def objective(self, w1: Tensor, w2: Tensor) -> Tensor:
        """The full objective: population loss, or mean over all n samples."""
        problem = self.problem
        if self.x is None or self.y is None:
            return population_loss(
                w1[None], w2[None], problem.teacher, problem.inputs, problem.radius
            )[0]
        return mean_loss(two_layer_relu(self.x, w1, None, w2, None), self.y, problem.loss)

    def loss_and_gradient(self) -> tuple[float, Tensor, Tensor]:
        """Loss and gradients of this step; the gradient of untrained weights is zero."""
        problem = self.problem
        if problem.method == "population_gd":
            full = population_loss_gradient(
                self.w1[None], self.w2[None], problem.teacher, problem.inputs, problem.radius
            )
            loss, grad1, grad2 = full.loss[0], full.w1[0], full.w2[0]
        else:
            x, y = self.batch()
            w1, w2 = self.w1.clone().requires_grad_(), self.w2.clone().requires_grad_()
            loss = mean_loss(two_layer_relu(x, w1, None, w2, None), y, problem.loss)
            grad1, grad2 = torch.autograd.grad(loss, (w1, w2))
        return float(loss.detach()), grad1, grad2 if problem.train_w2 else torch.zeros_like(grad2)

    def adam(self, *gradients: Tensor) -> list[Tensor]:
        """Directions for these gradients, which enter the means."""
        count, directions = self.step + 1, []
        for part, gradient in enumerate(gradients):
            mean, square = self.means[part]
            mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
            square = BETAS[1] * square + (1 - BETAS[1]) * gradient**2
            self.means[part] = mean, square
            corrected = (square / (1 - BETAS[1] ** count)).sqrt()
            directions.append(mean / (1 - BETAS[0] ** count) / (corrected + EPS))
        return directions

    def batch(self) -> tuple[Tensor, Tensor]:
        """The samples of this step: all, a mini-batch of them, or fresh ones."""
        problem, size = self.problem, self.problem.batch_size
        if self.x is not None and self.y is not None:
            if problem.method == "gd":
                return self.x, self.y
            chosen = self.positions(self.step * size, size)
            return self.x[chosen], self.y[chosen]
        assert problem.teacher is not None
        d = self.w1.shape[-1]
        x = torch.from_numpy(normals(self.seed, size * d, self.step)).reshape(size, d)
        if problem.inputs == "sphere":
            x = x * (problem.radius / x.norm(dim=1, keepdim=True))
        v1, v2 = problem.teacher
        return x, two_layer_relu(x, v1, None, v2, None)

    def positions(self, start: int, size: int) -> Tensor:
        """Samples at positions start .. start + size - 1 of the concatenated shuffles."""
        assert self.x is not None
        n = len(self.x)
        first, last = start // n, (start + size - 1) // n
        for epoch in range(first, last + 1):
            if epoch not in self._orders:
                self._orders[epoch] = torch.from_numpy(shuffle(self.seed, n, epoch))
        self._orders = {e: order for e, order in self._orders.items() if e >= first}
        visited = torch.cat([self._orders[epoch] for epoch in range(first, last + 1)])
        return visited[start - first * n :][:size]
