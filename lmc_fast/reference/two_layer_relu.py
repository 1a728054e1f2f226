# SPDX-License-Identifier: MIT
"""f(x) = w2 relu(w1 x + b1) + b2."""

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
    z = x @ w1.mT
    if b1 is not None:
        z = z + b1[..., None, :]
    f = z.relu() @ w2.mT
    if b2 is not None:
        f = f + b2[..., None, :]
    return f
