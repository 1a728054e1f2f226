# SPDX-License-Identifier: MIT
"""f(x) = w2 relu(w1 x + b1) + b2, its gradients, and the sign words the native op keeps."""

import torch
from torch import Tensor


def two_layer_relu(
    x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None
) -> Tensor:
    """Outputs of one network, or of S stacked ones.

    Parameters
    ----------
    x : Tensor, shape (n, d) or (S, n, d)
        A 2-d x is shared by all networks.
    w1 : Tensor, shape (m, d) or (S, m, d)
    b1 : Tensor, shape (m,) or (S, m), or None
    w2 : Tensor, shape (c, m) or (S, c, m)
    b2 : Tensor, shape (c,) or (S, c), or None

    Returns
    -------
    Tensor, shape (n, c) or (S, n, c)
    """
    f = pre_activations(x, w1, b1).relu() @ w2.mT
    if b2 is not None:
        f = f + b2[..., None, :]
    return f


def pre_activations(x: Tensor, w1: Tensor, b1: Tensor | None) -> Tensor:
    """z = w1 x + b1, shape (n, m) or (S, n, m)."""
    z = x @ w1.mT
    return z if b1 is None else z + b1[..., None, :]


def two_layer_relu_backward(
    df: Tensor, x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, active: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of sum(df * f), given which neurons were active.

    Parameters
    ----------
    df : Tensor, shape (n, c) or (S, n, c)
        Gradient of the loss with respect to the outputs f.
    x, w1, b1, w2 : Tensor
        As for :func:`two_layer_relu`.
    active : bool Tensor, shape (n, m) or (S, n, m)
        Where z > 0 (or is NaN).

    Returns
    -------
    tuple of Tensor
        (dx, dw1, db1, dw2, db2). ``dx`` has x's shape: for an x shared by S networks, their sum.
    """
    dz = active * (df @ w2)
    h = active * pre_activations(x, w1, b1)
    dx = dz @ w1
    return (
        dx.sum(0) if dx.ndim > x.ndim else dx,
        dz.mT @ x,
        dz.sum(-2),
        df.mT @ h,
        df.sum(-2),
    )


def pack_signs(active: Tensor) -> Tensor:
    """Sign words of a bool mask: (S, n, m) -> int64 (S, ceil(m / 64), n).

    Bit l of word (s, w, i) is neuron 64 w + l of sample i; bits beyond the last neuron are zero.
    """
    students, n, m = active.shape
    words = (m + 63) // 64
    padded = active.new_zeros((students, n, words * 64))
    padded[..., :m] = active
    bits = padded.reshape(students, n, words, 64).to(torch.int64)
    place = torch.ones(64, dtype=torch.int64, device=active.device) << torch.arange(
        64, device=active.device
    )
    return (bits * place).sum(-1).transpose(1, 2).contiguous()


def unpack_signs(signs: Tensor, m: int) -> Tensor:
    """The bool mask (S, n, m) of sign words (S, ceil(m / 64), n)."""
    students, words, n = signs.shape
    bits = (signs.transpose(1, 2)[..., None] >> torch.arange(64, device=signs.device)) & 1
    return bits.reshape(students, n, words * 64)[..., :m].to(torch.bool)
