# SPDX-License-Identifier: MIT
"""Losses along the segment between two networks, against loops over the alphas in torch."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

import lmc_fast
from lmc_fast.reference import path_losses as reference

from . import jax_baselines, torch_compile
from .restricted import restricted
from .timer import OURS, Case


class Size(NamedTuple):
    """One row; ``further`` rows have vmap and torch.compile as baselines (mse, one output)."""

    n: int
    m: int
    d: int
    A: int
    c: int = 1
    dtype: torch.dtype = torch.float32
    quick: bool = False
    further: bool = False


SIZES = [
    Size(4096, 4096, 784, 25, quick=True),
    Size(4096, 4096, 64, 25, further=True),
    Size(4096, 4096, 64, 101),
    Size(4096, 4096, 64, 1001),
    Size(2048, 2048, 64, 25, dtype=torch.float64),
    Size(10000, 4096, 784, 25, c=10),
]
# Loops over more alphas are timed on about so many and scaled up. For the eager loop that is exact.
# It counts the two products once per 25 alphas, which adds under 3% to a loop over n m numbers for
# each of them.
EAGER_ALPHAS, TWO_PRODUCTS_ALPHAS = 5, 25
JAX_ALPHAS = 101  # the longest loop that JAX is asked for
VMAP_CHUNK = 5  # alphas at a time: n m floats for each are held, and some copies of them


def cases(quick: bool) -> Iterator[Case]:
    """Rows of this op, all or the quick ones."""
    for size in SIZES:
        if size.quick or not quick:
            yield _case(size)


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


def _vmapped(
    a: lmc_fast.Weights, b: lmc_fast.Weights, x: Tensor, y: Tensor, alphas: Tensor, loss: str
) -> Tensor:
    """The eager loop, with vmap in place of the loop."""

    def at(alpha: Tensor) -> Tensor:
        w1, w2 = torch.lerp(a.w1[0], b.w1[0], alpha), torch.lerp(a.w2[0], b.w2[0], alpha)
        return _loss((x @ w1.T).relu() @ w2.T, y, loss)

    return torch.func.vmap(at, chunk_size=VMAP_CHUNK)(alphas.to(x.dtype))


def _fusible(
    w1_a: Tensor, w2_a: Tensor, w1_b: Tensor, w2_b: Tensor, x: Tensor, y: Tensor, alphas: Tensor
) -> Tensor:
    """Two products, then an expression of size (n, A, m) that a compiler need not store."""
    z_a, z_b = x @ w1_a.T, x @ w1_b.T
    h = torch.lerp(z_a[:, None], z_b[:, None], alphas[:, None]).relu()
    f = (h * torch.lerp(w2_a, w2_b, alphas[:, None])).sum(2)
    return (f - y).square().mean(0) / 2


def _loss(f: Tensor, y: Tensor, loss: str) -> Tensor:
    if loss == "mse":
        return (f - y).square().sum(1).mean() / 2
    return torch.nn.functional.cross_entropy(f, y)


def _case(size: Size) -> Case:
    n, m, d, A, c, dtype, _, further = size
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    a, b = (
        lmc_fast.as_weights(
            (
                torch.randn(m, d, generator=generator, dtype=dtype) / d**0.5,
                torch.randn(c, m, generator=generator, dtype=dtype) / m**0.5,
            )
        )
        for _ in "ab"
    )
    if c == 1:
        loss, y = "mse", torch.randn(n, 1, generator=generator, dtype=dtype)
    else:
        loss, y = "cross_entropy", torch.randint(c, (n,), generator=generator)
    alphas = torch.linspace(0, 1, A, dtype=torch.float64)

    def ours() -> lmc_fast.PathLosses:
        return lmc_fast.path_losses(a, b, x, y, alphas=alphas, loss=loss)

    nets = [(net.w1[0], net.w2[0]) for net in (a, b)]
    others = {}
    if loss == "mse" and A <= JAX_ALPHAS:
        others |= jax_baselines.contestant(jax_baselines.path_losses, *nets, x, y, alphas)
    if further:
        others["vmap"] = partial(_vmapped, a, b, x, y, alphas, loss)
        arguments = (*nets[0], *nets[1], x, y, alphas.to(dtype))
        others |= torch_compile.contestant(_fusible, lambda fused: fused(*arguments))

    def verify() -> None:
        allowed = 1e-5 if dtype == torch.float32 else 1e-12
        few = slice(0, 256)
        wide = [lmc_fast.Weights(*(None if t is None else t.double() for t in w)) for w in (a, b)]
        exact = reference.path_losses(
            *wide, x[few].double(), y[few].double() if c == 1 else y[few], alphas[:: A // 5], loss
        )
        part = lmc_fast.path_losses(a, b, x[few], y[few], alphas=alphas[:: A // 5], loss=loss)
        error = float((part.losses - exact.losses).norm() / exact.losses.norm())
        assert error < allowed, f"relative error {error:.1e}"
        everything = ours().losses[0] if others else part.losses
        for name, call in others.items():
            error = float((jax_baselines.as_tensor(call()) - everything).norm())
            assert error < 10 * allowed * float(everything.norm()), f"{name}: error {error:.1e}"

    contestants = {OURS: ours, **restricted(ours)}
    share = {}
    for name, loop, most in (
        ("eager loop", _eager_loop, EAGER_ALPHAS),
        ("two products", _two_products, TWO_PRODUCTS_ALPHAS),
    ):
        looped = alphas[:: max(1, A // most)]
        if len(looped) < A:
            name += f" ({len(looped)} alphas, scaled to {A})"
            share[name] = len(looped) / A
        contestants[name] = partial(loop, a, b, x, y, looped, loss)
    return Case(
        "path_losses",
        f"{loss} n={n} m={m} d={d} c={c} A={A} {str(dtype)[6:]}",
        contestants | others,
        verify,
        work=4.0 * n * m * d,
        dtype=dtype,
        share=share,
    )
