# SPDX-License-Identifier: MIT
r"""Students close to exact minima: which permutation joins two of them, and a bound of its barrier.

Training ends near a minimum of zero loss, not at one, so that :mod:`lmc_fast.theory` says no. Here
each neuron u_i gets the type j of the teacher neuron v_j to which its angle is least, or is dead if
it is short. With t_i the length of its projection on v_j over |v_j|, the exact minimum nearby has

    u~_i = t_i v_j / (sum of t over the type),    u~_i = 0 for the dead,

whose types' multiples sum to 1. Let delta be the sum over neurons of |u_i - u~_i|, and let perm
pair equal types or one dead neuron (Lemma 7 of Lin, Li, Wu, arXiv 2404.06391), so that the segment
between the two exact minima has zero loss throughout. ReLU is 1-Lipschitz and E (w.x)^2 = |w|^2
for x ~ N(0, I), so that the triangle inequality in the root mean square gives, at every alpha,

    L(alpha) <= ((1 - alpha) delta_a + alpha delta_b)^2 / 2 <= max(delta_a, delta_b)^2 / 2.

No chord lies below zero: the last is a bound of the barrier, and times r^2 / d it is one for inputs
on a sphere of radius r.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .theory import DEAD, NO_TYPE, _pair_up, _unit_teacher
from .weights import as_weights, check_no_biases, check_same_architecture


class TrainedCertificate(NamedTuple):
    """What :func:`trained_certificate` found for P pairs; tensors are on the CPU.

    Attributes
    ----------
    holds : bool Tensor, shape (P,)
        Both networks are close to minima that ``perm`` joins without a barrier. Where it does not
        hold nothing is known.
    perm : int64 Tensor, shape (P, m)
        That permutation; where none exists, one with many free pairs.
    neurons_needed : int64 Tensor, shape (P,)
        Sum over types of the larger of both networks' numbers of neurons, to be compared with m;
        -1 where a network is not close to a minimum.
    bound : float64 Tensor, shape (P,)
        The barrier of the population loss after ``perm`` is at most this; infinity where ``holds``
        is false.
    types : int64 Tensor, shape (2, P, m)
        Of a's and of b's neurons: 0..M-1, or -1 for dead, -2 for neither.
    """

    holds: Tensor
    perm: Tensor
    neurons_needed: Tensor
    bound: Tensor
    types: Tensor


def trained_certificate(
    a: object,
    b: object,
    teacher: object,
    *,
    angle: float = 0.02,
    dead: float = 1e-3,
    total: float = 0.1,
) -> TrainedCertificate:
    """Whether types of neurons say how to join two trained students almost without a barrier.

    Parameters
    ----------
    a, b : network
        Anything :func:`lmc_fast.as_weights` reads, w2 = 1 and no biases; P networks each.
    teacher : network
        M neurons that are not zero, w2 = 1, no biases.
    angle : float
        In radians: a neuron that is not dead has the type of the teacher neuron at the least angle,
        if that is at most this; in [0, pi/2).
    dead : float
        A neuron is dead up to this norm over the teacher's largest.
    total : float
        The multiples of a teacher neuron, summed over the neurons of its type, may differ from 1 by
        this; below 1.

    Returns
    -------
    TrainedCertificate
        A network counts as close to a minimum if each neuron has a type or is dead and the
        multiples of every type sum to about 1; how close is in ``bound``, which is derived in the
        module's text.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.

    Notes
    -----
    Of students trained 2500 steps by :func:`lmc_fast.train_ensemble` (d = 10, M = 5, m = 5 to 16,
    lr = 4 / m to 6.4 / m) to a loss below 1e-7, dead neurons were shorter than 1e-3, the others
    longer than 1e-2 and at angles below 0.01: hence the defaults. Larger losses, near the edge of
    stability, come with neurons of no type.
    """
    if not 0 <= angle < torch.pi / 2:
        raise ValueError(f"angle must lie in [0, pi/2), in radians; got {angle}")
    if not dead >= 0:
        raise ValueError(f"dead must be at least 0; got {dead}")
    if not 0 <= total < 1:
        raise ValueError(f"total must lie in [0, 1); got {total}")
    a, b = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(a, b)
    v1 = _unit_teacher(teacher)
    if v1.shape[1] != a.sizes[2]:
        raise ValueError(
            f"teacher must take inputs of dimension d = {a.sizes[2]} like a and b; got "
            f"{v1.shape[1]}"
        )
    types, deltas = [], []
    for name, weights in (("a", a), ("b", b)):
        check_no_biases(weights, name, "The certificate is about networks without")
        if bool((weights.w2 != 1).any()):
            raise ValueError(f"{name} must have w2 = 1 for the certificate")
        w1 = weights.w1.detach().double().cpu()
        types.append(types_by_angle(w1, v1, angle, dead))
        deltas.append(_distance(w1, types[-1], v1, total))
    pairs, m, _, _ = a.sizes
    perm = torch.empty(pairs, m, dtype=torch.int64)
    for p in range(pairs):
        perm[p] = _pair_up(types[0][p].tolist(), types[1][p].tolist(), len(v1))
    counts = [(of[..., None] == torch.arange(len(v1))).sum(1) for of in types]
    larger = torch.maximum(*deltas)
    close = larger.isfinite()
    needed = torch.where(close, torch.maximum(*counts).sum(1), -1)
    holds = close & (needed <= m)
    bound = torch.where(holds, larger.square() / 2, torch.inf)
    return TrainedCertificate(holds, perm, needed, bound, torch.stack(types))


def types_by_angle(w1: Tensor, v1: Tensor, angle: float, dead: float) -> Tensor:
    """Types of neurons (P, m, d) among the teacher's (M, d), as in the certificate: (P, m)."""
    norms = vector_norm(v1, dim=1)
    unit = v1 / norms[:, None]
    along = w1 @ unit.T
    away = vector_norm(w1[:, :, None] - along[..., None] * unit, dim=3)
    # Not acos, which loses digits where it matters.
    least, nearest = torch.atan2(away, along).min(dim=2)
    types = torch.where(least <= angle, nearest, NO_TYPE)
    return torch.where(vector_norm(w1, dim=2) <= dead * norms.max(), DEAD, types)


def _distance(w1: Tensor, types: Tensor, v1: Tensor, total: float) -> Tensor:
    """delta (P,), the distance to the exact minimum nearby; infinity if there is none."""
    squares = v1.square().sum(1)
    member = (types[..., None] == torch.arange(len(v1))).double()
    multiples = member * (w1 @ v1.T) / squares
    totals = multiples.sum(1, keepdim=True)
    exact = (multiples / torch.where(totals > 0, totals, 1.0)) @ v1
    delta = vector_norm(w1 - exact, dim=2).sum(1)
    close = ((totals[:, 0] - 1).abs() <= total).all(1) & (types != NO_TYPE).all(1)
    return torch.where(close, delta, torch.inf)
