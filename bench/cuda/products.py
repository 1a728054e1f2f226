# SPDX-License-Identifier: MIT
"""What the rows of ops on large matrix products share: sizes, precisions, bounds."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..timer import OURS
from .case import Target, Work
from .settings import level_1

BLOCK = 2**26  # numbers of a float64 block of the reference
LEVEL_1 = f"{OURS}, level 1"  # without tensor cores

# Matrix products in bfloat16 that stand for one of the given precision. Forward both operands are
# split; backward with one output the left one is a mask of zeros and ones.
FORWARD_PRODUCTS = {"float32": 6, "tf32": 3, "bf16": 1}
MASK_PRODUCTS = {"float32": 3, "tf32": 2, "bf16": 1}

# Relative errors in norm: of sums over neurons, and of the gradient to w1. In the latter a neuron
# whose z rounds to the other side of zero counts in full, however small z is: a fraction p of such
# gives an error near sqrt(2 p).
ALLOWED = {
    "float64": (1e-12, 1e-6),
    "float32": (1e-5, 5e-3),
    "tf32": (1e-3, 5e-2),
    "bf16": (2e-2, 1e-1),
}


@dataclass(frozen=True)
class Size:
    """n samples, m neurons, d inputs, c outputs, and what they are held to."""

    op: ClassVar[str]

    n: int
    m: int
    d: int
    c: int = 1
    dtype: torch.dtype = torch.float32
    level_1: bool = False
    targets: tuple[Target, ...] = ()

    def quick(self) -> "Size":
        """A quarter of n and m."""
        return replace(self, n=self.n // 4, m=self.m // 4, targets=())

    def precisions(self) -> dict[str, str]:
        """Name of contestant to precision, for those of ours on tensor cores (or in float64)."""
        if self.dtype == torch.float64:
            return {OURS: "float32"}  # which says nothing of float64 tensors
        return {OURS: "float32", f"{OURS}, tf32": "tf32", f"{OURS}, bf16": "bf16"}

    def contestants(self, call: Callable[[str], Any]) -> dict[str, Callable[[], Any]]:
        """Ours: ``call`` takes a precision."""
        found = {name: partial(call, precision) for name, precision in self.precisions().items()}
        if self.level_1:
            found[LEVEL_1] = partial(level_1, found[OURS])
        return found

    def allowed(self, name: str, what: str) -> float:
        """Bound on an error of ours."""
        double = self.dtype == torch.float64
        smooth, signs = ALLOWED["float64" if double else self._precision(name)]
        return signs if what == "dw1" else smooth

    def work(self) -> dict[str, Work]:
        """Of all contestants of ours."""
        names = [*self.precisions(), *([LEVEL_1] if self.level_1 else [])]
        return {
            name: Work(*self.operations(self._precision(name), name != LEVEL_1), self.bytes())
            for name in names
        }

    def operations(self, precision: str, tensor_cores: bool) -> tuple[str, float]:
        """The unit that multiplies, and the operations of our kernels' products on it.

        What else they do (w2, biases, crossings, losses) is not counted.
        """
        one = 2.0 * self.n * self.m * self.d
        if self.dtype == torch.float64 or not tensor_cores:
            return str(self.dtype)[6:], self.products(1, 1) * one
        forward, mask = FORWARD_PRODUCTS[precision], MASK_PRODUCTS[precision]
        return "bfloat16", self.products(forward, mask) * one

    def products(self, forward: int, mask: int) -> int:
        """How many, where each stands for ``forward`` and one with a mask for ``mask``."""
        raise NotImplementedError

    def bytes(self) -> float:
        """Every input read once, every result written once."""
        raise NotImplementedError

    def normal(self, device: str) -> Callable[..., Tensor]:
        """Draws tensors of a shape."""
        generator = torch.Generator(device).manual_seed(0)
        return lambda *shape: torch.randn(
            shape, generator=generator, dtype=self.dtype, device=device
        )

    def _precision(self, name: str) -> str:
        return "float32" if name == LEVEL_1 else self.precisions()[name]


TF32_OFF, TF32_ON = "eager, TF32 off", "eager, TF32 on"
