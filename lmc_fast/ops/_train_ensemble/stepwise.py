# SPDX-License-Identifier: MIT
"""Training where every step is a few calls for all students of a group at once.

The rules are those of :mod:`lmc_fast.reference.train_ensemble`. All students are at the same step;
one that has stopped keeps its weights, and is computed along with the others until fewer than half
of them run.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from ...ensemble import EnsembleProblem
from ...reference.train_ensemble import DIVERGENCE_FACTOR
from .chunks import in_chunks
from .objectives import objective_of, sum_per_student, zero_loss
from .outputs import Outputs, state_dtype
from .update_rules import rule_of


@torch.no_grad()
def train_stepwise(
    problem: EnsembleProblem,
    outputs: Outputs,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train on the device of the students, and fill in ``outputs``."""
    training = _Training(problem, outputs)
    in_chunks(problem.steps, training.advance, clock=clock)
    training.finish()


class _Training:
    """The students that are still computed: ``rows`` of the outputs."""

    def __init__(self, problem: EnsembleProblem, outputs: Outputs) -> None:
        self.problem, self.outputs = problem, outputs
        w1, w2 = problem.w1, problem.w2
        self.exact = not problem.on_batches  # what is descended is the full objective
        state = state_dtype(problem)
        self.w1, self.w2 = w1.to(state).contiguous(), w2.to(state).contiguous()
        self.lr = problem.lr.to(w1.device, state)[:, None, None]
        self.objective = objective_of(problem)
        self.rule = rule_of(problem, self.w1, self.w2)
        self.step = 0
        self.rows = torch.arange(len(w1), device=w1.device)
        self.running = torch.ones_like(self.rows, dtype=torch.bool)
        self.diverged = ~self.running
        self.steps = torch.zeros_like(self.rows)
        zero, full = zero_loss(problem), self.objective.full_loss(self.w1, self.w2)
        self.limit = DIVERGENCE_FACTOR * torch.where(full > zero, full, zero)

    def advance(self, until: int) -> bool:
        """Take steps up to ``until``; whether a student still runs."""
        while self.step < until:
            self._take_step()
            self.step += 1
        running = self.running.cpu()
        count = int(running.sum())
        if 0 < 2 * count < len(running):
            self._keep(running.nonzero()[:, 0])
        return count > 0

    def finish(self) -> None:
        """Rules 1, 2 and 3 for the students that still run, and what is known of all."""
        loss = self.objective.full_loss(self.w1, self.w2)
        if self.step == self.problem.steps:
            self._record(loss)
            self.diverged |= self.running & ~(loss <= self.limit)
        self._write(loss)

    def _take_step(self) -> None:
        every = self.problem.record_every
        recorded = every > 0 and self.step % every == 0
        if recorded and not self.exact:
            self._record(self.objective.full_loss(self.w1, self.w2))
        loss, dw1, dw2 = self.objective.slope(self.w1, self.w2, self.step)
        if recorded and self.exact:
            self._record(loss)
        out = ~(loss <= self.limit) | ~(loss < torch.inf)
        self.diverged |= self.running & out
        moving = self.running & ~out
        if self.exact:
            squares = sum_per_student(dw1.double().square())
            if dw2 is not None:
                squares = squares + sum_per_student(dw2.double().square())
            moving &= ~(squares.sqrt() <= self.problem.tol)
        step1, step2 = self.rule(dw1, dw2)
        next1 = self.w1 - self.lr * step1
        next2 = self.w2 if step2 is None else self.w2 - self.lr * step2
        finite = self._finite(next1) & self._finite(next2)
        self.diverged |= moving & ~finite
        moving &= finite
        chosen = moving[:, None, None]
        self.w1 = torch.where(chosen, next1, self.w1)
        if dw2 is not None:
            self.w2 = torch.where(chosen, next2, self.w2)
        self.steps += moving
        self.running = moving

    def _finite(self, w: Tensor) -> Tensor:
        """(S,) bool, in the type in which weights are returned."""
        w = w.to(self.outputs.w1.dtype)
        return (w - w == 0).flatten(1).all(1)

    def _record(self, full: Tensor) -> None:
        every = self.problem.record_every
        if every > 0 and self.step % every == 0:
            at = self.step // every
            self.outputs.trace[self.rows, at] = torch.where(self.running, full, torch.nan)

    def _keep(self, kept: Tensor) -> None:
        """Leave the others behind with what they have reached."""
        self._write(self.objective.full_loss(self.w1, self.w2))
        self.problem = self.problem.of_students(kept)
        self.objective = objective_of(self.problem)
        kept = kept.to(self.w1.device)
        self.rule.keep(kept)
        for name in ("w1", "w2", "lr", "rows", "running", "diverged", "steps", "limit"):
            setattr(self, name, getattr(self, name)[kept])

    def _write(self, loss: Tensor) -> None:
        found = (self.w1, self.w2, loss, self.steps, self.diverged)
        w1, w2, loss_, _, steps, diverged = self.outputs
        for to, values in zip((w1, w2, loss_, steps, diverged), found, strict=True):
            to[self.rows] = values.to(to.dtype)
