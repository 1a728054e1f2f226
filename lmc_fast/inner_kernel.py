# SPDX-License-Identifier: MIT
"""The arc-cosine kernel from norms and an inner product, where vectors themselves are too many."""

import math

import torch
from torch import Tensor


def kernel_from_inner(norm_u: Tensor, norm_v: Tensor, inner: Tensor) -> Tensor:
    """K(u, v) = E relu(u.x) relu(v.x), x ~ N(0, I), from |u|, |v| and u.v: float64.

    K = |u||v| (sin t + (pi - t) cos t) / (2 pi) (Cho and Saul, NeurIPS 2009; see
    :mod:`lmc_fast.reference.population_loss`). With r the acute one of t and pi - t, the bracket is
    sin r - r cos r, and pi cos t more where t is acute. As a function of cos t it has the slope
    pi - t, so that a cosine good to eps makes K good to eps |u||v| / 2, for parallel vectors too;
    what sin r - r cos r cancels is of that size.

    Parameters
    ----------
    norm_u, norm_v, inner : Tensor
        Float64, of shapes that broadcast. A norm of 0 gives 0.
    """
    product = norm_u * norm_v
    cosine = (inner / product.clamp_min(1e-300)).clamp(-1, 1)
    acute = cosine.abs()
    sine = ((1 - acute) * (1 + acute)).sqrt()
    shape = sine - acute.acos() * acute + math.pi * cosine.clamp_min(0)
    return product * shape / (2 * math.pi)


def weighted_kernels(u: Tensor, a: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """(a_i.b_j) K(u_i, v_j) for neurons u, v and their output weights a, b, all float64.

    Shapes (..., k, d), (..., k, c), (..., l, d), (..., l, c) -> (..., k, l).
    """
    norm_u, norm_v = (torch.linalg.vector_norm(w, dim=-1) for w in (u, v))
    kernel = kernel_from_inner(norm_u[..., :, None], norm_v[..., None, :], u @ v.mT)
    weighted: Tensor = (a @ b.mT) * kernel
    return weighted
