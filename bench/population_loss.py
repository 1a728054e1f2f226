# SPDX-License-Identifier: MIT
"""Closed-form loss and gradient against the batched torch formula with autograd."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

import lmc_fast
from lmc_fast.reference import population_loss as reference

from . import jax_baselines
from .restricted import restricted
from .timer import OURS, Case

SIZES = [(24, 40, 5, 10), (64, 20, 5, 10), (8, 256, 8, 16)]  # S, m, M, d


def cases(quick: bool) -> Iterator[Case]:
    """Rows of this op, all or the quick one."""
    for size in SIZES[:1] if quick else SIZES:
        yield _case(*size)


def _kernel(u: Tensor, v: Tensor) -> Tensor:
    """E relu(u.x) relu(v.x) for all pairs, (S, m, d) and (M, d) or (S, m, d) -> (S, m, M)."""
    norms = u.norm(dim=-1)[..., :, None] * v.norm(dim=-1)[..., None, :]
    cos = (u @ v.mT / norms).clamp(-1 + 1e-15, 1 - 1e-15)
    return norms * ((1 - cos * cos).sqrt() + (math.pi - cos.acos()) * cos) / (2 * math.pi)


def batched_torch(w1: Tensor, v1: Tensor) -> Tensor:
    """(S, m, d) against a teacher (M, d), both with output weights of one."""
    constant = _kernel(v1[None], v1[None]).sum()
    return (_kernel(w1, w1).sum((1, 2)) - 2 * _kernel(w1, v1).sum((1, 2)) + constant) / 2


def _case(S: int, m: int, M: int, d: int) -> Case:
    teacher = lmc_fast.teacher(d, M)
    v1 = teacher.hidden.weight.detach().double()
    w1 = torch.randn(S, m, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w1.mul_(d**-0.5).requires_grad_()

    def ours() -> tuple[Tensor, ...]:
        return torch.autograd.grad(lmc_fast.population_loss(w1, None, teacher).sum(), w1)

    def eager() -> tuple[Tensor, ...]:
        return torch.autograd.grad(batched_torch(w1, v1).sum(), w1)

    jax_run = jax_baselines.contestant(jax_baselines.population_loss, w1, v1)

    def verify() -> None:
        exact = reference.population_loss_gradient(w1.detach(), None, teacher)
        loss = lmc_fast.population_loss(w1.detach(), None, teacher)
        assert float((loss / exact.loss - 1).abs().max()) < 1e-12
        others = [jax_baselines.as_tensor(call()) for call in jax_run.values()]
        for gradient in (ours()[0], eager()[0], *others):
            assert float((gradient - exact.w1).norm() / exact.w1.norm()) < 1e-10

    return Case(
        "population_loss",
        f"loss+gradient S={S} m={m} M={M} d={d} float64",
        {
            OURS: ours,
            **(restricted(ours) if S * m * m >= 2**19 else {}),
            "batched torch": eager,
            **jax_run,
        },
        verify,
    )
