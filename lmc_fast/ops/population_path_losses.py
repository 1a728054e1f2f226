# SPDX-License-Identifier: MIT
"""Population losses along segments: public function, fake kernels, kernels, autograd."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..curves import PathLosses, as_alphas
from ..reference import population_loss as reference
from ..weights import (
    Teacher,
    Weights,
    as_weights,
    check_no_biases,
    check_same_architecture,
)
from . import _cuda
from . import population_loss as one
from ._library import Op, warn_reference_once
from ._teacher import teacher_on


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
        Anything :func:`lmc_fast.as_weights` reads, without biases; P networks each, of one shape,
        dtype and device.
    teacher, inputs, radius
        As for :func:`lmc_fast.population_loss`.
    alphas : int or sequence of float
        A number of equally spaced points with both ends, or sorted points in [0, 1].

    Returns
    -------
    PathLosses
        ``alphas`` (A,) and ``losses`` (P, A), float64; no accuracies. At alpha = 0 and 1 they are
        :func:`lmc_fast.population_loss` of a and b to the last bit, and where a = b the curve is
        flat to the last bit. Differentiable with respect to tensors given in ``a`` and ``b``.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.

    Notes
    -----
    The weights in between are float64 for float32 networks too. On devices without kernels of ours
    the plain torch reference runs, with one warning.
    """
    first, second = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(first, second)
    for name, weights in (("a", first), ("b", second)):
        check_no_biases(weights, name, reference.NO_BIASES)
    _, _, d, c = first.sizes
    v1, v2 = teacher_on(first.w1.device, teacher, d, c)
    points = as_alphas(alphas)
    scale = reference.input_scale(inputs, radius, d)
    losses: Tensor = OP(first.w1, first.w2, second.w1, second.w2, v1, v2, points, scale)
    return PathLosses(points, losses, None)


_ARGUMENTS = (
    "Tensor a1, Tensor a2, Tensor b1, Tensor b2, Tensor v1, Tensor v2, Tensor alphas, float scale"
)
OP = Op(f"population_path_losses({_ARGUMENTS}) -> Tensor")
BACKWARD_OP = Op(
    f"population_path_losses_backward(Tensor dlosses, {_ARGUMENTS})"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


@OP.fake
def _forward_fake(
    a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor, alphas: Tensor,
    scale: float,
) -> Tensor:  # fmt: skip
    losses: Tensor = a1.new_empty((a1.shape[0], alphas.shape[0]), dtype=torch.float64)
    return losses


@BACKWARD_OP.fake
def _backward_fake(
    dlosses: Tensor, a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor,
    alphas: Tensor, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    return tuple(w.new_empty(w.shape) for w in (a1, a2, b1, b2))


@OP.kernel("CPU")
def _forward_cpu(
    a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor, alphas: Tensor,
    scale: float,
) -> Tensor:  # fmt: skip
    losses = _forward_fake(a1, a2, b1, b2, v1, v2, alphas, scale)
    a1, a2, b1, b2, v1, v2, at = (t.double() for t in (a1, a2, b1, b2, v1, v2, alphas))
    threads = torch.get_num_threads()
    _native.population_path_losses(a1, a2, b1, b2, v1, v2, at, scale, losses, threads)
    return losses


@BACKWARD_OP.kernel("CPU")
def _backward_cpu(
    dlosses: Tensor, a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor,
    alphas: Tensor, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    dtype = a1.dtype
    da1, da2, db1, db2 = (w.new_empty(w.shape, dtype=torch.float64) for w in (a1, a2, b1, b2))
    g, a1, a2, b1, b2 = (t.double() for t in (dlosses, a1, a2, b1, b2))
    v1, v2, alphas = (t.double() for t in (v1, v2, alphas))
    _native.population_path_losses_backward(
        g, a1, a2, b1, b2, v1, v2, alphas, scale, da1, da2, db1, db2, torch.get_num_threads()
    )
    return tuple(gradient.to(dtype) for gradient in (da1, da2, db1, db2))


@OP.kernel("CUDA")
def _forward_cuda(
    a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor, alphas: Tensor,
    scale: float,
) -> Tensor:  # fmt: skip
    arguments = (a1, a2, b1, b2, v1, v2, alphas, scale)
    if not _cuda.compiled("population_loss"):
        return _forward_reference(*arguments)
    with _cuda.memory_explained("population_path_losses"):
        return _losses_by_points(*arguments)


@BACKWARD_OP.kernel("CUDA")
def _backward_cuda(
    dlosses: Tensor, a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor,
    alphas: Tensor, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    arguments = (dlosses, a1, a2, b1, b2, v1, v2, alphas, scale)
    if not _cuda.compiled("population_loss"):
        return _backward_reference(*arguments)
    with _cuda.memory_explained("population_path_losses"):
        return _gradients_by_points(*arguments)


# Memory of the networks that are evaluated together; results do not depend on it.
_BYTES = 2**28


def _losses_by_points(
    a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor, alphas: Tensor,
    scale: float,
) -> Tensor:  # fmt: skip
    """Losses (P, A) of all points as if they were networks of their own."""
    losses = _forward_fake(a1, a2, b1, b2, v1, v2, alphas, scale)
    points = losses.view(-1)
    together = _together(a1, a2)
    at = alphas.to(a1.device, torch.float64)
    for first in range(0, len(points), together):
        index = torch.arange(first, min(first + together, len(points)), device=a1.device)
        pair, alpha = index // len(at), at[index % len(at)]
        w1, w2 = (_between(s[pair], e[pair], alpha) for s, e in ((a1, b1), (a2, b2)))
        points[first : first + together] = one.OP(w1, w2, v1, v2, scale, [False, False])[0]
    return losses


def _gradients_by_points(
    dlosses: Tensor, a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor,
    alphas: Tensor, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients to both ends, summed in the order of alphas."""
    ends = ((a1, b1), (a2, b2))
    sums = [[w.new_zeros(w.shape, dtype=torch.float64) for w in pair] for pair in ends]
    together = _together(a1, a2)
    for first in range(0, len(a1), together):
        part = slice(first, first + together)
        for i, alpha in enumerate(alphas.tolist()):
            at = torch.full((len(a1[part]),), alpha, dtype=torch.float64, device=a1.device)
            w1, w2 = (_between(start[part], end[part], at) for start, end in ends)
            _, *found = one.OP(w1, w2, v1, v2, scale, [True, True])
            for (to_start, to_end), gradient in zip(sums, found, strict=True):
                weighted = gradient * dlosses[part, i, None, None]
                to_start[part] += (1 - alpha) * weighted
                to_end[part] += alpha * weighted
    (da1, db1), (da2, db2) = sums
    return tuple(gradient.to(a1.dtype) for gradient in (da1, da2, db1, db2))


def _together(w1: Tensor, w2: Tensor) -> int:
    per_network = 8 * (w1[0].numel() + w2[0].numel()) if len(w1) else 1
    return max(1, _BYTES // (6 * max(1, per_network)))


def _between(start: Tensor, end: Tensor, alpha: Tensor) -> Tensor:
    """Networks of float64 at ``alpha`` (Q,), exact at both ends and constant where they agree."""
    start, end, alpha = start.double(), end.double(), alpha[:, None, None]
    step = end - start
    return torch.where(alpha < 0.5, start + alpha * step, end - (1 - alpha) * step)


@OP.kernel("CompositeExplicitAutograd")
def _forward_reference(
    a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor, alphas: Tensor,
    scale: float,
) -> Tensor:  # fmt: skip
    warn_reference_once("population_path_losses", a1.device)
    return _losses_by_reference((a1, a2, b1, b2), v1, v2, alphas, scale)


@BACKWARD_OP.kernel("CompositeExplicitAutograd")
def _backward_reference(
    dlosses: Tensor, a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, v1: Tensor, v2: Tensor,
    alphas: Tensor, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    with torch.enable_grad():
        leaves = [w.detach().requires_grad_() for w in (a1, a2, b1, b2)]
        losses = _losses_by_reference(leaves, v1, v2, alphas, scale)
        return torch.autograd.grad(losses, leaves, dlosses)


def _losses_by_reference(
    weights: Sequence[Tensor], v1: Tensor, v2: Tensor, alphas: Tensor, scale: float
) -> Tensor:
    # Interpolated in float64, like the native kernels' weights.
    a1, a2, b1, b2 = (w.double() for w in weights)
    a, b = Weights(a1, None, a2, None), Weights(b1, None, b2, None)
    return scale * reference.population_path_losses(a, b, Teacher(v1, v2), alphas).losses


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, dlosses: Tensor) -> tuple[Tensor | None, ...]:
    a1, a2, b1, b2, v1, v2, alphas = ctx.saved_tensors
    weights = (a1, a2, b1, b2)
    needed = ctx.needs_input_grad[:4]
    if torch.is_grad_enabled():
        # Somebody will differentiate the gradient: it must come out of differentiable operations.
        inputs = [w for w, need in zip(weights, needed, strict=True) if need]
        losses = _losses_by_reference(weights, v1, v2, alphas, ctx.scale)
        found = iter(torch.autograd.grad(losses, inputs, dlosses, create_graph=True))
        results = [next(found) if need else None for need in needed]
    else:
        gradients = BACKWARD_OP(dlosses, *weights, v1, v2, alphas, ctx.scale)
        results = [g if need else None for g, need in zip(gradients, needed, strict=True)]
    return (*results, None, None, None, None)


OP.autograd(_backward, _keep_inputs)
