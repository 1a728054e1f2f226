# SPDX-License-Identifier: MIT
"""Population loss against a teacher in closed form: public function, fake, kernels, autograd."""

from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..reference import population_loss as reference
from ..weights import Teacher, as_weights
from . import _cuda
from ._library import Op, warn_reference_once
from ._teacher import teacher_on


def population_loss(
    w1: Tensor, w2: Tensor | None, teacher: object, inputs: str = "gaussian", radius: float = 1.0
) -> Tensor:
    """E |f(x) - f*(x)|^2 / 2 of S students, exactly and without samples.

    With u_i, a_i the students' neurons and output weights, v_k, b_k the teacher's, and t the angle
    between two neurons, the loss is::

        1/2 sum_ij (a_i.a_j) K(u_i,u_j) - sum_ik (a_i.b_k) K(u_i,v_k)
            + 1/2 sum_kl (b_k.b_l) K(v_k,v_l),
        K(u, v) = |u||v| (sin t + (pi - t) cos t) / (2 pi)

    in O(S (m^2 + m M) (c + d)) operations and O(S m (c + d)) memory. Results do not depend on the
    number of threads, nor on the other students of the ensemble, to the last bit.

    Parameters
    ----------
    w1 : Tensor, shape (S, m, d) or (m, d)
        S = 0 and m = 0 (the zero network) are legal.
    w2 : Tensor, shape (S, c, m) or (c, m), or None
        None means one output of ones.
    teacher : network
        Anything :func:`lmc_fast.as_weights` reads: one network without biases, with d inputs and c
        outputs. No gradient flows to it.
    inputs : {"gaussian", "sphere"}
        x ~ N(0, I_d), or uniform on the sphere of radius ``radius`` in R^d.
    radius : float

    Returns
    -------
    float64 Tensor, shape (S,)
        Differentiable with respect to ``w1`` and ``w2``; the gradient is found in the same pass.
        (A second derivative works too, through plain torch operations of size (S, m, m, d).)

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.

    Notes
    -----
    Arithmetic is float64 for float32 weights too, because the three sums cancel near a minimum:
    losses are good to about 1e-15 of the sums' size, and the loss of an exact minimum may come out
    below zero by as much. Angles are taken from |u/|u| - v/|v|| and |u/|u| + v/|v||, so that
    parallel and antiparallel neurons lose no digits. A neuron of zeros contributes zero, and its
    gradient is zero.

    On a GPU our kernels run where the build has them, in float64 too. On other devices the plain
    torch reference runs, with one warning.

    References
    ----------
    Cho and Saul, Kernel methods for deep learning, NeurIPS 2009 (the arc-cosine kernel).

    Examples
    --------
    >>> v = torch.eye(3, dtype=torch.float64)
    >>> population_loss(v[None], None, v)
    tensor([0.], dtype=torch.float64)
    """
    students = as_weights(w1 if w2 is None else (w1, w2), "student", allow_empty=True)
    _, _, d, c = students.sizes
    v1, v2 = teacher_on(students.w1.device, teacher, d, c)
    scale = reference.input_scale(inputs, radius, d)
    grad = torch.is_grad_enabled()
    wanted = [grad and students.w1.requires_grad, grad and students.w2.requires_grad]
    loss: Tensor = OP(students.w1, students.w2, v1, v2, scale, wanted)[0]
    return loss


OP = Op(
    "population_loss(Tensor w1, Tensor w2, Tensor v1, Tensor v2, float scale, bool[2] wanted)"
    " -> (Tensor, Tensor, Tensor)"
)


@OP.fake
def _forward_fake(
    w1: Tensor, w2: Tensor, v1: Tensor, v2: Tensor, scale: float, wanted: list[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    return (
        w1.new_empty(w1.shape[:1], dtype=torch.float64),
        w1.new_empty(w1.shape, dtype=torch.float64) if wanted[0] else None,
        w1.new_empty(w2.shape, dtype=torch.float64) if wanted[1] else None,
    )


@OP.kernel("CPU")
def _forward_cpu(
    w1: Tensor, w2: Tensor, v1: Tensor, v2: Tensor, scale: float, wanted: list[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    loss, dw1, dw2 = _forward_fake(w1, w2, v1, v2, scale, wanted)
    u, a, v, b = (t.double() for t in (w1, w2, v1, v2))
    _native.population_loss(u, a, v, b, scale, loss, dw1, dw2, torch.get_num_threads())
    return loss, dw1, dw2


@OP.kernel("CUDA")
def _forward_cuda(
    w1: Tensor, w2: Tensor, v1: Tensor, v2: Tensor, scale: float, wanted: list[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if not _cuda.compiled("population_loss"):
        return _forward_reference(w1, w2, v1, v2, scale, wanted)
    with _cuda.memory_explained("population_loss"):
        results = _forward_fake(w1, w2, v1, v2, scale, wanted)
        given = tuple(t.double() for t in (w1, w2, v1, v2))
        _cuda.run(_native.population_loss_cuda, (*given, *results), scale)
    return results


@OP.kernel("CompositeExplicitAutograd")
def _forward_reference(
    w1: Tensor, w2: Tensor, v1: Tensor, v2: Tensor, scale: float, wanted: list[bool]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    warn_reference_once("population_loss", w1.device)
    if not any(wanted):
        loss = scale * reference.population_loss(w1, w2, Teacher(v1, v2))
        return loss, None, None
    loss, dw1, dw2 = (scale * t for t in reference.population_loss_gradient(w1, w2, (v1, v2)))
    return loss, dw1 if wanted[0] else None, dw2 if wanted[1] else None


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
    w1, w2, v1, v2, ctx.scale, _ = inputs
    ctx.save_for_backward(w1, w2, v1, v2, output[1], output[2])
    ctx.mark_non_differentiable(*(t for t in output[1:] if t is not None))
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dloss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if dloss is None:
        return (None,) * 6
    w1, w2, v1, v2, *gradients = ctx.saved_tensors
    needed = ctx.needs_input_grad[:2]
    if torch.is_grad_enabled():
        # Somebody will differentiate the gradient: it must come out of differentiable operations.
        inputs = [w for w, need in zip((w1, w2), needed, strict=True) if need]
        loss = ctx.scale * reference.population_loss(w1, w2, Teacher(v1, v2))
        found = iter(torch.autograd.grad(loss, inputs, dloss, create_graph=True))
        results = [next(found) if need else None for need in needed]
    else:
        results = [
            (dloss[:, None, None] * gradient).to(w.dtype) if need else None
            for w, gradient, need in zip((w1, w2), gradients, needed, strict=True)
        ]
    return (*results, None, None, None, None)


OP.autograd(_backward, _keep_inputs)
