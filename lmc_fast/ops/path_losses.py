# SPDX-License-Identifier: MIT
"""Losses on samples along the segment between two networks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..curves import PathLosses, as_alphas
from ..losses import are_labels, check_inputs, check_targets
from ..reference import path_losses as reference
from ..weights import Weights, as_weights, check_same_architecture
from . import _cuda
from ._cuda import terms_of
from ._library import Op, sum_first_axis, warn_reference_once
from .two_layer_relu import BACKWARD_OP as NETWORK_BACKWARD
from .two_layer_relu import OP as NETWORK

__all__ = ["PathLosses", "path_losses"]


def path_losses(
    a: object,
    b: object,
    x: Tensor,
    y: Tensor,
    alphas: int | Sequence[float] | Tensor = 25,
    loss: str = "mse",
    precision: str = "float32",
) -> PathLosses:
    """Losses of (1 - alpha) a + alpha b on n samples, for P pairs and A alphas at once.

    Pre-activations are linear in alpha, so each neuron of each sample changes between active and
    inactive at most once along the segment, and between such crossings an output is a quadratic in
    alpha. The whole curve therefore costs two matrix products, whatever A is, a few
    operations per crossing, and n A c for the losses themselves (which dominate for networks
    narrower than about 10 A); nothing of size (n, m) is stored.

    Parameters
    ----------
    a, b : network
        Anything :func:`lmc_fast.as_weights` reads; P networks each, of one shape, dtype, device.
    x : Tensor, shape (n, d)
    y : Tensor
        int64 labels (n,) of c classes; or for ``"mse"`` any targets (n, c), or (n,) if c = 1.
        "mse" takes labels as targets of 1 for the class and 0 elsewhere.
    alphas : int or sequence of float
        A number of equally spaced points with both ends, or sorted points in [0, 1].
    loss : {"mse", "cross_entropy"}
        Mean over samples of sum over outputs of (f - y)^2 / 2, or of -log softmax(f)[y] in nats.
    precision : {"float32", "tf32", "bf16"}
        Of the products on a GPU with tensor cores; see :func:`lmc_fast.two_layer_relu`.

    Returns
    -------
    PathLosses
        ``alphas`` (A,), ``losses`` (P, A), and with labels ``accuracies`` (P, A), all float64. At
        alpha = 0 and 1 they are the networks' own losses: those of the outputs of
        :func:`lmc_fast.two_layer_relu`, to the last bit. The losses can be differentiated once
        with respect to the weights (given as tensors), x and y.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.

    Notes
    -----
    For "mse" the accuracies take a second evaluation of the segment.

    The backward pass costs one fused forward and backward pass for every alpha whose loss has a
    gradient that is not zero.

    Pre-activations and sums over neurons are in the networks' dtype, everything after them in
    float64. Results do not depend on the number of threads, nor on the other pairs, to the last
    bit. On devices without kernels of ours the plain torch reference runs, with one warning.

    While a CUDA graph is captured, what the arrays hold is not checked, and a number of alphas must
    have been used on the device before.

    Examples
    --------
    >>> a, b = torch.randn(8, 3), torch.randn(8, 3)  # w1 of two networks; w2 is ones
    >>> path_losses(a, b, torch.randn(50, 3), torch.zeros(50), alphas=5).losses.shape
    torch.Size([1, 5])
    """
    a, b = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(a, b)
    _, _, d, c = a.sizes
    x = check_inputs(x, d, a.w1.dtype, a.w1.device)
    targets = check_targets(y, loss, len(x), c, a.w1.dtype, a.w1.device)
    points, terms = as_alphas(alphas), terms_of(precision)
    losses, accuracies = OP(*a, *b, x, targets, points, loss, terms)
    if loss == "cross_entropy":
        return PathLosses(points, losses, accuracies)
    if not are_labels(y, c):
        return PathLosses(points, losses, None)
    # Kernels of the squared loss see numbers, not classes; outputs are the same for both losses.
    with torch.no_grad():
        accuracies = OP(*a, *b, x, y.long(), points, "cross_entropy", terms)[1]
    return PathLosses(points, losses, accuracies)


_NETWORKS = ", ".join(
    f"Tensor w1_{net}, Tensor? b1_{net}, Tensor w2_{net}, Tensor? b2_{net}" for net in "ab"
)
OP = Op(
    f"path_losses({_NETWORKS}, Tensor x, Tensor y, Tensor alphas, str loss, int terms=3)"
    " -> (Tensor, Tensor)"
)
BACKWARD_OP = Op(
    f"path_losses_backward(Tensor dlosses, {_NETWORKS}, Tensor x, Tensor y, Tensor alphas,"
    " str loss, bool[10] wanted, int terms=3) -> Tensor[]"
)


@OP.fake
def _fake(
    w1_a: Tensor,
    b1_a: Tensor | None,
    w2_a: Tensor,
    b2_a: Tensor | None,
    w1_b: Tensor,
    b1_b: Tensor | None,
    w2_b: Tensor,
    b2_b: Tensor | None,
    x: Tensor,
    y: Tensor,
    alphas: Tensor,
    loss: str,
    terms: int = 3,
) -> tuple[Tensor, Tensor | None]:
    """Without labels there are no accuracies."""
    shape = (w1_a.shape[0], alphas.shape[0])
    losses = w1_a.new_empty(shape, dtype=torch.float64)
    return losses, torch.empty_like(losses) if loss == "cross_entropy" else None


@OP.kernel("CPU")
def _cpu(*arguments: Any) -> tuple[Tensor, Tensor | None]:
    losses, accuracies = _fake(*arguments)
    taken: list[Any] = [None if t is None else t.contiguous() for t in arguments[:11]]
    taken += [losses, accuracies, torch.get_num_threads()]
    _native.path_losses(*taken)
    return losses, accuracies


@OP.kernel("CUDA")
def _cuda_kernels(*arguments: Any) -> tuple[Tensor, Tensor | None]:
    if not _cuda.compiled("path_losses"):
        return _reference(*arguments)
    with _cuda.memory_explained("path_losses"):
        losses, accuracies = _fake(*arguments)
        *arrays, alphas = arguments[:11]
        given = (*arrays, _cuda.on_device(alphas, losses.device), losses, accuracies)
        _cuda.run(_native.path_losses_cuda, given, _cuda.used(*(arguments[12:] or [3])))
    return losses, accuracies


@OP.kernel("CompositeExplicitAutograd")
def _reference(*arguments: Any) -> tuple[Tensor, Tensor | None]:
    *networks, x, y, alphas, loss = arguments[:12]
    warn_reference_once("path_losses", x.device)
    curve = reference.path_losses(
        Weights(*networks[:4]), Weights(*networks[4:]), x, y, alphas, loss
    )
    return curve.losses, curve.accuracies


@BACKWARD_OP.fake
def _backward_fake(dlosses: Tensor, *arguments: Any) -> list[Tensor]:
    """One gradient per array, empty where it is not wanted."""
    *arrays, _, _, wanted = arguments[:13]
    return [
        torch.empty_like(t, memory_format=torch.contiguous_format)
        if want
        else dlosses.new_empty((0,))
        for t, want in zip(arrays, wanted, strict=True)
    ]


@BACKWARD_OP.kernel("CompositeExplicitAutograd")
def _backward_kernel(dlosses: Tensor, *arguments: Any) -> list[Tensor]:
    """Sum over alphas of the gradient at theta(alpha), times 1 - alpha for a and alpha for b."""
    *arrays, alphas, loss, wanted = arguments[:13]
    terms = arguments[13:] or [3]
    a, b, x, y = Weights(*arrays[:4]), Weights(*arrays[4:8]), arrays[8], arrays[9]
    gradients = [torch.zeros_like(t) for t in _backward_fake(dlosses, *arguments)]
    in_network = [wanted[part] or wanted[part + 4] for part in range(4)]
    places = [(part, end) for part in range(4) for end in (0, 1) if wanted[part + 4 * end]]
    counts = dlosses.any(0).tolist()  # of every alpha at once: it waits for the device
    for k, alpha in enumerate(alphas.tolist()):
        if not counts[k]:
            continue
        point = a.at(b, alpha)
        outputs, signs = NETWORK(x, *point, True, *terms)
        df = _output_gradient(outputs, y, loss, dlosses[:, k])
        if wanted[9]:
            gradients[9] -= sum_first_axis(df)
        dx, *parts = NETWORK_BACKWARD(
            df,
            x,
            *point[:3],
            signs,
            # An end of the segment may lack a bias that the other end has.
            [wanted[8], *(w and t is not None for w, t in zip(in_network, point, strict=True))],
            *terms,
        )
        if wanted[8]:
            gradients[8] += dx
        for part, end in places:
            if point[part] is not None:
                gradients[part + 4 * end] += (alpha if end else 1.0 - alpha) * parts[part]
    return gradients


def _output_gradient(outputs: Tensor, y: Tensor, loss: str, dloss: Tensor) -> Tensor:
    """d(sum over pairs of dloss * loss)/d outputs (P, n, c)."""
    scale = dloss[:, None, None] / outputs.shape[1]
    if loss == "mse":
        df = scale * (outputs.double() - y)
    else:
        df = scale * outputs.double().softmax(-1)
        df -= scale * torch.nn.functional.one_hot(y, outputs.shape[-1])
    return df.to(outputs.dtype)


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> None:
    *arrays, ctx.loss = inputs[:12]
    ctx.terms, ctx.inputs = inputs[12:] or (3,), len(inputs)
    ctx.save_for_backward(*arrays)
    if output[1] is not None:
        ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dlosses: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad[:10])
    gradients = BACKWARD_OP(dlosses, *ctx.saved_tensors, ctx.loss, wanted, *ctx.terms)
    found = (g if want else None for g, want in zip(gradients, wanted, strict=True))
    return (*found, *[None] * (ctx.inputs - 10))


OP.autograd(_backward, _keep_inputs)


def _refuse_double_backward(ctx: Any, *upstream: Any) -> None:
    raise NotImplementedError(
        "path_losses can be differentiated once; for second derivatives use the plain torch "
        "lmc_fast.reference.path_losses.path_losses"
    )


BACKWARD_OP.autograd(_refuse_double_backward)
