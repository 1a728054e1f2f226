# SPDX-License-Identifier: MIT
"""Rows of two_layer_relu."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

import lmc_fast
from lmc_fast.reference import two_layer_relu as reference

from . import products, settings
from .case import Case, relative
from .device import Device
from .products import TF32_OFF, TF32_ON, Size


@dataclass(frozen=True)
class Network(Size):
    """Outputs and the gradients to both layers."""

    op: ClassVar[str] = "two_layer_relu"

    def __str__(self) -> str:
        dtype = str(self.dtype)[6:]
        return f"forward+backward n={self.n} m={self.m} d={self.d} c={self.c} {dtype}"

    def products(self, forward: int, mask: int) -> int:
        """See Size."""
        # Several outputs: the left operand is no mask, and the gradient to w2 makes z once more.
        return forward + (mask if self.c == 1 else 2 * forward)

    def bytes(self) -> float:
        """See Size; sign bits are written and read."""
        n, m, d, c = self.n, self.m, self.d, self.c
        return self.dtype.itemsize * (n * d + 2 * (m * d + c * m + n * c)) + 2 * n * m / 8

    def case(self, device: Device) -> Case:
        """Draw the inputs."""
        n, m, d, c = self.n, self.m, self.d, self.c
        normal = self.normal(device.name)
        x, df = normal(n, d), normal(n, c)
        w1 = normal(m, d).div_(d**0.5).requires_grad_()
        w2 = normal(c, m).div_(m**0.5).requires_grad_()

        def step(f: Tensor) -> tuple[Tensor, ...]:
            return (f.detach(), *torch.autograd.grad(f, (w1, w2), df))

        def ours(precision: str) -> tuple[Tensor, ...]:
            return step(lmc_fast.two_layer_relu(x, w1, None, w2, None, precision=precision))

        def eager() -> tuple[Tensor, ...]:
            return step(reference.two_layer_relu(x, w1, None, w2, None))

        f_exact, dw1_exact, dw2_exact = exact_network(x, w1.detach(), w2.detach(), df)
        wide = w1.detach().double()

        def errors(name: str, result: tuple[Tensor, ...]) -> dict[str, float]:
            f, dw1, dw2 = result
            return {
                "f": relative(f, f_exact),
                "dw1": relative(dw1, dw1_exact),
                "dw2": relative(dw2, dw2_exact),
                # Hardly moved by a neuron on the wrong side of zero, as there z is small.
                "dw1.w1": relative((dw1.double() * wide).sum(1), (dw1_exact * wide).sum(1)),
            }

        contestants = self.contestants(ours) | {TF32_OFF: partial(settings.eager, eager, False)}
        if self.dtype == torch.float32:
            contestants[TF32_ON] = partial(settings.eager, eager, True)
        return Case(
            self.op,
            str(self),
            contestants,
            errors,
            self.allowed,
            self.work(),
            self.targets,
        )


def exact_network(x: Tensor, w1: Tensor, w2: Tensor, df: Tensor) -> tuple[Tensor, ...]:
    """Outputs and gradients to w1, w2 in float64, a block of samples at a time."""
    w1, w2 = w1.double(), w2.double()
    dw1, dw2, f = torch.zeros_like(w1), torch.zeros_like(w2), []
    rows = max(1, products.BLOCK // len(w1))
    for x_block, df_block in zip(x.split(rows), df.split(rows), strict=True):
        x_wide, df_wide = x_block.double(), df_block.double()
        h = (x_wide @ w1.T).relu_()
        f.append(h @ w2.T)
        dw2 += df_wide.T @ h
        dw1 += ((df_wide @ w2) * (h > 0)).T @ x_wide
    return torch.cat(f), dw1, dw2
