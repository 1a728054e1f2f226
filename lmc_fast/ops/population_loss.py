# SPDX-License-Identifier: MIT
"""Population loss against a teacher in closed form, of students and of segments between them."""

from collections.abc import Sequence

from torch import Tensor

from ..curves import PathLosses
from ..reference import population_loss as reference


def population_loss(
    w1: Tensor, w2: Tensor | None, teacher: object, inputs: str = "gaussian", radius: float = 1.0
) -> Tensor:
    """E |f(x) - f*(x)|^2 / 2 of S students, exactly and without samples.

    Parameters
    ----------
    w1 : Tensor, shape (S, m, d) or (m, d)
    w2 : Tensor, shape (S, c, m) or (c, m), or None
        None means one output of ones.
    teacher : network
        One network without biases, with d inputs and c outputs.
    inputs : {"gaussian", "sphere"}
        x ~ N(0, I_d), or uniform on the sphere of radius ``radius`` in R^d.
    radius : float

    Returns
    -------
    float64 Tensor, shape (S,)
        Arithmetic is float64 for float32 weights too.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.

    References
    ----------
    Cho and Saul, Kernel methods for deep learning, NeurIPS 2009 (the arc-cosine kernel).
    """
    return reference.population_loss(w1, w2, teacher, inputs, radius)


def population_path_losses(
    a: object,
    b: object,
    teacher: object,
    alphas: int | Sequence[float] | Tensor = 25,
    inputs: str = "gaussian",
    radius: float = 1.0,
) -> PathLosses:
    """Population losses of (1 - alpha) a + alpha b, for P pairs and A alphas at once.

    Parameters
    ----------
    a, b : network
        Anything :func:`lmc_fast.as_weights` reads, without biases; P networks each.
    teacher, inputs, radius
        As for :func:`population_loss`.
    alphas : int or sequence of float
        A number of equally spaced points with both ends, or sorted points in [0, 1].

    Returns
    -------
    PathLosses
        ``alphas`` (A,) and ``losses`` (P, A), float64; no accuracies.
    """
    return reference.population_path_losses(a, b, teacher, alphas, inputs, radius)
