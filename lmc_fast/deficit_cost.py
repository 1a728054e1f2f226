# SPDX-License-Identifier: MIT
"""What every pair of neurons loses half way between them, in closed form for Gaussian inputs.

Rows of a matrix are made a block at a time, small enough for a processor's cache.
:mod:`lmc_fast.sampled_cost` measures the same on samples.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .inner_kernel import kernel_from_inner

# Entries of a block.
_ON_CPU, _ON_GPU = 2**18, 2**24


def row_blocks(m: int, device: torch.device) -> Iterator[slice]:
    """Rows of a matrix (m, m), a block at a time: few enough for a processor's cache, or a GPU."""
    height = max(1, (_ON_CPU if device.type == "cpu" else _ON_GPU) // max(m, 1))
    return (slice(first, first + height) for first in range(0, m, height))


def gap_cost(u: Tensor, v: Tensor) -> Tensor:
    """|u_i| + |v_j| - |u_i + v_j|: (m, d), (m, d) -> (m, m) float64.

    E relu(u.x) = |u| / sqrt(2 pi) for x ~ N(0, I), so this is 2 sqrt(2 pi) times the mean of
    (relu(u.x) + relu(v.x)) / 2 - relu((u + v).x / 2).
    """

    def rows(block: slice, norm_u: Tensor, norm_v: Tensor, cosine: Tensor) -> Tensor:
        total = norm_u + norm_v
        # The difference of norms cancels; multiplied by its conjugate it is 2 |u||v| (1 - cos t).
        turned = 2 * (norm_u * norm_v) * (1 - cosine)
        return turned / (total + (total.square() - turned).clamp_min(0).sqrt()).clamp_min(1e-300)

    return _by_rows(u, v, rows)


def deficit_cost(u: Tensor, a: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """Root mean square midpoint deficit over x ~ N(0, I): (m, m) float64.

    The deficit of neurons (u, a) and (v, b) is (a relu(u.x) + b relu(v.x)) / 2 - e relu(s.x) with
    e = (a + b) / 2 and s = (u + v) / 2. Its square is a sum of six products of two ReLUs, whose
    means are the degree-1 arc-cosine kernel (Cho and Saul, Kernel Methods for Deep Learning,
    NeurIPS 2009); see :mod:`lmc_fast.reference.population_loss`.

    Parameters
    ----------
    u, v : Tensor, shape (m, d)
    a, b : Tensor, shape (c, m)
    """
    a, b = a.double(), b.double()
    bb = b.square().sum(0)

    def rows(block: slice, norm_u: Tensor, norm_v: Tensor, cosine: Tensor) -> Tensor:
        inner = norm_u * norm_v * cosine
        aa, ab = a[:, block].square().sum(0)[:, None], a[:, block].T @ b
        ae, be, ee = (aa + ab) / 2, (ab + bb) / 2, (aa + 2 * ab + bb) / 4
        us, vs = (norm_u.square() + inner) / 2, (inner + norm_v.square()) / 2
        norm_s = ((us + vs) / 2).clamp_min(0).sqrt()
        mean_square = (
            aa * norm_u.square() / 8
            + bb * norm_v.square() / 8
            + ab * kernel_from_inner(norm_u, norm_v, inner) / 2
            + ee * norm_s.square() / 2
            - ae * kernel_from_inner(norm_u, norm_s, us)
            - be * kernel_from_inner(norm_v, norm_s, vs)
        )
        return mean_square.clamp_min(0).sqrt()

    return _by_rows(u, v, rows)


def _by_rows(
    u: Tensor, v: Tensor, rows: Callable[[slice, Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """The (m, m) matrix of ``rows(block, |u|, |v|, cosine)``: (k, 1), (m,), (k, m) -> (k, m).

    Cosines are in [-1, 1], and 0 where a vector is zero.
    """
    (norm_u, unit_u), (norm_v, unit_v) = _polar(u), _polar(v)
    m = len(u)
    cost = torch.empty(m, m, dtype=torch.float64, device=u.device)
    for block in row_blocks(m, u.device):
        cosine = (unit_u[block] @ unit_v.T).clamp(-1, 1)
        cost[block] = rows(block, norm_u[block, None], norm_v, cosine)
    return cost


def _polar(w: Tensor) -> tuple[Tensor, Tensor]:
    """Norms (m,) and unit vectors (m, d), zero where a vector is."""
    w = w.double()
    norm = vector_norm(w, dim=1)
    return norm, w / torch.where(norm > 0, norm, 1.0)[:, None]
