# SPDX-License-Identifier: MIT
"""The best of all permutations, by trying every one: the judge of matchings of small networks."""

import itertools
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from .curves import as_alphas
from .inner_kernel import weighted_kernels
from .matching import Matching
from .ops.population_path_losses import population_path_losses
from .permutation_check import check_reordering
from .reference.population_loss import input_scale
from .weights import Teacher, as_teacher, as_weights, check_same_architecture

MOST_NEURONS = 8  # 8! = 40,320 permutations

# Permutations per block.
_BLOCK = 8192

# What rounding may add to an excess, as a share of the zero network's loss.
_SLACK = 1e-12


def best_matching(
    a: object,
    b: object,
    *,
    teacher: object,
    alphas: int | Sequence[float] | Tensor = 25,
    inputs: str = "gaussian",
    radius: float = 1.0,
) -> Matching:
    """The permutation of least barrier (``"chord"``) of the population loss, among all m!.

    Parameters
    ----------
    a, b : network
        Anything :func:`lmc_fast.as_weights` reads, without biases; P networks each, of one shape,
        dtype and device, and of m <= 8 neurons.
    teacher, alphas, inputs, radius
        As for :func:`lmc_fast.barrier`, whose barrier is the smallest one can have there.

    Returns
    -------
    Matching
        ``method`` is ``"best"``, and ``cost`` the barrier. Of equally good permutations, it is the
        first in lexicographic order.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.

    Notes
    -----
    An interpolated neuron depends on (i, perm[i]) alone. Of all m^2 of them the kernels with each
    other and with the teacher's are computed once for an alpha, and the loss of a permutation is a
    sum of m (m + 1) / 2 of the entries. An excess over the chord at one alpha is a lower bound of
    the barrier: permutations whose bound is above a barrier that was reached are dropped before the
    next alpha. O(A m^4 (d + c)) operations for a pair, and O(m! m^2) additions and few more.
    """
    a, b = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(a, b)
    pairs, m, d, c = a.sizes
    if m > MOST_NEURONS:
        raise ValueError(
            f"a and b must have at most {MOST_NEURONS} neurons for all permutations to be tried; "
            f"got m = {m}. Use match, and refine"
        )
    points = as_alphas(alphas)
    started = time.perf_counter()
    with torch.no_grad():
        ends = population_path_losses(a, b, teacher, [0.0, 1.0], inputs, radius).losses.cpu()
        target = as_teacher(teacher, d, c)
        scale = input_scale(inputs, radius, d)
        orders = torch.tensor(list(itertools.permutations(range(m))))
        # From the middle outwards, where most permutations show that they are not the best.
        inner = sorted(
            points[(points > 0) & (points < 1)].tolist(), key=lambda alpha: abs(alpha - 0.5)
        )
        perm = torch.empty(pairs, m, dtype=torch.int64)
        least = torch.empty(pairs, dtype=torch.float64)
        for p, (start, end) in enumerate(ends.tolist()):
            u, v, out, out_other = (t[p].double().cpu() for t in (a.w1, b.w1, a.w2.mT, b.w2.mT))
            tables = [
                _Table((1 - alpha) * u[:, None] + alpha * v,
                       (1 - alpha) * out[:, None] + alpha * out_other,
                       target, scale, (1 - alpha) * start + alpha * end)
                for alpha in inner
            ]  # fmt: skip
            left, height = orders, torch.zeros(len(orders), dtype=torch.float64)
            for table in tables:
                height = torch.maximum(height, table.excess(left))
                if table is tables[0]:
                    candidate = left[height.argmin()][None]
                    reached = max(0.0, *(float(other.excess(candidate)) for other in tables))
                # No permutation that exceeds a whole barrier at one alpha is the best one.
                keep = height <= reached + _SLACK * table.zero_loss
                left, height = left[keep], height[keep]
            best = int((height == height.min()).to(torch.int8).argmax())
            perm[p], least[p] = left[best], height[best]
    check_reordering(b, perm, "b")
    return Matching(perm, least, time.perf_counter() - started, "best")


class _Table:
    """Losses at one alpha, over the chord there, of any permutation.

    Parameters
    ----------
    q, e : Tensor, shape (m, m, d) and (m, m, c)
        The neuron between a's i and b's j, and its output weights.
    target : Teacher
    scale, chord : float
    """

    def __init__(self, q: Tensor, e: Tensor, target: Teacher, scale: float, chord: float) -> None:
        q, e = q.flatten(0, 1), e.flatten(0, 1)
        v, v2 = target.v1.cpu(), target.v2.cpu().T
        with_itself = scale * weighted_kernels(q, e, q, e)
        cross = scale * weighted_kernels(q, e, v, v2).sum(1)
        self.zero_loss = scale * float(weighted_kernels(v, v2, v, v2).sum()) / 2
        self._pairs = with_itself.flatten()
        self._alone = with_itself.diagonal() / 2 - cross
        self._constant = self.zero_loss - chord

    def excess(self, orders: Tensor) -> Tensor:
        """Loss minus chord of each permutation: (N, m) -> (N,)."""
        m = orders.shape[1]
        first, second = torch.triu_indices(m, m, 1)
        excess = torch.empty(len(orders), dtype=torch.float64)
        for block, part in zip(
            torch.split(orders, _BLOCK), torch.split(excess, _BLOCK), strict=True
        ):
            chosen = block + m * torch.arange(m)
            pairs = self._pairs[chosen[:, first] * m**2 + chosen[:, second]]
            part[:] = pairs.sum(1) + self._alone[chosen].sum(1) + self._constant
        return excess
