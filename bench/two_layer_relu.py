# SPDX-License-Identifier: MIT
"""Forward and backward of the fused network against eager torch."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

import lmc_fast
from lmc_fast.reference import two_layer_relu as reference

from . import jax_baselines
from .timer import OURS, Case

SIZES = [  # n, m, d, c, dtype, in the quick selection
    (4096, 16384, 16, 1, torch.float32, True),
    (4096, 16384, 64, 1, torch.float32, False),
    (4096, 8192, 256, 1, torch.float32, False),
    (4096, 4096, 784, 1, torch.float32, True),
    (4096, 4096, 784, 10, torch.float32, False),
    (4096, 4096, 64, 1, torch.float64, False),
    (1, 1, 1, 1, torch.float32, True),
    (16, 16, 16, 1, torch.float32, False),
    (64, 64, 64, 1, torch.float32, True),
    (256, 256, 64, 10, torch.float32, False),
]


def cases() -> Iterator[Case]:
    """All rows of this op."""
    for n, m, d, c, dtype, quick in SIZES:
        yield _case(n, m, d, c, dtype, quick)


def _case(n: int, m: int, d: int, c: int, dtype: torch.dtype, quick: bool) -> Case:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    w1 = torch.randn(m, d, generator=generator, dtype=dtype).div_(d**0.5).requires_grad_()
    w2 = torch.randn(c, m, generator=generator, dtype=dtype).div_(m**0.5).requires_grad_()
    df = torch.randn(n, c, generator=generator, dtype=dtype)

    def step(network) -> tuple[Tensor, ...]:
        f = network(x, w1, None, w2, None)
        return (f, *torch.autograd.grad(f, (w1, w2), df))

    jax_run = jax_baselines.contestant(jax_baselines.two_layer_relu, x, w1, w2, df)

    def verify() -> None:
        eps = torch.finfo(dtype).eps
        wide = [t.detach().double().requires_grad_() for t in (w1, w2)]
        f = reference.two_layer_relu(x.double(), wide[0], None, wide[1], None)
        exact = (f, *torch.autograd.grad(f, wide, df.double()))
        allowed = [20 * eps * float(want.detach().norm()) for want in exact]
        allowed[1] += _sign_slack(x.double(), *(t.detach() for t in wide), df.double(), eps)
        results = {OURS: step(lmc_fast.two_layer_relu)}
        for name, call in jax_run.items():
            results[name] = tuple(torch.tensor(np.asarray(r)) for r in call())
        for name, result in results.items():
            for got, want, bound in zip(result, exact, allowed, strict=True):
                error = float((got - want).detach().norm())
                assert error <= bound, f"{name}: error {error:.1e}, allowed {bound:.1e}"

    return Case(
        "two_layer_relu",
        f"forward+backward n={n} m={m} d={d} c={c} {str(dtype)[6:]}",
        {
            OURS: lambda: step(lmc_fast.two_layer_relu),
            "eager": lambda: step(reference.two_layer_relu),
            **jax_run,
        },
        verify,
        work=4.0 * n * m * d,
        dtype=dtype,
        quick=quick,
    )


def _sign_slack(x: Tensor, w1: Tensor, w2: Tensor, df: Tensor, eps: float) -> float:
    """How far rounding of z can move the gradient of w1 by flipping its sign, in norm."""
    bound = 4 * eps * x.norm(dim=1)[:, None] * w1.norm(dim=1)
    i, j = torch.nonzero((x @ w1.T).abs() <= bound, as_tuple=True)
    size = x[i].norm(dim=1) * (df[i] * w2.T[j]).sum(1).abs()
    return float(torch.zeros(len(w1), dtype=x.dtype).index_add_(0, j, size).norm())
