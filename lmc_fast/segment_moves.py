# SPDX-License-Identifier: MIT
"""Losses between two networks after a few neurons of one have changed places.

Both classes hold one pair of networks and a permutation, which :meth:`start` sets, and give the
losses at A alphas after a *move*: for neurons i_1, ..., i_L of a, neuron i_k is now matched with
what i_{k+1} was matched with, and i_L with what i_1 was. L = 2 swaps two, L = 3 is a cycle of
three; every permutation is made of swaps. Only the L interpolated neurons change, so that a move
costs O(L m) kernels in closed form and O(L n c) on samples, and not the O(m^2) and O(n m c) of a
new network. All arithmetic is float64.
"""

from typing import Protocol

import torch
from torch import Tensor

from .inner_kernel import weighted_kernels
from .losses import mean_loss
from .weights import Teacher, Weights

# Numbers that exist at once while moves are tried.
_NUMBERS = 2**21


class Moves(Protocol):
    """What a search needs to know of a pair.

    Attributes
    ----------
    zero_loss : float
        Loss of the network that is zero everywhere: the scale for rounding.
    """

    zero_loss: float

    def together(self, length: int) -> int:
        """How many moves of ``length`` neurons to ask for in one call."""

    def start(self, perm: Tensor) -> Tensor:
        """Match by ``perm`` (m,) from now on; the losses (A,)."""

    def after(self, moves: Tensor) -> Tensor:
        """Losses (A, C) after each of C moves alone; int64 (C, L), the neurons i_1, ..., i_L."""


class PopulationMoves:
    """Population loss in closed form of pair p of networks without biases.

    Parameters
    ----------
    a, b : Weights
    p : int
    teacher : Teacher
    alphas : float64 Tensor, shape (A,)
    scale : float
        E[x_i^2]; see :func:`lmc_fast.reference.population_loss.input_scale`.
    """

    def __init__(
        self, a: Weights, b: Weights, p: int, teacher: Teacher, alphas: Tensor, scale: float
    ) -> None:
        device = a.w1.device
        self._ends = [(net.w1.double(), net.w2.double().T) for net in (a.alone(p), b.alone(p))]
        self._v, self._v2 = teacher.v1.to(device), teacher.v2.to(device).T
        self._alpha = alphas.to(device)[:, None, None]
        self._scale = scale
        self._targets = weighted_kernels(self._v, self._v2, self._v, self._v2).sum() / 2
        self.zero_loss = float(scale * self._targets)

    def together(self, length: int) -> int:
        (u, _), points = self._ends[0], len(self._alpha)
        per_move = points * length * (len(u) + len(self._v) + u.shape[1])
        return max(1, _NUMBERS // per_move)

    def start(self, perm: Tensor) -> Tensor:
        self._perm = perm
        self._q, self._e = self._between(torch.arange(len(perm), device=perm.device), perm)
        self._own = weighted_kernels(self._q, self._e, self._q, self._e)
        self._cross = weighted_kernels(self._q, self._e, self._v, self._v2).sum(2)
        self._loss = self._own.sum((1, 2)) / 2 - self._cross.sum(1) + self._targets
        return self._scale * self._loss

    def after(self, moves: Tensor) -> Tensor:
        count, length = moves.shape
        points = len(self._alpha)
        flat = moves.flatten()
        q, e = self._between(flat, self._perm[moves.roll(-1, 1)].flatten())
        cross = weighted_kernels(q, e, self._v, self._v2).sum(2) - self._cross[:, flat]
        # With every neuron as it is now, of which those that move are taken out again.
        with_all = weighted_kernels(q, e, self._q, self._e).view(points, count, length, -1)
        members = moves[None, :, None, :].expand(points, count, length, length)
        among = with_all.gather(3, members).sum((2, 3))
        old = self._own[:, moves[:, :, None], moves[:, None, :]].sum((2, 3))
        old_with_all = self._own.sum(2)[:, moves].sum(2)
        q, e = q.view(points, count, length, -1), e.view(points, count, length, -1)
        new = weighted_kernels(q, e, q, e).sum((2, 3))
        # 1/2 sum over the moved, and their products with the others, before and after.
        own = (with_all.sum((2, 3)) - among + new / 2) - (old_with_all - old + old / 2)
        change = own - cross.view(points, count, length).sum(2)
        return self._scale * (self._loss[:, None] + change)

    def _between(self, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolated neurons of a's i with b's j, and output weights: (A, k, d), (A, k, c)."""
        (u, out), (v, out_other) = self._ends
        alpha = self._alpha
        return (1 - alpha) * u[i] + alpha * v[j], (1 - alpha) * out[i] + alpha * out_other[j]


class SampledMoves:
    """Loss on n samples of pair p of networks.

    Parameters
    ----------
    a, b : Weights
    p : int
    x : Tensor, shape (n, d)
    y : Tensor
        As :func:`lmc_fast.losses.mean_loss` takes it.
    loss : {"mse", "cross_entropy"}
    alphas : float64 Tensor, shape (A,)
    """

    def __init__(
        self, a: Weights, b: Weights, p: int, x: Tensor, y: Tensor, loss: str, alphas: Tensor
    ) -> None:
        self._alphas = alphas.tolist()
        # Pre-activations with neurons first, so that those of a neuron lie together.
        self._ends = []
        for net in (a.alone(p), b.alone(p)):
            z = net.w1.double() @ x.double().T
            if net.b1 is not None:
                z += net.b1.double()[:, None]
            self._ends.append((z, net.w2.double().T))
        zero = a.w2.new_zeros(a.w2.shape[1], dtype=torch.float64)
        self._b2 = [zero if net.b2 is None else net.b2[p].double() for net in (a, b)]
        self._y = y.double() if loss == "mse" else y
        self._loss = loss
        outputs = zero.expand(len(x), -1)
        self.zero_loss = float(mean_loss(outputs, self._y, loss))

    def together(self, length: int) -> int:
        z, out = self._ends[0]
        return max(1, _NUMBERS // (z.shape[1] * (2 * length + 2 * out.shape[1])))

    def start(self, perm: Tensor) -> Tensor:
        self._perm = perm
        everyone = torch.arange(len(perm), device=perm.device)
        self._outputs = [
            self._part(alpha, everyone, perm) + (1 - alpha) * self._b2[0] + alpha * self._b2[1]
            for alpha in self._alphas
        ]
        return torch.stack([mean_loss(f, self._y, self._loss) for f in self._outputs])

    def after(self, moves: Tensor) -> Tensor:
        sources, now = self._perm[moves.roll(-1, 1)], self._perm[moves]
        losses = []
        for alpha, outputs in zip(self._alphas, self._outputs, strict=True):
            change = self._part(alpha, moves, sources) - self._part(alpha, moves, now)
            losses.append(mean_loss(outputs + change, self._y, self._loss))
        return torch.stack(losses)

    def _part(self, alpha: float, i: Tensor, j: Tensor) -> Tensor:
        """Summed outputs of the interpolated neurons of a's i (..., k) with b's j: (..., n, c)."""
        (z, out), (z_other, out_other) = self._ends
        active = ((1 - alpha) * z[i] + alpha * z_other[j]).relu()
        return active.mT @ ((1 - alpha) * out[i] + alpha * out_other[j])
