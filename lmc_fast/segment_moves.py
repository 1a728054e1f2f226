# SPDX-License-Identifier: MIT
"""Losses between two networks after a few neurons of one have changed places.

Both classes hold one pair of networks and a permutation, which :meth:`start` sets, and give the
loss at one of A alphas after a *move*: for neurons i_1, ..., i_L of a, neuron i_k is now matched
with what i_{k+1} was matched with, and i_L with what i_1 was. L = 2 swaps two, L = 3 is a cycle of
three; every permutation is made of swaps. Only the L interpolated neurons change, so that a move
costs O(L^2) kernels in closed form and O(L n c) operations on samples, and not the O(m^2) and
O(n m c) of a new network. All arithmetic is float64.
"""

from typing import Protocol

import torch
from torch import Tensor

from .inner_kernel import kernel_from_inner, weighted_kernels
from .losses import mean_loss
from .weights import Teacher, Weights

# Numbers that exist at once while moves are tried.
_NUMBERS = 2**21

# Those of one operation on a CPU, in whose cache they stay.
_CACHED_NUMBERS = 2**16


def _at_once(device: torch.device) -> int:
    """How many numbers one operation should make."""
    return _CACHED_NUMBERS if device.type == "cpu" else _NUMBERS


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

    def after(self, moves: Tensor, point: int) -> Tensor:
        """Losses (C,) at alpha number ``point`` after each of C moves alone.

        ``moves`` is int64 (C, L), the neurons i_1, ..., i_L.
        """


class PopulationMoves:
    """Population loss in closed form of pair p of networks without biases.

    With <f, g> = E f(x).g(x) and f* the teacher, the loss is <f - f*, f - f*> / 2. A move changes
    f by h, the L neurons that come in minus the L that leave, and the loss by
    <h, f - f*> + <h, h> / 2. There are m^2 neurons that can come in, a's i with b's j, and their
    products with f - f* are tabulated: a move takes 2 L entries of the table for the first term,
    and L (2 L - 1) kernels for the second.

    Parameters
    ----------
    a, b : Weights
    p : int
    teacher : Teacher
    alphas : float64 Tensor, shape (A,)
    scale : float
        E[x_i^2]; see :func:`lmc_fast.reference.population_loss.input_scale`.

    Notes
    -----
    The table takes A m^2 (m + M) kernels, and another permutation A m^2 for each neuron that leaves
    or comes in. It is computed anew when more than m have come in, so that rounding does not add
    up. About 10 A m^2 numbers are kept: 240 MB at m = 1000 and A = 3.
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
        (u, out), (v, out_other) = self._ends
        # Norms of all neurons i, j, and the weighted kernel of each with itself: (A, m, m).
        self._norms = self._lengths(u, v)
        self._squares = (self._norms * self._lengths(out, out_other)).square() / 2
        self._products = [self._inner(u, v), self._inner(out, out_other)]
        points = len(alphas)
        v1, v2 = (t.expand(points, -1, -1) for t in (self._v, self._v2))
        self._with_teacher = self._with_all(v1, v2)
        self._perm = torch.full((len(u),), -1, device=device)
        self._replaced = len(u)

    def together(self, length: int) -> int:
        # The search makes the best of so many moves, so that what it finds depends on this number.
        (u, _), points = self._ends[0], len(self._alpha)
        per_move = points * length * (len(u) + len(self._v) + u.shape[1])
        return max(1, _NUMBERS // per_move)

    def start(self, perm: Tensor) -> Tensor:
        q, e = self._between(torch.arange(len(perm), device=perm.device), perm)
        own = weighted_kernels(q, e, q, e).sum((1, 2)) / 2
        cross = weighted_kernels(q, e, self._v, self._v2).sum((1, 2))
        self._loss = own - cross + self._targets
        changed = (perm != self._perm).nonzero()[:, 0]
        self._replaced += len(changed)
        if self._replaced > len(perm):
            self._slope = self._with_all(q, e) - self._with_teacher
            self._replaced = 0
        elif len(changed) > 0:
            old_q, old_e = self._between(changed, self._perm[changed])
            q, e = torch.cat([q[:, changed], old_q], 1), torch.cat([e[:, changed], -old_e], 1)
            self._slope += self._with_all(q, e)
        self._perm = perm
        return self._scale * self._loss

    def after(self, moves: Tensor, point: int) -> Tensor:
        length = moves.shape[1]
        # The neurons that come in, then those that leave.
        i, j = moves.repeat(1, 2), self._perm[torch.cat([moves.roll(-1, 1), moves], 1)]
        sign = self._alpha.new_ones(2 * length)
        sign[length:] = -1
        r, s = torch.triu_indices(2 * length, 2 * length, 1, device=moves.device)
        mixed = self._pairs(point, i[:, r], j[:, r], i[:, s], j[:, s]) @ (sign[r] * sign[s])
        square = self._squares[point, i, j].sum(1) + 2 * mixed
        return self._scale * (self._loss[point] + self._slope[point, i, j] @ sign + square / 2)

    def _between(self, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolated neurons of a's i with b's j, and output weights: (A, k, d), (A, k, c)."""
        (u, out), (v, out_other) = self._ends
        alpha = self._alpha
        return (1 - alpha) * u[i] + alpha * v[j], (1 - alpha) * out[i] + alpha * out_other[j]

    def _lengths(self, start: Tensor, end: Tensor) -> Tensor:
        """Norms of (1 - alpha) start_i + alpha end_j, without cancellation: (A, m, m)."""
        alpha = self._alpha
        return torch.cdist(
            (1 - alpha) * start, -alpha * end, compute_mode="donot_use_mm_for_euclid_dist"
        )

    def _inner(self, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The parts of products of interpolated vectors: a's with a's, a's with b's, b's with b's.

        Three of (A, m, m), which hold their shares of alpha.
        """
        alpha = self._alpha
        return (
            (1 - alpha) ** 2 * (start @ start.T),
            alpha * (1 - alpha) * (start @ end.T),
            alpha**2 * (end @ end.T),
        )

    def _pairs(self, point: int, i: Tensor, j: Tensor, i2: Tensor, j2: Tensor) -> Tensor:
        """Weighted kernels at one alpha of the neurons i, j with the neurons i2, j2: as i."""
        inner, weight = (
            aa[point, i, i2] + ab[point, i, j2] + ab[point, i2, j] + bb[point, j, j2]
            for aa, ab, bb in self._products
        )
        norms = self._norms[point]
        return weight * kernel_from_inner(norms[i, j], norms[i2, j2], inner)

    def _with_all(self, w: Tensor, e: Tensor) -> Tensor:
        """Sums of the weighted kernels of i, j with w (A, L, d) and e (A, L, c): (A, m, m)."""
        alpha = self._alpha
        (u, out), (v, out_other) = self._ends
        starts = [(1 - alpha) * (u @ w.mT), (1 - alpha) * (out @ e.mT)]
        ends = [alpha * (v @ w.mT), alpha * (out_other @ e.mT)]
        norms = torch.linalg.vector_norm(w, dim=-1)[:, None, None]
        total = torch.empty_like(self._norms)
        rows = max(1, _at_once(w.device) // ends[0].numel())
        for first in range(0, len(u), rows):
            block = slice(first, first + rows)
            inner, weight = (
                start[:, block, None] + end[:, None]
                for start, end in zip(starts, ends, strict=True)
            )
            kernel = kernel_from_inner(self._norms[:, block, :, None], norms, inner)
            total[:, block] = (weight * kernel).sum(-1)
        return total


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

    def after(self, moves: Tensor, point: int) -> Tensor:
        z, out = self._ends[0]
        few = max(1, _at_once(z.device) // (z.shape[1] * (moves.shape[1] + out.shape[1])))
        return torch.cat([self._after(block, point) for block in torch.split(moves, few)])

    def _after(self, moves: Tensor, point: int) -> Tensor:
        alpha, sources = self._alphas[point], self._perm[moves.roll(-1, 1)]
        change = self._part(alpha, moves, sources) - self._part(alpha, moves, self._perm[moves])
        return mean_loss(self._outputs[point] + change, self._y, self._loss)

    def _part(self, alpha: float, i: Tensor, j: Tensor) -> Tensor:
        """Summed outputs of the interpolated neurons of a's i (..., k) with b's j: (..., n, c)."""
        (z, out), (z_other, out_other) = self._ends
        active = torch.lerp(z[i], z_other[j], alpha).relu_()
        # Outputs first: the product reads the activations as they lie.
        return (torch.lerp(out[i], out_other[j], alpha).mT @ active).mT
