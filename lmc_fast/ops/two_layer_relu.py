# SPDX-License-Identifier: MIT
"""f(x) = w2 relu(w1 x + b1) + b2."""

from torch import Tensor

from ..reference import two_layer_relu as reference


def two_layer_relu(
    x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None
) -> Tensor:
    """f(x) = w2 relu(w1 x + b1) + b2.

    Parameters
    ----------
    x : Tensor, shape (n, d) or (S, n, d)
    w1 : Tensor, shape (m, d) or (S, m, d)
    b1 : Tensor, shape (m,) or (S, m), or None
    w2 : Tensor, shape (c, m) or (S, c, m)
    b2 : Tensor, shape (c,) or (S, c), or None

    Returns
    -------
    Tensor, shape (n, c) or (S, n, c)
    """
    return reference.two_layer_relu(x, w1, b1, w2, b2)
