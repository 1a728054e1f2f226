# SPDX-License-Identifier: MIT
"""Gradient descent on S students in one call: public function, fake kernel, kernels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..ensemble import (
    EnsembleProblem,
    EnsembleResult,
    check_integer,
    ensemble_problem,
    trace_steps,
)
from ..reference.population_loss import input_scale
from ..weights import Teacher
from . import _cuda
from ._library import Op
from ._train_ensemble.driver import train_on_cpu, train_on_cuda

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
    """Train S students by (stochastic) gradient descent, on the CPU each in one thread, or by Adam.

    A student's run depends on its own weights, data, learning rate and seed alone, to the last
    bit, whatever else is in the ensemble and for any number of threads. A diverged student does
    not disturb the others. Ctrl-C stops the call within a moment. For GPUs see Notes.

    Parameters
    ----------
    w1 : Tensor, shape (S, m, d)
        float32 or float64, on the CPU or a CUDA device, where the samples must be too. gd and sgd
        compute in this dtype, population_gd always in float64.
    w2 : Tensor, shape (S, c, m), optional
        None means one output of ones. Fixed unless ``train_w2``.
    method : {"population_gd", "gd", "sgd", "adam"}
        Descent on the closed-form population loss (needs ``teacher``); on n fixed samples; or on
        mini-batches: of the n samples in shuffled epochs if x is given, else of fresh inputs every
        step, labelled by ``teacher``. "adam" takes the same mini-batches as "sgd" and moves as
        torch.optim.Adam does, with its default betas and eps.
    lr : float or Tensor, shape (S,)
        Above 0.
    steps : int
        Largest number of updates.
    teacher : network, optional
        Gives the objective without x, and the targets with x (instead of ``y``). On any device.
    x : Tensor, shape (n, d) or (S, n, d), optional
        The samples of all students, or of each.
    y : Tensor, shape (n, c) or (S, n, c), optional
        For cross entropy int64 labels (n,) or (S, n). "mse" takes labels (n,) of c > 1 classes as
        targets of 1 for the class and 0 elsewhere.
    batch_size : int, optional
        For sgd and adam only, and needed there. Batches run across epoch borders.
    loss : {"mse", "cross_entropy"}
        Gradients are of the mean over samples of sum over outputs of (f - y)^2 / 2, or of
        -log softmax(f)[y].
    train_w2 : bool
    seeds : sequence of S int, optional
        For sgd and adam; default 0, 1, ..., S-1.
    tol : float
        population_gd and gd, not sgd and adam, stop once the gradient's Frobenius norm is at most
        this.
    record_every : int
        Record the full objective at steps 0, k, 2k, ...; 0 records nothing.
    threads : int, optional
        Default: all that torch uses. On a GPU it changes nothing.
    inputs, radius
        The distribution of x where no samples are given; see
        :func:`lmc_fast.population_loss`.

    Returns
    -------
    EnsembleResult
        Weights, full objective, trace, steps and divergence flag of each student. A student has
        diverged when a weight stops being finite, or a loss it was trained on exceeds 1e3 times
        the larger of its initial loss and the zero network's; it then keeps its last finite
        weights. ``trace_steps`` is on the CPU, all else on the device of ``w1``.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.
    torch.cuda.OutOfMemoryError
        When a CUDA device has no room for one student's training.

    Notes
    -----
    Adam takes every step for all students together, in calls that use all threads; small students
    take longer than with sgd.

    Nothing is differentiated through the training: tensors that require gradients are detached.

    On a GPU the rules and the random numbers are the CPU's, the rounding is not. A student that is
    small enough is trained by one block of threads, for many steps per launch; larger ones take
    every step together, in calls that use the whole GPU. Sizes alone decide which. Launches are
    kept to about a tenth of a second, after which the call waits for the device, looks whether a
    student still runs, and hears Ctrl-C; a CUDA graph cannot record it. Ensembles beyond the free
    memory are trained in groups, one after the other.

    Examples
    --------
    >>> teacher = torch.eye(3, 5, dtype=torch.float64)
    >>> students = torch.randn(4, 6, 5, dtype=torch.float64) / 10
    >>> result = train_ensemble(students, lr=0.5, steps=2000, teacher=teacher)
    >>> bool((result.loss < 0.1).all())
    True
    """
    threads = torch.get_num_threads() if threads is None else check_integer(threads, "threads", 1)
    problem = ensemble_problem(
        w1,
        w2,
        method=method,
        lr=lr,
        steps=steps,
        teacher=teacher,
        x=x,
        y=y,
        batch_size=batch_size,
        loss=loss,
        train_w2=train_w2,
        seeds=seeds,
        tol=tol,
        record_every=record_every,
        inputs=inputs,
        radius=radius,
    )
    _check_device(problem.w1)
    v1, v2 = (None, None) if problem.teacher is None else problem.teacher
    arrays = OP(
        problem.w1,
        problem.w2,
        problem.lr,
        problem.seeds,
        problem.x,
        problem.y,
        v1,
        v2,
        problem.method,
        problem.loss,
        problem.train_w2,
        problem.steps,
        problem.batch_size,
        problem.tol,
        problem.record_every,
        problem.inputs,
        problem.radius,
        threads,
    )
    trained_w1, trained_w2, final_loss, trace, steps_taken, diverged = arrays
    return EnsembleResult(
        trained_w1, trained_w2, final_loss, trace, problem.trace_steps, steps_taken, diverged
    )


def _check_device(w1: Tensor) -> None:
    if w1.device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"w1 must be on the CPU or a CUDA device for train_ensemble; got it on {w1.device}. "
            "Move the tensors with .cpu()"
        )
    if w1.is_cuda and not _cuda.compiled("train_ensemble"):
        raise ValueError(
            "w1 must be on the CPU, since this build has no CUDA kernels of train_ensemble; got it "
            f"on {w1.device}. Move the tensors with .cpu(), or install lmc_fast where nvcc is found"
        )


OP = Op(
    "train_ensemble(Tensor w1, Tensor w2, Tensor lr, Tensor seeds, Tensor? x, Tensor? y,"
    " Tensor? v1, Tensor? v2, str method, str loss, bool train_w2, int steps, int batch_size,"
    " float tol, int record_every, str inputs, float radius, int threads)"
    " -> (Tensor w1, Tensor w2, Tensor loss, Tensor trace, Tensor steps, Tensor diverged)"
)


@OP.fake
def _fake(
    w1: Tensor,
    w2: Tensor,
    lr: Tensor,
    seeds: Tensor,
    x: Tensor | None,
    y: Tensor | None,
    v1: Tensor | None,
    v2: Tensor | None,
    method: str,
    loss: str,
    train_w2: bool,
    steps: int,
    batch_size: int,
    tol: float,
    record_every: int,
    inputs: str,
    radius: float,
    threads: int,
) -> tuple[Tensor, ...]:
    S = w1.shape[0]
    recorded = len(trace_steps(steps, record_every))
    return (
        w1.new_empty(w1.shape),
        w2.new_empty(w2.shape),
        w1.new_empty((S,), dtype=torch.float64),
        w1.new_empty((S, recorded), dtype=torch.float64),
        w1.new_empty((S,), dtype=torch.int64),
        w1.new_empty((S,), dtype=torch.bool),
    )


# Not differentiable: autograd passes it by.
OP.kernel("Autograd")(torch.library.fallthrough_kernel)


@OP.kernel("CPU")
def _cpu(
    w1: Tensor,
    w2: Tensor,
    lr: Tensor,
    seeds: Tensor,
    x: Tensor | None,
    y: Tensor | None,
    v1: Tensor | None,
    v2: Tensor | None,
    method: str,
    loss: str,
    train_w2: bool,
    steps: int,
    batch_size: int,
    tol: float,
    record_every: int,
    inputs: str,
    radius: float,
    threads: int,
) -> tuple[Tensor, ...]:
    arguments = (w1, w2, lr, seeds, x, y, v1, v2)
    settings = (method, loss, train_w2, steps, batch_size, tol, record_every, inputs, radius)
    fake: Any = _fake  # mypy does not follow the unpacked settings
    outputs: tuple[Tensor, ...] = fake(*arguments, *settings, threads)
    if method == "adam":
        return train_on_cpu(_problem(*arguments, *settings), threads)
    native: Any = _native.train_ensemble  # mypy does not follow the unpacked arrays
    native(
        *arguments,
        method,
        loss,
        train_w2,
        steps,
        batch_size,
        tol,
        record_every,
        input_scale(inputs, radius, w1.shape[-1]),
        radius if inputs == "sphere" else 0.0,
        *outputs,
        threads,
    )
    return outputs


@OP.kernel("CUDA")
def _cuda_kernel(
    w1: Tensor,
    w2: Tensor,
    lr: Tensor,
    seeds: Tensor,
    x: Tensor | None,
    y: Tensor | None,
    v1: Tensor | None,
    v2: Tensor | None,
    method: str,
    loss: str,
    train_w2: bool,
    steps: int,
    batch_size: int,
    tol: float,
    record_every: int,
    inputs: str,
    radius: float,
    threads: int,
) -> tuple[Tensor, ...]:
    settings = (method, loss, train_w2, steps, batch_size, tol, record_every, inputs, radius)
    return train_on_cuda(_problem(w1, w2, lr, seeds, x, y, v1, v2, *settings))


def _problem(*given: Any) -> EnsembleProblem:
    """What the op's arguments, all but ``threads``, were made of."""
    w1, w2, lr, seeds, x, y, v1, v2, method, loss, *numbers = given
    train_w2, steps, batch_size, tol, record_every, inputs, radius = numbers
    return EnsembleProblem(
        w1=w1,
        w2=w2,
        method=method,
        lr=lr.cpu(),
        steps=steps,
        teacher=None if v1 is None or v2 is None else Teacher(v1, v2),
        x=x,
        y=y,
        batch_size=batch_size,
        loss=loss,
        train_w2=train_w2,
        seeds=seeds.cpu(),
        tol=tol,
        record_every=record_every,
        inputs=inputs,
        radius=radius,
    )
