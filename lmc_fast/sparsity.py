# SPDX-License-Identifier: MIT
"""How many neurons of a network do anything, with a threshold and without.

Every measure is a function of the neuron strengths s_i = |w2_i| |(w1_i, b1_i)|, which rescaling a
neuron (w1_i, b1_i by k > 0 and w2_i by 1/k) leaves as they are.
"""

import math

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .weights import as_weights


def neuron_strengths(w1: object, w2: Tensor | None = None) -> Tensor:
    """s_i = |w2_i| |(w1_i, b1_i)| of S networks.

    Parameters
    ----------
    w1 : Tensor, shape (S, m, d) or (m, d), or any network :func:`lmc_fast.as_weights` reads
    w2 : Tensor, shape (S, c, m) or (c, m), optional
        With a tensor w1; default ones.

    Returns
    -------
    float64 Tensor, shape (S, m)
    """
    weights = as_weights(w1 if w2 is None else (w1, w2), "network")
    incoming = vector_norm(weights.w1.detach().double(), dim=2)
    if weights.b1 is not None:
        incoming = torch.hypot(incoming, weights.b1.detach().double())
    outgoing: Tensor = vector_norm(weights.w2.detach().double(), dim=1)
    strengths: Tensor = incoming * outgoing
    return strengths


def alive_count(w1: object, w2: Tensor | None = None, threshold: float = 1e-3) -> Tensor:
    """Neurons stronger than ``threshold`` times the network's strongest: int64 (S,).

    Parameters as for :func:`neuron_strengths`; a network of zeros has no alive neuron.
    """
    return alive_neurons(w1, w2, threshold).sum(1)


def alive_neurons(w1: object, w2: Tensor | None = None, threshold: float = 1e-3) -> Tensor:
    """Which neurons :func:`alive_count` counts: bool (S, m)."""
    if not 0 <= threshold < 1:
        raise ValueError(
            f"threshold must lie in [0, 1), relative to the strongest neuron; got {threshold}"
        )
    strengths = neuron_strengths(w1, w2)
    return strengths > threshold * strengths.amax(1, keepdim=True)


def alive_fraction(w1: object, w2: Tensor | None = None, threshold: float = 1e-3) -> Tensor:
    """:func:`alive_count` over m: float64 (S,)."""
    return alive_neurons(w1, w2, threshold).double().mean(1)


def participation_ratio(w1: object, w2: Tensor | None = None) -> Tensor:
    """(sum s)^2 / sum s^2: from 1 (one neuron) to m (all equal), 0 for a network of zeros: (S,).

    The effective number of neurons, as physicists count the sites of a localised state (Bell and
    Dean, Discuss. Faraday Soc. 50, 1970).
    """
    relative = _relative(neuron_strengths(w1, w2))
    squares = relative.square().sum(1)
    return relative.sum(1).square() / torch.where(squares > 0, squares, 1.0)


def hoyer(w1: object, w2: Tensor | None = None) -> Tensor:
    """(sqrt m - |s|_1 / |s|_2) / (sqrt m - 1): from 0 (all equal) to 1 (one neuron): (S,).

    NaN where it is not defined: m = 1, or a network of zeros. (Hoyer, Non-negative matrix
    factorization with sparseness constraints, JMLR 5, 2004.)
    """
    relative = _relative(neuron_strengths(w1, w2))
    root = math.sqrt(relative.shape[1])
    ratio = relative.sum(1) / vector_norm(relative, dim=1)
    return (root - ratio) / (root - 1) if root > 1 else torch.full_like(ratio, torch.nan)


def _relative(strengths: Tensor) -> Tensor:
    """Strengths over the largest, so that their squares neither overflow nor vanish."""
    largest = strengths.amax(1, keepdim=True)
    return strengths / torch.where(largest > 0, largest, 1.0)
