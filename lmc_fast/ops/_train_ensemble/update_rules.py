# SPDX-License-Identifier: MIT
"""How a step follows from the gradients: w <- w - lr * direction."""

from typing import Protocol

import torch
from torch import Tensor

from ...ensemble import EnsembleProblem


class UpdateRule(Protocol):
    """The direction of a step, and what is remembered of the steps before."""

    def __call__(self, dw1: Tensor, dw2: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Directions (S, m, d), and (S, c, m) if w2 is trained, for this step's gradients."""

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the students."""


def rule_of(problem: EnsembleProblem, w1: Tensor, w2: Tensor) -> UpdateRule:
    """The rule of the problem's method, for weights of these shapes and dtype."""
    if problem.method != "adam":
        return Descent()
    return Adam([w1, w2] if problem.train_w2 else [w1])


class Descent:
    """Along the gradient."""

    def __call__(self, dw1: Tensor, dw2: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The gradients."""
        return dw1, dw2

    def keep(self, rows: Tensor) -> None:
        """Nothing is remembered."""


class Adam:
    """torch.optim.Adam with its default betas and eps.

    It moves zeros with step size 1, so that students may have a step size each, and one that has
    stopped keeps its weights. Its plain loop of tensor operations is asked for: what the fused one
    gives an element depends in its last bits on where in the tensor it stands.
    """

    def __init__(self, weights: list[Tensor]) -> None:
        self.moved = [torch.zeros_like(w) for w in weights]
        self.optimizer = torch.optim.Adam(self.moved, lr=1.0, foreach=False, fused=False)

    def __call__(self, dw1: Tensor, dw2: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Minus what the optimizer adds."""
        for moved, gradient in zip(self.moved, (dw1, dw2), strict=False):
            moved.zero_()
            moved.grad = gradient
        self.optimizer.step()
        directions = [moved.neg_() for moved in self.moved]
        return directions[0], None if dw2 is None else directions[1]

    def keep(self, rows: Tensor) -> None:
        """Leave out the other students' means."""
        kept = Adam([moved[rows] for moved in self.moved])
        for old, new in zip(self.moved, kept.moved, strict=True):
            kept.optimizer.state[new] = {
                name: value[rows] if value.ndim else value
                for name, value in self.optimizer.state[old].items()
            }
        self.moved, self.optimizer = kept.moved, kept.optimizer
