# SPDX-License-Identifier: MIT
"""Exact global minima, and when some permutation joins two of them without a barrier.

For w2 = 1 and a teacher of M orthonormal neurons, a student of width m >= M has zero loss iff
every neuron is zero or a non-negative multiple of one teacher neuron (its type), the multiples of
each teacher neuron summing to 1 (Lin, Li, Wu, arXiv 2404.06391, Theorem 6). The segment between
two such minima has zero barrier iff at each index one of the neurons is zero or both have one type
(Lemma 7). With n_j and n'_j neurons of type j, a permutation with that property exists iff sum_j
max(n_j, n'_j) <= m.
"""

from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .weights import (
    as_teacher,
    as_weights,
    check_no_biases,
    check_same_architecture,
    check_sizes,
)

DEAD, NO_TYPE = -1, -2
# How far the teacher's inner products may be from 0 and 1: a float32 teacher passes.
ORTHONORMAL = 1e-5


class Certificate(NamedTuple):
    """What :func:`zero_barrier_certificate` found for P pairs.

    Attributes
    ----------
    holds : bool Tensor, shape (P,)
        Both networks are global minima (to the tolerance) and ``perm`` joins them with zero
        barrier.
    perm : int64 Tensor, shape (P, m)
        That permutation; where none exists, one with as many free pairs as this construction finds.
    neurons_needed : int64 Tensor, shape (P,)
        sum_j max(n_j, n'_j), to be compared with m; -1 where a network is no global minimum.
    """

    holds: Tensor
    perm: Tensor
    neurons_needed: Tensor


def sample_global_minima(
    teacher: object, m: int, P: int, seed: int = 0, death: float = 0.0
) -> Tensor:
    """P random students of zero loss, in the form of Theorem 6.

    Each neuron is dead with probability ``death`` (but M stay alive), the living ones get a
    uniformly random type with every type present, the multiples of a type are uniform on the
    simplex, and the order is random.

    Parameters
    ----------
    teacher : network
        M linearly independent neurons, w2 = 1, no biases.
    m, P : int
        Width, at least M, and how many.
    seed : int
        Student p depends on (seed, p) alone.
    death : float
        In [0, 1].

    Returns
    -------
    float64 Tensor, shape (P, m, d)
    """
    v1 = _unit_teacher(teacher)
    types, d = v1.shape
    if m < types:
        raise ValueError(f"m must be at least M = {types} for a minimum of zero loss; got {m}")
    check_sizes(P=P)
    if not 0 <= death <= 1:
        raise ValueError(f"death must lie in [0, 1]; got {death}")
    minima = torch.zeros(P, m, d, dtype=torch.float64)
    for p in range(P):
        random = np.random.default_rng((seed, p))
        alive = max(types, m - int(random.binomial(m, death)))
        of_type = np.concatenate([np.arange(types), random.integers(types, size=alive - types)])
        multiples = random.exponential(size=alive)
        multiples /= np.bincount(of_type, weights=multiples, minlength=types)[of_type]
        places = torch.from_numpy(random.permutation(m)[:alive])
        minima[p, places] = torch.from_numpy(multiples)[:, None] * v1[torch.from_numpy(of_type)]
    return minima


def neuron_types(w1: Tensor, teacher: object, tol: float = 1e-6) -> Tensor:
    """Which teacher neuron each student neuron is a positive multiple of.

    Parameters
    ----------
    w1 : Tensor, shape (P, m, d) or (m, d)
    teacher : network
        M neurons v_j, w2 = 1, no biases.
    tol : float
        A neuron is dead up to a norm of tol |v|, |v| the largest teacher norm, and of type j up to
        that distance from the ray of v_j.

    Returns
    -------
    int64 Tensor, shape (P, m)
        0..M-1, or -1 for dead, -2 for neither.
    """
    if not tol >= 0:
        raise ValueError(f"tol must be at least 0; got {tol}")
    u = as_weights(w1, "student").w1.detach().double()
    v1 = _unit_teacher(teacher).to(u.device)
    norms = torch.linalg.vector_norm(v1, dim=1)
    unit = v1 / norms[:, None]
    along = u @ unit.T
    away = torch.linalg.vector_norm(u[:, :, None] - along[..., None] * unit, dim=3)
    away = torch.where(along > 0, away, torch.inf)
    distance, nearest = away.min(dim=2)
    reach = tol * norms.max()
    types = torch.where(distance <= reach, nearest, NO_TYPE)
    return torch.where(torch.linalg.vector_norm(u, dim=2) <= reach, DEAD, types)


def zero_barrier_certificate(
    a: object, b: object, teacher: object, tol: float = 1e-6
) -> Certificate:
    """Whether some permutation of b's neurons gives exactly zero barrier, and such a permutation.

    Parameters
    ----------
    a, b : network
        Anything :func:`lmc_fast.as_weights` reads, w2 = 1 and no biases; P networks each.
    teacher : network
        M orthonormal neurons, w2 = 1, no biases.
    tol : float
        How far a network may be from a global minimum; see :func:`neuron_types`. The multiples of a
        type may miss 1 by m tol.

    Returns
    -------
    Certificate
    """
    a, b = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(a, b)
    for name, weights in (("a", a), ("b", b)):
        check_no_biases(weights, name, "The certificate is about networks without")
        if bool((weights.w2 != 1).any()):
            raise ValueError(f"{name} must have w2 = 1 for the certificate")
    pairs, m, _, _ = a.sizes
    v1 = _unit_teacher(teacher)
    if bool(((v1 @ v1.T - torch.eye(len(v1))).abs() > ORTHONORMAL).any()):
        raise ValueError(
            "teacher must have orthonormal neurons, for which alone the certificate is known to be "
            "necessary and sufficient"
        )
    types_a, types_b = neuron_types(a.w1, teacher, tol), neuron_types(b.w1, teacher, tol)
    minima = _is_minimum(a.w1, types_a, v1, tol) & _is_minimum(b.w1, types_b, v1, tol)
    needed = torch.full((pairs,), -1, dtype=torch.int64)
    perm = torch.empty(pairs, m, dtype=torch.int64)
    for p in range(pairs):
        perm[p] = _pair_up(types_a[p].tolist(), types_b[p].tolist(), len(v1))
        if minima[p]:
            counts = [
                torch.bincount(types[p][types[p] >= 0], minlength=len(v1))
                for types in (types_a, types_b)
            ]
            needed[p] = torch.maximum(*counts).sum()
    return Certificate(minima & (needed <= m), perm, needed)


def _is_minimum(w1: Tensor, types: Tensor, v1: Tensor, tol: float) -> Tensor:
    """Whether every neuron has a type or is dead and each type's neurons sum to v_j: (P,) bool."""
    w1 = w1.detach().double().cpu()
    member = types.cpu()[:, :, None] == torch.arange(len(v1))
    sums = member.double().mT @ w1
    reach = tol * w1.shape[1] * torch.linalg.vector_norm(v1, dim=1).max()
    missed: Tensor = torch.linalg.vector_norm(sums - v1, dim=2)
    minimum: Tensor = (missed <= reach).all(1) & (types.cpu() != NO_TYPE).all(1)
    return minimum


def _pair_up(types_a: list[int], types_b: list[int], M: int) -> Tensor:
    """Same types first, then each neuron left over with a dead one, then whatever remains."""
    m = len(types_a)
    free_a = {kind: [i for i in range(m) if types_a[i] == kind] for kind in range(NO_TYPE, M)}
    free_b = {kind: [i for i in range(m) if types_b[i] == kind] for kind in range(NO_TYPE, M)}
    perm = torch.empty(m, dtype=torch.int64)

    def join(left: list[int], right: list[int]) -> None:
        while left and right:
            perm[left.pop()] = right.pop()

    for kind in range(M):
        join(free_a[kind], free_b[kind])
    for kind in range(M):
        join(free_a[kind], free_b[DEAD])
        join(free_a[DEAD], free_b[kind])
    join(list(chain(*free_a.values())), list(chain(*free_b.values())))
    return perm


def _unit_teacher(teacher: object) -> Tensor:
    """The teacher's v1 (M, d) on the CPU; its w2 must be one row of ones."""
    v1, v2 = as_teacher(teacher, as_weights(teacher, "teacher").sizes[2])
    if v2.shape[0] != 1 or bool((v2 != 1).any()):
        raise ValueError("teacher must have one output and w2 = 1; scale its w1 instead")
    if bool((torch.linalg.vector_norm(v1, dim=1) == 0).any()):
        raise ValueError("teacher must have no neuron that is zero")
    return v1.cpu()
