# SPDX-License-Identifier: MIT
r"""Random global minima of any width, and the barrier between two of them, grouped by types.

With w2 = 1 and M orthonormal teacher neurons v_j, a global minimum is a list of shares c > 0 of
types j, those of a type summing to 1, and dead neurons (see :mod:`lmc_fast.theory`). Where a
matching puts (c, j) against (c', k), the neuron at alpha is A v_j + B v_k, A = (1 - alpha) c and
B = alpha c'. Its share of the residual f* - f_alpha is, with y = v_j.x and z = v_k.x,

    g = A relu(y) + B relu(z) - relu(A y + B z) >= 0,

zero where j = k or one of the two is dead (A = 0 or B = 0). The loss along the segment is therefore
that of the K mixed pairs, j != k, alone,

    L(alpha) = E (sum_p g_p)^2 / 2,

which is the population loss of K neurons A v_j + B v_k with w2 = 1 and M neurons t_j v_j with
w2 = -1, t_j the sum of all A and B of type j, against a teacher that is zero. Their weights are
linear in alpha, so that this is a segment between two networks. It is exact, takes O((K + M)^2)
operations, and subtracts nothing that is larger than the mixed neurons themselves.

**The matching.** At least K = max(0, sum_j max(n_j, n'_j) - m) pairs are mixed. Since
E relu(A y + B z) = sqrt(A^2 + B^2) / sqrt(2 pi),

    E g = h(A, B) = (A + B - sqrt(A^2 + B^2)) / sqrt(2 pi),

which rises in A and in B and has h_AB >= 0. Pairing within types, leaving over the smallest shares
of every type, putting the largest of them against dead neurons, and pairing the K smallest of a in
rising order with the K smallest of b in falling order hence minimises E |f_alpha - f*| = sum_p E
g_p, at every alpha, among the permutations with K mixed pairs. Its barrier is an upper bound on the
least barrier over all permutations (for m = 5 to 7, of all pairs' means, up to 1.2 times it;
``match(cost="gap")`` is up to 1.2 times better at m = 320). :func:`barrier_floor` is a lower one.

**Large m.** n_j - n'_j has variance 2 m q (1 - q), q = (1 - r) / M, for a death rate r, so that

    E sum_j max(n_j, n'_j) - m = M sqrt(m q (1 - q) / pi) - r m + o(sqrt(m)).

Without dead neurons E K = sqrt((M - 1) m / pi). The i-th smallest of n_j = m / M uniform shares is
about i (M / m)^2, so the K smallest shares add up to O(K^2 / m^2) = O(1 / m), and both bounds on
the barrier are of order (1 / m)^2: the least barrier over all permutations falls as m^-2. With
r > 0 the right-hand side changes its sign at :func:`crossover_width`; beyond it K = 0, and the
barrier is exactly zero, but for a probability that falls exponentially with m.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .curves import PathLosses
from .ops.population_path_losses import population_path_losses

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Sampling by rejection needs 1 / coverage tries.
LEAST_COVERAGE = 1e-3


class GroupedMinimum(NamedTuple):
    """A global minimum up to the order of its neurons.

    Attributes
    ----------
    shares : tuple of M float arrays, shape (n_j,)
        Multiples of each teacher neuron, rising, positive, summing to 1.
    dead : int
        Neurons that are zero.
    """

    shares: tuple[Floats, ...]
    dead: int

    @property
    def counts(self) -> Ints:
        """n_j, the neurons of each type: (M,)."""
        return np.array([len(shares) for shares in self.shares], dtype=np.int64)

    @property
    def width(self) -> int:
        """m, dead neurons included."""
        return self.dead + int(self.counts.sum())


class MixedPairs(NamedTuple):
    """The K pairs of neurons of different types: shares and types of a and of b, each (K,)."""

    share_a: Floats
    type_a: Ints
    share_b: Floats
    type_b: Ints


@lru_cache(maxsize=256)
def coverage(M: int, m: int, death: float = 0.0) -> float:
    """Probability that every type occurs among m neurons of the unconditioned law.

    With q = (1 - death) / M: neuron by neuron, of k types seen the next one shows a new type with
    probability (M - k) q. Where types are rarely missing, M (1 - q)^m < 1/2, by inclusion and
    exclusion, sum_k (-1)^k C(M, k) (1 - k q)^m, whose terms then fall at once.
    """
    q = (1 - death) / M
    if m < M:
        return 0.0
    if M * (1 - q) ** m < 0.5:
        return math.fsum((-1) ** k * math.comb(M, k) * (1 - k * q) ** m for k in range(M + 1))
    seen = np.arange(M + 1)
    stay, new = death + seen * q, (M - seen) * q
    chance = np.zeros(M + 1)
    chance[0] = 1.0
    for _ in range(m):
        moved = chance * new
        chance *= stay
        chance[1:] += moved[:-1]
    return float(chance[M])


def sample_grouped_minimum(M: int, m: int, seed: int = 0, death: float = 0.0) -> GroupedMinimum:
    """One global minimum from the uniform law.

    Each of m neurons is, independently, dead with probability ``death`` or of a uniformly random
    type, conditioned on every type occurring; the shares of a type are then uniform on the simplex,
    Dirichlet(1, ..., 1). (:func:`lmc_fast.sample_global_minima` has every type present by giving
    the first M living neurons one each: another law where m is near M.)

    Parameters
    ----------
    M, m : int
        Width of the teacher, and of the student, at least M.
    seed : int
        The minimum depends on (seed, m) and the arguments alone.
    death : float
        In [0, 1).

    Raises
    ------
    ValueError
        An argument out of range, or so few neurons that :func:`coverage` is below 0.001.

    Notes
    -----
    Counts are multinomial, drawn again until none is zero; shares are exponential variables over
    their sum (Devroye, Non-Uniform Random Variate Generation, 1986, chapter V.2). O(m log m).
    """
    if M < 1 or m < M:
        raise ValueError(f"m must be at least M, and M at least 1; got m = {m}, M = {M}")
    if not 0 <= death < 1:
        raise ValueError(f"death must lie in [0, 1); got {death}")
    if coverage(M, m, death) < LEAST_COVERAGE:
        raise ValueError(
            f"m = {m} neurons are of all M = {M} types with probability "
            f"{coverage(M, m, death):.1g} only, too seldom to be drawn: raise m or lower death"
        )
    random = np.random.default_rng((seed, m))
    chances = [*([(1 - death) / M] * M), death]
    counts = random.multinomial(m, chances)
    while not counts[:M].all():
        counts = random.multinomial(m, chances)
    drawn = [np.sort(random.exponential(size=n)) for n in counts[:M]]
    return GroupedMinimum(tuple(part / part.sum() for part in drawn), int(counts[M]))


def mixed_pairs(a: GroupedMinimum, b: GroupedMinimum) -> MixedPairs:
    """The K pairs of different types that the module's matching leaves; K = 0 is zero barrier.

    Raises
    ------
    ValueError
        The minima differ in width or in the number of types.
    """
    if a.width != b.width or len(a.shares) != len(b.shares):
        raise ValueError(
            "a and b must have the same width m and number of types M; got "
            f"m = {a.width}, M = {len(a.shares)} and m = {b.width}, M = {len(b.shares)}"
        )
    surplus = a.counts - b.counts
    K = max(0, int(np.maximum(a.counts, b.counts).sum()) - a.width)
    share_a, type_a = _smallest(a, surplus, K)
    share_b, type_b = _smallest(b, -surplus, K)
    return MixedPairs(share_a, type_a, share_b[::-1], type_b[::-1])


def mixed_path_losses(
    pairs: MixedPairs, M: int, alphas: int | Sequence[float] | Tensor = 25
) -> PathLosses:
    """Population losses along the segment, for Gaussian inputs; see the module for the formula.

    Parameters
    ----------
    pairs : MixedPairs
    M : int
        Width of the teacher.
    alphas
        As for :func:`lmc_fast.population_path_losses`.

    Returns
    -------
    PathLosses
        ``losses`` (1, A); their ends are zero up to rounding of the largest.
    """
    ends = [
        _end(share, kind, M)
        for share, kind in ((pairs.share_a, pairs.type_a), (pairs.share_b, pairs.type_b))
    ]
    w2 = torch.ones(1, 1, len(pairs.share_a) + M, dtype=torch.float64)
    w2[..., len(pairs.share_a) :] = -1
    nothing = torch.zeros(1, M, dtype=torch.float64)
    return population_path_losses((ends[0], w2), (ends[1], w2), nothing, alphas)


def barrier_floor(a: GroupedMinimum, b: GroupedMinimum) -> float:
    """A lower bound on the barrier of every permutation, for Gaussian inputs.

    At alpha = 1/2 a mixed pair has E g >= h(1/2, 1/2) min(c, c'), and the smaller neurons of at
    least K pairs are K different ones, so that L(1/2) >= (sum_p E g_p)^2 / 2 is at least
    (h(1/2, 1/2) x the sum of the K smallest shares of a and b together)^2 / 2.
    """
    K = len(mixed_pairs(a, b).share_a)
    # K smallest of each type hold the K smallest of all.
    smallest = np.sort(np.concatenate([part[:K] for part in chain(a.shares, b.shares)]))[:K]
    h = (1 - math.sqrt(0.5)) / math.sqrt(2 * math.pi)
    return (h * math.fsum(smallest)) ** 2 / 2


def crossover_width(M: int, death: float) -> float:
    """Width beyond which zero barrier is the rule: M^2 q (1 - q) / (pi death^2), q = (1 - death)/M.

    There E sum_j max(n_j, n'_j) = m to leading order; infinite for death = 0.
    """
    q = (1 - death) / M
    return math.inf if death == 0 else M**2 * q * (1 - q) / (math.pi * death**2)


def _smallest(minimum: GroupedMinimum, surplus: Ints, K: int) -> tuple[Floats, Ints]:
    """The K smallest shares, rising, among the ``surplus`` smallest of every type; their types."""
    over = np.maximum(surplus, 0)
    left = np.concatenate([part[:n] for part, n in zip(minimum.shares, over, strict=True)])
    order = np.argsort(left, kind="stable")[:K]
    return left[order], np.repeat(np.arange(len(over)), over)[order]


def _end(share: Floats, kind: Ints, M: int) -> Tensor:
    """One end of the segment: K mixed neurons, then M that hold their sums: (1, K + M, M)."""
    mixed = np.zeros((len(share), M))
    mixed[np.arange(len(share)), kind] = share
    sums = np.diag(mixed.sum(0))
    return torch.from_numpy(np.concatenate([mixed, sums]))[None]
