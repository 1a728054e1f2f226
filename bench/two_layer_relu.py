# SPDX-License-Identifier: MIT
"""Forward and backward of the fused network against eager torch."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import lmc_fast
from lmc_fast.reference import two_layer_relu as reference

from . import jax_baselines, torch_compile
from .restricted import restricted
from .timer import OURS, Case


class Size(NamedTuple):
    """One row; ``compiled`` rows have torch.compile as a baseline."""

    n: int
    m: int
    d: int
    c: int = 1
    dtype: torch.dtype = torch.float32
    quick: bool = False
    compiled: bool = False


SIZES = [
    Size(4096, 16384, 16, quick=True),
    Size(4096, 16384, 64, compiled=True),
    Size(4096, 8192, 256),
    Size(4096, 4096, 784, quick=True),
    Size(4096, 4096, 784, c=10),
    Size(4096, 4096, 64, dtype=torch.float64),
    Size(256, 256, 64, c=10, compiled=True),
]
SWEEP = [Size(k, k, k, quick=k in (1, 64)) for k in (1, 4, 16, 64, 128, 256)]


def cases(quick: bool) -> Iterator[Case]:
    """Rows of this op, all or the quick ones."""
    for sizes, prefix in ((SIZES, ""), (SWEEP, "sweep ")):
        for size in sizes:
            if size.quick or not quick:
                yield _case(size, prefix)
    if not quick:
        yield _alternating()


def _case(size: Size, prefix: str) -> Case:
    n, m, d, c, dtype, _, compiled = size
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    w1 = torch.randn(m, d, generator=generator, dtype=dtype).div_(d**0.5).requires_grad_()
    w2 = torch.randn(c, m, generator=generator, dtype=dtype).div_(m**0.5).requires_grad_()
    df = torch.randn(n, c, generator=generator, dtype=dtype)

    def step(network) -> tuple[Tensor, ...]:
        f = network(x, w1, None, w2, None)
        return (f, *torch.autograd.grad(f, (w1, w2), df))

    def ours() -> tuple[Tensor, ...]:
        return step(lmc_fast.two_layer_relu)

    others = jax_baselines.contestant(jax_baselines.two_layer_relu, x, w1, w2, df)
    if compiled:
        others |= torch_compile.contestant(reference.two_layer_relu, step)

    def verify() -> None:
        eps = torch.finfo(dtype).eps
        wide = [t.detach().double().requires_grad_() for t in (w1, w2)]
        f = reference.two_layer_relu(x.double(), wide[0], None, wide[1], None)
        exact = (f, *torch.autograd.grad(f, wide, df.double()))
        allowed = [20 * eps * float(want.detach().norm()) for want in exact]
        allowed[1] += _sign_slack(x.double(), *(t.detach() for t in wide), df.double(), eps)
        results = {OURS: ours()}
        for name, call in others.items():
            results[name] = tuple(jax_baselines.as_tensor(r) for r in call())
        for name, result in results.items():
            for got, want, bound in zip(result, exact, allowed, strict=True):
                error = float((got - want).detach().norm())
                assert error <= bound, f"{name}: error {error:.1e}, allowed {bound:.1e}"

    return Case(
        "two_layer_relu",
        f"{prefix}forward+backward n={n} m={m} d={d} c={c} {str(dtype)[6:]}",
        {
            OURS: ours,
            **(restricted(ours) if n * m >= 2**24 else {}),
            "eager": lambda: step(reference.two_layer_relu),
            **others,
        },
        verify,
        work=4.0 * n * m * d,
        dtype=dtype,
    )


def _sign_slack(x: Tensor, w1: Tensor, w2: Tensor, df: Tensor, eps: float) -> float:
    """How far rounding of z can move the gradient of w1 by flipping its sign, in norm."""
    bound = 4 * eps * x.norm(dim=1)[:, None] * w1.norm(dim=1)
    i, j = torch.nonzero((x @ w1.T).abs() <= bound, as_tuple=True)
    size = x[i].norm(dim=1) * (df[i] * w2.T[j]).sum(1).abs()
    return float(torch.zeros(len(w1), dtype=x.dtype).index_add_(0, j, size).norm())


def _alternating() -> Case:
    """Calls of a millisecond that alternate with products in torch, which has threads of its own.

    The other contestant makes the same calls, first all products and then all of ours.
    """
    n, m, d, k, pairs = 1024, 1024, 64, 384, 20
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    w1 = torch.randn(m, d, generator=generator) / d**0.5
    w2 = torch.randn(1, m, generator=generator) / m**0.5
    square = torch.randn(k, k, generator=generator)

    def ours() -> Tensor:
        return lmc_fast.two_layer_relu(x, w1, None, w2, None)

    def alternating() -> None:
        for _ in range(pairs):
            square @ square
            ours()

    def apart() -> None:
        for _ in range(pairs):
            square @ square
        for _ in range(pairs):
            ours()

    def verify() -> None:
        exact = reference.two_layer_relu(x.double(), w1.double(), None, w2.double(), None)
        assert float((ours() - exact).norm() / exact.norm()) < 1e-5

    return Case(
        "two_layer_relu",
        f"alternating with torch products k={k}: {pairs} forward n={n} m={m} d={d} float32",
        {OURS: alternating, f"{OURS}, apart": apart},
        verify,
    )
