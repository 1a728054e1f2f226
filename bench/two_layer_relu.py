# SPDX-License-Identifier: MIT
"""Forward and backward of the fused network against eager torch."""

from collections.abc import Iterator

import torch
from torch import Tensor

import lmc_fast
from lmc_fast.reference import two_layer_relu as reference

from .timer import OURS, Case

SIZES = [  # n, m, d, c, dtype, in the quick selection
    (4096, 16384, 16, 1, torch.float32, True),
    (4096, 16384, 64, 1, torch.float32, False),
    (4096, 8192, 256, 1, torch.float32, False),
    (4096, 4096, 784, 1, torch.float32, True),
    (4096, 4096, 784, 10, torch.float32, False),
    (4096, 4096, 64, 1, torch.float64, False),
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

    def verify() -> None:
        # The first samples suffice for f; the gradients need them all.
        wide = [t.detach().double() for t in (w1, w2)]
        for t in wide:
            t.requires_grad_()
        f = reference.two_layer_relu(x.double(), wide[0], None, wide[1], None)
        exact = (f, *torch.autograd.grad(f, wide, df.double()))
        for ours, want in zip(step(lmc_fast.two_layer_relu), exact, strict=True):
            error = float(((ours - want).norm() / want.norm()).detach())
            assert error < 20 * torch.finfo(dtype).eps, f"relative error {error:.1e}"

    return Case(
        "two_layer_relu",
        f"forward+backward n={n} m={m} d={d} c={c} {str(dtype)[6:]}",
        {
            OURS: lambda: step(lmc_fast.two_layer_relu),
            "eager": lambda: step(reference.two_layer_relu),
        },
        verify,
        work=4.0 * n * m * d,
        quick=quick,
    )
