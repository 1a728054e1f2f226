# SPDX-License-Identifier: MIT
"""Training by the kernels, a student to a block, many steps per launch."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import _native
from ...ensemble import EnsembleProblem
from ...reference.population_loss import input_scale
from ...reference.train_ensemble import DIVERGENCE_FACTOR
from .. import _cuda
from .chunks import in_chunks
from .memory import GROUP_BYTES, Bytes
from .objectives import PopulationObjective, zero_loss
from .outputs import Outputs

RUNNING, STOPPED, DIVERGED = 0, 1, 2


def fits(problem: EnsembleProblem) -> bool:
    """Whether the kernels take students of these sizes, whatever the ensemble."""
    _, m, d = problem.w1.shape
    is_float64 = problem.method == "population_gd" or problem.w1.dtype == torch.float64
    return problem.method != "adam" and _native.train_ensemble_cuda_fits(
        problem.method,
        is_float64,
        m,
        d,
        problem.w2.shape[1],
        0 if problem.teacher is None else len(problem.teacher.v1),
        0 if problem.x is None else problem.x.shape[-2],
        problem.batch_size,
        problem.train_w2,
    )


def step_work(problem: EnsembleProblem) -> float:
    """Multiply-adds of one student's step, roughly."""
    _, m, d = problem.w1.shape
    c = problem.w2.shape[1]
    M = 0 if problem.teacher is None else len(problem.teacher.v1)
    if problem.method == "population_gd":
        return float(m) * (m + M) * (3 * d + 2 * c + 60)
    samples = problem.batch_size or (0 if problem.x is None else problem.x.shape[-2])
    labelling = M if problem.x is None else 0
    return float(samples) * (2 * m + labelling) * (d + c)


def fused_bytes(problem: EnsembleProblem) -> Bytes:
    """What :func:`train_fused` needs."""
    _, m, d = problem.w1.shape
    c = problem.w2.shape[1]
    one, two = (_measured(problem.of_students(slice(count))) for count in (1, 2))
    workspace = Bytes(one, 0) if len(problem.w1) == 1 else Bytes(max(0, 2 * one - two), two - one)
    fixed, each = workspace.fixed, workspace.each + 1024
    if problem.method == "population_gd" and problem.w1.dtype != torch.float64:
        each += 8 * m * (d + c)
    if problem.method == "sgd" and problem.x is None:
        each += 2 * 8 * m * (d + c)  # the population loss takes float64 weights
        fixed += GROUP_BYTES
    for t, own in ((problem.x, problem.own_x), (problem.y, problem.own_y)):
        if t is not None and not t.is_contiguous():
            fixed, each = _plus(fixed, each, own, t, t.element_size())
    if problem.y is not None:  # its squares and their sum
        fixed, each = _plus(fixed, each, problem.own_y, problem.y, 3 * 8)
    if problem.method == "sgd" and problem.x is not None:
        each += 2 * 4 * problem.x.shape[-2] + 8
    return Bytes(fixed, each)


def _plus(fixed: int, each: int, own: bool, t: Tensor, itemsize: int) -> tuple[int, int]:
    """With so many bytes for every number of ``t``, which every student has its own of, or not."""
    if own:
        return fixed, each + t[0].numel() * itemsize
    return fixed + t.numel() * itemsize, each


def _measured(problem: EnsembleProblem) -> int:
    call = _Call(problem, Outputs.of(problem))
    native: Any = _native.train_ensemble_cuda  # mypy does not follow the unpacked arrays
    evaluates = {False, problem.method == "sgd" and problem.x is not None}
    return max(
        int(native(*call.arrays, None, *call.options(problem.steps, evaluate), 0))
        for evaluate in evaluates
    )


@torch.no_grad()
def train_fused(
    problem: EnsembleProblem,
    outputs: Outputs,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train on a CUDA device, and fill in ``outputs``."""
    call = _Call(problem, outputs)
    call.zero_loss.copy_(zero_loss(problem))
    if problem.method == "sgd":
        _train_sgd(call, clock)
    else:
        in_chunks(problem.steps, call.advance, clock=clock)
    outputs.diverged.copy_(call.status == DIVERGED)
    if call.w1 is not outputs.w1:
        outputs.w1.copy_(call.w1)
        outputs.w2.copy_(call.w2)


def _train_sgd(call: "_Call", clock: Callable[[], float]) -> None:
    """The kernels take the steps; the full objective is evaluated between their launches."""
    problem, outputs = call.problem, call.outputs
    every, steps = problem.record_every, problem.steps

    def record(step: int, full: Tensor) -> None:
        if every > 0 and step % every == 0:
            running = call.status == RUNNING
            outputs.trace[:, step // every] = torch.where(running, full, torch.nan)

    def advance(until: int) -> bool:
        running = call.advance(until)
        if running and until < steps and every > 0 and until % every == 0:
            record(until, call.full_loss())
        return running

    full = call.full_loss()
    larger = torch.where(full > call.zero_loss, full, call.zero_loss)
    call.limits.copy_(DIVERGENCE_FACTOR * larger)
    if steps > 0:
        record(0, full)
        in_chunks(steps, advance, every, clock)
    full = call.full_loss()
    record(steps, full)
    thrown_out = (call.status == RUNNING) & ~(full <= call.limits)
    call.status.masked_fill_(thrown_out, DIVERGED)
    outputs.loss.copy_(full)


class _Call:
    """A group's arrays on the device, and the kernels that work on them."""

    def __init__(self, problem: EnsembleProblem, outputs: Outputs) -> None:
        self.problem, self.outputs = problem, outputs
        device = problem.w1.device
        population = problem.method == "population_gd"
        # The state is float64 for population_gd, and else what is returned.
        self.w1, self.w2 = (w.double() if population else w for w in (outputs.w1, outputs.w2))
        self.zero_loss = torch.empty_like(outputs.loss)
        self.limits = torch.zeros_like(outputs.loss)
        self.status = torch.full_like(outputs.steps, RUNNING, dtype=torch.int32)
        v1, v2 = problem.teacher or (None, None)
        self.arrays = (
            self.w1,
            self.w2,
            problem.lr.to(device),
            problem.seeds.to(device),
            *(None if t is None else t.contiguous() for t in (problem.x, problem.y, v1, v2)),
            self.zero_loss,
            self.limits,
            outputs.loss,
            outputs.trace,
            outputs.steps,
            self.status,
            *_orders(problem),
        )

    def options(self, until: int, evaluate: bool) -> tuple[object, ...]:
        """What the kernels' function takes between workspace and stream."""
        problem = self.problem
        return (
            problem.method,
            problem.loss,
            problem.train_w2,
            problem.steps,
            problem.batch_size,
            problem.tol,
            problem.record_every,
            input_scale(problem.inputs, problem.radius, problem.w1.shape[-1]),
            problem.radius if problem.inputs == "sphere" else 0.0,
            until,
            evaluate,
            self.w1.dtype != self.outputs.w1.dtype,
        )

    def advance(self, until: int) -> bool:
        """Take steps up to ``until``; whether a student still runs."""
        _cuda.run(_native.train_ensemble_cuda, self.arrays, *self.options(until, evaluate=False))
        return bool((self.status == RUNNING).any())

    def full_loss(self) -> Tensor:
        """(S,) float64 of students that are trained by sgd."""
        if self.problem.x is None:
            return PopulationObjective(self.problem).full_loss(self.w1, self.w2)
        _cuda.run(_native.train_ensemble_cuda, self.arrays, *self.options(0, evaluate=True))
        return self.outputs.loss


def _orders(problem: EnsembleProblem) -> tuple[Tensor | None, Tensor | None]:
    """Where the kernels keep the order in which mini-batches take the samples, and its epoch."""
    if problem.method != "sgd" or problem.x is None:
        return None, None
    S, n, device = len(problem.w1), problem.x.shape[-2], problem.w1.device
    orders = torch.empty((S, 2, n), dtype=torch.int32, device=device)
    return orders, torch.full((S,), -1, dtype=torch.int64, device=device)
