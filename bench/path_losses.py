# SPDX-License-Identifier: MIT
"""Losses along the segment between two networks, against loops over the alphas in torch."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

import lmc_fast
from lmc_fast.reference import path_losses as reference

from . import jax_baselines
from .timer import OURS, Case

SIZES = [  # n, m, d, c, A, in the quick selection
    (4096, 4096, 784, 1, 25, False),
    (4096, 4096, 64, 1, 25, True),
    (4096, 4096, 64, 1, 101, False),
    (4096, 4096, 64, 1, 1001, False),
    (2048, 4096, 784, 10, 25, False),
]
LONGEST_LOOP = 100


def cases() -> Iterator[Case]:
    """All rows of this op."""
    for n, m, d, c, A, quick in SIZES:
        yield _case(n, m, d, c, A, quick)


def _eager_loop(
    a: lmc_fast.Weights, b: lmc_fast.Weights, x: Tensor, y: Tensor, alphas: Tensor, loss: str
) -> Tensor:
    """Interpolate the weights and run the network, once per alpha."""
    losses = []
    for alpha in alphas.tolist():
        net = a.at(b, alpha)
        losses.append(_loss((x @ net.w1[0].T).relu() @ net.w2[0].T, y, loss))
    return torch.stack(losses)


def _two_products(
    a: lmc_fast.Weights, b: lmc_fast.Weights, x: Tensor, y: Tensor, alphas: Tensor, loss: str
) -> Tensor:
    """Use that z is linear in alpha: both pre-activations once, then a loop over the alphas."""
    z_a, z_b = x @ a.w1[0].T, x @ b.w1[0].T
    losses = []
    for alpha in alphas.tolist():
        w2 = torch.lerp(a.w2[0], b.w2[0], alpha)
        losses.append(_loss(torch.lerp(z_a, z_b, alpha).relu_() @ w2.T, y, loss))
    return torch.stack(losses)


def _loss(f: Tensor, y: Tensor, loss: str) -> Tensor:
    if loss == "mse":
        return (f - y).square().sum(1).mean() / 2
    return torch.nn.functional.cross_entropy(f, y)


def _case(n: int, m: int, d: int, c: int, A: int, quick: bool) -> Case:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    a, b = (
        lmc_fast.as_weights(
            (
                torch.randn(m, d, generator=generator) / d**0.5,
                torch.randn(c, m, generator=generator) / m**0.5,
            )
        )
        for _ in "ab"
    )
    if c == 1:
        loss, y = "mse", torch.randn(n, 1, generator=generator)
    else:
        loss, y = "cross_entropy", torch.randint(c, (n,), generator=generator)
    alphas = torch.linspace(0, 1, A, dtype=torch.float64)

    jax_run = {}
    if loss == "mse" and A <= LONGEST_LOOP + 1:
        nets = [(net.w1[0], net.w2[0]) for net in (a, b)]
        jax_run = jax_baselines.contestant(jax_baselines.path_losses, *nets, x, y, alphas)

    def verify() -> None:
        few = slice(0, 256)
        wide = [lmc_fast.Weights(*(None if t is None else t.double() for t in w)) for w in (a, b)]
        exact = reference.path_losses(
            *wide, x[few].double(), y[few].double() if c == 1 else y[few], alphas[:: A // 5], loss
        )
        ours = lmc_fast.path_losses(a, b, x[few], y[few], alphas=alphas[:: A // 5], loss=loss)
        error = float((ours.losses - exact.losses).norm() / exact.losses.norm())
        assert error < 1e-5, f"relative error {error:.1e}"
        everything = lmc_fast.path_losses(a, b, x, y, alphas=alphas, loss=loss).losses[0]
        for name, call in jax_run.items():
            error = float((torch.tensor(np.asarray(call())) - everything).norm())
            assert error < 1e-4 * float(everything.norm()), f"{name}: error {error:.1e}"

    # Loops over more alphas are scaled up. That counts the two products once per LONGEST_LOOP
    # alphas, which adds under 1% to a loop over n m floats for each.
    looped = alphas[:: max(1, A // LONGEST_LOOP)]
    share = len(looped) / A
    note = "" if share == 1 else f" ({len(looped)} alphas, scaled to {A})"
    eager, two = f"eager loop{note}", f"two products{note}"
    return Case(
        "path_losses",
        f"{loss} n={n} m={m} d={d} c={c} A={A} float32",
        {
            OURS: lambda: lmc_fast.path_losses(a, b, x, y, alphas=alphas, loss=loss),
            eager: lambda: _eager_loop(a, b, x, y, looped, loss),
            two: lambda: _two_products(a, b, x, y, looped, loss),
            **(jax_run if share == 1 else {}),
        },
        verify,
        work=4.0 * n * m * d,
        quick=quick,
        share={} if share == 1 else {eager: share, two: share},
    )
