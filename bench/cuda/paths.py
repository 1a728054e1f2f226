# SPDX-License-Identifier: MIT
"""Rows of path_losses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

import lmc_fast

from . import products, settings
from .case import Case, relative
from .device import Device
from .products import Size

EAGER_ALPHAS, TWO_PRODUCTS_ALPHAS = 5, 25  # about so many are timed, and scaled up
LOOP, LOOP_TF32, PRODUCTS = "eager loop, TF32 off", "eager loop, TF32 on", "two products, TF32 off"


@dataclass(frozen=True)
class Path(Size):
    """Losses at A points between two networks."""

    op: ClassVar[str] = "path_losses"

    A: int = 2

    def __str__(self) -> str:
        dtype = str(self.dtype)[6:]
        return f"mse n={self.n} m={self.m} d={self.d} c={self.c} A={self.A} {dtype}"

    def products(self, forward: int, mask: int) -> int:
        """See Size."""
        return 2 * forward

    def bytes(self) -> float:
        """See Size."""
        n, m, d, c = self.n, self.m, self.d, self.c
        return self.dtype.itemsize * (n * d + 2 * m * d + 2 * c * m + n * c) + 8.0 * self.A

    def case(self, device: Device) -> Case:
        """Draw the inputs."""
        n, m, d, c, A = self.n, self.m, self.d, self.c, self.A
        normal = self.normal(device.name)
        x, y = normal(n, d), normal(n, c)
        a, b = ((normal(m, d).div_(d**0.5), normal(c, m).div_(m**0.5)) for _ in "ab")
        alphas = torch.linspace(0, 1, A, dtype=torch.float64)

        def ours(precision: str) -> tuple[Tensor, ...]:
            curve = lmc_fast.path_losses(a, b, x, y, alphas=alphas, loss="mse", precision=precision)
            return (curve.losses[0],)

        exact = exact_path(a, b, x, y, alphas.tolist())
        contestants: dict[str, Callable[[], tuple[Tensor, ...]]] = self.contestants(ours)
        share, every = {}, {}
        baselines = [(LOOP, _eager_loop, EAGER_ALPHAS, False)]
        if self.dtype == torch.float32:
            baselines.append((LOOP_TF32, _eager_loop, EAGER_ALPHAS, True))
        baselines.append((PRODUCTS, _two_products, TWO_PRODUCTS_ALPHAS, False))
        for name, loop, most, on in baselines:
            step = max(1, A // most)
            looped = alphas[::step].tolist()
            if len(looped) < A:
                name += f" ({len(looped)} alphas, scaled to {A})"
                share[name] = len(looped) / A
            every[name] = step
            contestants[name] = partial(settings.eager, partial(loop, a, b, x, y, looped), on)

        def errors(name: str, result: tuple[Tensor, ...]) -> dict[str, float]:
            return {"losses": relative(result[0], exact[:: every.get(name, 1)])}

        return Case(
            self.op,
            str(self),
            contestants,
            errors,
            self.allowed,
            self.work(),
            self.targets,
            share,
        )


Net = tuple[Tensor, Tensor]


def _eager_loop(
    a: Net, b: Net, x: Tensor, y: Tensor, alphas: Sequence[float]
) -> tuple[Tensor, ...]:
    """Interpolate the weights and run the network, once per alpha."""
    losses = []
    for alpha in alphas:
        w1, w2 = torch.lerp(a[0], b[0], alpha), torch.lerp(a[1], b[1], alpha)
        losses.append(_loss((x @ w1.T).relu() @ w2.T, y))
    return (torch.stack(losses),)


def _two_products(
    a: Net, b: Net, x: Tensor, y: Tensor, alphas: Sequence[float]
) -> tuple[Tensor, ...]:
    """Use that z is linear in alpha: both pre-activations once, then a loop over the alphas."""
    z_a, z_b = x @ a[0].T, x @ b[0].T
    losses = []
    for alpha in alphas:
        w2 = torch.lerp(a[1], b[1], alpha)
        losses.append(_loss(torch.lerp(z_a, z_b, alpha).relu_() @ w2.T, y))
    return (torch.stack(losses),)


def _loss(f: Tensor, y: Tensor) -> Tensor:
    return (f - y).square().sum(1).mean() / 2


def exact_path(a: Net, b: Net, x: Tensor, y: Tensor, alphas: Sequence[float]) -> Tensor:
    """Losses in float64, a block of samples at a time."""
    (w1_a, w2_a), (w1_b, w2_b) = ((w1.double(), w2.double()) for w1, w2 in (a, b))
    sums = torch.zeros(len(alphas), dtype=torch.float64, device=x.device)
    rows = max(1, products.BLOCK // len(w1_a))
    for x_block, y_block in zip(x.split(rows), y.split(rows), strict=True):
        z_a, z_b = x_block.double() @ w1_a.T, x_block.double() @ w1_b.T
        for k, alpha in enumerate(alphas):
            f = torch.lerp(z_a, z_b, alpha).relu_() @ torch.lerp(w2_a, w2_b, alpha).T
            sums[k] += (f - y_block.double()).square().sum() / 2
    return sums / len(x)
