# SPDX-License-Identifier: MIT
"""Gradient descent on S students in one call."""

from collections.abc import Sequence

from torch import Tensor

from ..ensemble import EnsembleResult
from ..reference import train_ensemble as reference

__all__ = ["EnsembleResult", "train_ensemble"]


def train_ensemble(
    w1: Tensor,
    w2: Tensor | None = None,
    *,
    method: str = "population_gd",
    lr: float | Tensor,
    steps: int,
    teacher: object = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
    batch_size: int | None = None,
    loss: str = "mse",
    train_w2: bool = False,
    seeds: Sequence[int] | Tensor | None = None,
    tol: float = 0.0,
    record_every: int = 0,
    threads: int | None = None,
    inputs: str = "gaussian",
    radius: float = 1.0,
) -> EnsembleResult:
    """Train S students by plain (stochastic) gradient descent.

    A student's run depends on its own weights, learning rate and seed alone, whatever else is in
    the ensemble and for any number of threads. A diverged student does not disturb the others.

    Parameters
    ----------
    w1 : Tensor, shape (S, m, d)
    w2 : Tensor, shape (S, c, m), optional
        None means one output of ones. Fixed unless ``train_w2``.
    method : {"population_gd", "gd", "sgd"}
        Descent on the closed-form population loss (needs ``teacher``); on n fixed samples; or on
        mini-batches: of the n samples in shuffled epochs if x is given, else of fresh inputs every
        step, labelled by ``teacher``.
    lr : float or Tensor, shape (S,)
    steps : int
        Largest number of updates.
    teacher : network, optional
        Gives the objective without x, and the targets with x (instead of ``y``).
    x : Tensor, shape (n, d), optional
    y : Tensor, shape (n, c), or int64 labels (n,) for cross entropy; optional
    batch_size : int, optional
        For sgd only, and needed there. Batches run across epoch borders.
    loss : {"mse", "cross_entropy"}
        Gradients are of the mean over samples of sum over outputs of (f - y)^2 / 2, or of
        -log softmax(f)[y].
    train_w2 : bool
    seeds : sequence of S int, optional
        For sgd; default 0, 1, ..., S-1.
    tol : float
        population_gd and gd stop once the gradient's Frobenius norm is at most this.
    record_every : int
        Record the full objective at steps 0, k, 2k, ...; 0 records nothing.
    threads : int, optional
        Default: all that torch uses.
    inputs, radius
        The distribution of x where no samples are given; see
        :func:`lmc_fast.population_loss`.

    Returns
    -------
    EnsembleResult
        Weights, full objective, trace, steps and divergence flag of each student. A student has
        diverged when a weight stops being finite, or a loss it was trained on exceeds 1e3 times
        the larger of its initial loss and the zero network's; it then keeps its last finite
        weights.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.
    """
    if threads is not None and (isinstance(threads, bool) or threads < 1):
        raise ValueError(f"threads must be at least 1, or None for the default; got {threads!r}")
    return reference.train_ensemble(
        w1, w2, method=method, lr=lr, steps=steps, teacher=teacher, x=x, y=y,
        batch_size=batch_size, loss=loss, train_w2=train_w2, seeds=seeds, tol=tol,
        record_every=record_every, inputs=inputs, radius=radius,
    )
