# SPDX-License-Identifier: MIT
"""Whole training runs of ensembles against a loop over eager students and a batched bmm loop."""

from collections.abc import Iterator

import torch
from torch import Tensor

import lmc_fast

from . import jax_baselines
from .population_loss import batched_torch
from .restricted import restricted
from .timer import OURS, Case

STEPS = 100  # of every contestant
LR = 0.05


def cases(quick: bool) -> Iterator[Case]:
    """Rows of this op, all or the quick ones."""
    yield _gd(64, 512, 64, 10, None, torch.float32)
    yield _population(24, 40, 5, 10)
    if not quick:
        yield _gd(64, 512, 64, 10, None, torch.float64)
        yield _gd(64, 4096, 100, 20, 64, torch.float32)


def _gd(S: int, n: int, m: int, d: int, batch: int | None, dtype: torch.dtype) -> Case:
    """Full-batch gradient descent, or SGD on mini-batches; mse, w2 fixed to one."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, k, generator=generator, dtype=dtype) for k in (d, 1))
    start = 0.1 * torch.randn(S, m, d, generator=generator, dtype=dtype) / d**0.5
    lr = LR / m

    def samples(t: int) -> slice:
        # The baselines take their mini-batches in order: they are spared the shuffling.
        if batch is None:
            return slice(None)
        first = t * batch % (n - batch + 1)
        return slice(first, first + batch)

    def ours(dtype: torch.dtype = dtype) -> Tensor:
        return lmc_fast.train_ensemble(
            start.to(dtype),
            method="gd" if batch is None else "sgd",
            lr=lr,
            steps=STEPS,
            x=x.to(dtype),
            y=y.to(dtype),
            batch_size=batch,
        ).w1

    def students() -> Tensor:
        finished = []
        for w1 in start.clone():
            w1.requires_grad_()
            for t in range(STEPS):
                part = samples(t)
                loss = ((x[part] @ w1.T).relu().sum(1, keepdim=True) - y[part]).square().mean() / 2
                (gradient,) = torch.autograd.grad(loss, w1)
                with torch.no_grad():
                    w1 -= lr * gradient
            finished.append(w1.detach())
        return torch.stack(finished)

    def batched() -> Tensor:
        w1 = start.clone()
        for t in range(STEPS):
            xs, ys = x[samples(t)], y[samples(t)]
            z = torch.bmm(xs.expand(S, -1, -1), w1.mT)
            r = (z.relu().sum(2, keepdim=True) - ys) / len(xs)
            w1 -= lr * torch.bmm(((z > 0) * r).mT, xs.expand(S, -1, -1))
        return w1

    chosen = torch.stack([torch.arange(n)[samples(t)] for t in range(STEPS)])
    jax_run = jax_baselines.contestant(jax_baselines.gradient_descent, start, x, y, lr, chosen)

    def verify() -> None:
        # In full batches the same steps by hand give the same weights; in mini-batches the
        # baselines agree with each other.
        # Rounding differs, and once it flips the sign of some z the weights differ by lr / n.
        allowed = 1e-3 if dtype == torch.float32 else 1e-9
        want = ours() if batch is None else batched()
        others = {"student loop": students(), "batched bmm": batched()}
        others |= {name: jax_baselines.as_tensor(call()) for name, call in jax_run.items()}
        for name, other in others.items():
            error = float((want - other).norm() / other.norm())
            assert error < allowed, f"{name}: relative difference {error:.1e}"
        if dtype == torch.float32:
            wide = ours(torch.float64)
            error = float((ours().double() - wide).norm() / wide.norm())
            assert error < 1e-3, f"float32 against float64: {error:.1e}"

    method = "gd" if batch is None else f"sgd batch={batch}"
    return Case(
        "train_ensemble",
        f"{method} {STEPS} steps S={S} n={n} m={m} d={d} {str(dtype)[6:]}",
        {
            OURS: ours,
            **(restricted(ours) if batch is None else {}),
            "student loop": students,
            "batched bmm": batched,
            **jax_run,
        },
        verify,
    )


def _population(S: int, m: int, M: int, d: int) -> Case:
    teacher = lmc_fast.teacher(d, M)
    v1 = teacher.hidden.weight.detach().double()
    generator = torch.Generator().manual_seed(0)
    start = 0.1 * torch.randn(S, m, d, generator=generator, dtype=torch.float64) / d**0.5
    lr = 4.0 / m

    def ours() -> Tensor:
        return lmc_fast.train_ensemble(
            start, method="population_gd", lr=lr, steps=STEPS, teacher=teacher
        ).w1

    def batched() -> Tensor:
        w1 = start.clone()
        for _ in range(STEPS):
            w1.requires_grad_()
            (gradient,) = torch.autograd.grad(batched_torch(w1, v1).sum(), w1)
            w1 = w1.detach() - lr * gradient
        return w1

    def verify() -> None:
        error = float((ours() - batched()).norm() / batched().norm())
        assert error < 1e-9, f"relative difference {error:.1e}"

    return Case(
        "train_ensemble",
        f"population_gd {STEPS} steps S={S} m={m} M={M} d={d} float64",
        {OURS: ours, "batched torch": batched},
        verify,
    )
