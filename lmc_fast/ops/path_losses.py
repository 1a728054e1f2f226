# SPDX-License-Identifier: MIT
"""Losses on samples along the segment between two networks."""

from collections.abc import Sequence

from torch import Tensor

from ..curves import PathLosses
from ..reference import path_losses as reference

__all__ = ["PathLosses", "path_losses"]


def path_losses(
    a: object,
    b: object,
    x: Tensor,
    y: Tensor,
    alphas: int | Sequence[float] | Tensor = 25,
    loss: str = "mse",
) -> PathLosses:
    """Losses of (1 - alpha) a + alpha b on n samples, for P pairs and A alphas at once.

    Parameters
    ----------
    a, b : network
        Anything :func:`lmc_fast.as_weights` reads; P networks each, of one shape, dtype, device.
    x : Tensor, shape (n, d)
    y : Tensor
        (n, c) for ``"mse"`` ((n,) too if c = 1), int64 labels (n,) for ``"cross_entropy"``.
    alphas : int or sequence of float
        A number of equally spaced points with both ends, or sorted points in [0, 1].
    loss : {"mse", "cross_entropy"}
        Mean over samples of sum over outputs of (f - y)^2 / 2, or of -log softmax(f)[y] in nats.

    Returns
    -------
    PathLosses
        ``alphas`` (A,), ``losses`` (P, A), and for cross entropy ``accuracies`` (P, A), all
        float64. At alpha = 0 and 1 they are the networks' own losses.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.
    """
    return reference.path_losses(a, b, x, y, alphas, loss)
