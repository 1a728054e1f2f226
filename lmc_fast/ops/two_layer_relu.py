# SPDX-License-Identifier: MIT
"""The fused two-layer ReLU network: public function, fake kernel, kernels, autograd."""

from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..reference import two_layer_relu as reference
from . import _cuda
from ._cuda import terms_of
from ._library import Op, check_same_kind, sum_first_axis, warn_reference_once


def two_layer_relu(
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    precision: str = "float32",
) -> Tensor:
    """f(x) = w2 relu(w1 x + b1) + b2 for one network, or for S of them at once.

    The forward pass never stores the pre-activations z = w1 x + b1: it keeps one bit per
    (sample, neuron), and only when a gradient will be asked for. The backward pass needs no more,
    because relu is positively homogeneous (for several outputs, the gradient to w2 computes z a
    second time). Results do not depend on the number of threads, nor on the other networks of an
    ensemble, to the last bit.

    Parameters
    ----------
    x : Tensor, shape (n, d) or (S, n, d)
        Inputs; a 2-d x is shared by all S networks.
    w1 : Tensor, shape (m, d) or (S, m, d)
    b1 : Tensor, shape (m,) or (S, m), or None
    w2 : Tensor, shape (c, m) or (S, c, m)
    b2 : Tensor, shape (c,) or (S, c), or None
    precision : {"float32", "tf32", "bf16"}
        Of the products of float32 tensors on a GPU with tensor cores (compute capability 8.0 or
        later); elsewhere, and for float64, it changes nothing. ``"float32"`` has the errors of
        float32 arithmetic, ``"tf32"`` relative errors of operands up to 2^-16 (those of TF32 are
        2^-11), ``"bf16"`` up to 2^-8. See Notes.

    Returns
    -------
    Tensor, shape (n, c) or (S, n, c)
        Differentiable with respect to every argument; also twice, the second time through plain
        torch operations of size (n, m).

    Raises
    ------
    TypeError
        A dtype other than float32 or float64, or dtypes that differ.
    ValueError
        Shapes that do not fit, or devices that differ.

    Notes
    -----
    On a GPU a float32 is split into three bfloat16 terms, which hold it exactly; of the nine
    products of two such numbers the six largest are summed by the tensor cores, and their sums over
    16 elements are added in float32. ``"tf32"`` takes two terms and three products, ``"bf16"`` one.
    A left operand of sign bits is exact in one term. Infinite inputs give NaN there, and infinite
    or NaN terms of inactive neurons give NaN in gradients, as in torch. On devices without kernels
    of ours the plain torch reference runs, with one warning.

    On the CPU NaN and infinity propagate to the outputs as in torch; a gradient is that of the
    active neurons alone, where torch multiplies the others' values by zero (and gives NaN for
    infinite ones).
    The gradient of w2 for c = 1 is computed from that of w1 and b1, without the activations: where
    x is far from centred and the products cancel in z, its float32 error is that of the terms
    w1[j, k] x[i, k], which may be larger than the rounding of z.

    Examples
    --------
    >>> x, w1, w2 = torch.randn(8, 3), torch.randn(5, 3), torch.ones(1, 5)
    >>> two_layer_relu(x, w1, None, w2, None).shape
    torch.Size([8, 1])
    """
    _check(x, w1, b1, w2, b2)
    keep_signs = torch.is_grad_enabled() and (
        x.requires_grad
        or w1.requires_grad
        or w2.requires_grad
        or (b1 is not None and b1.requires_grad)
        or (b2 is not None and b2.requires_grad)
    )
    f: Tensor = OP(x, w1, b1, w2, b2, keep_signs, terms_of(precision))[0]
    return f


def _check(x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None) -> None:
    for name, t in (("x", x), ("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2)):
        if not isinstance(t, Tensor) and (t is not None or name not in ("b1", "b2")):
            raise TypeError(f"{name} must be a tensor; got {type(t).__name__}")
    x_, w1_, w2_ = x.shape, w1.shape, w2.shape
    if len(w1_) not in (2, 3):
        raise ValueError(f"w1 must be (m, d) or (S, m, d); got {tuple(w1_)}")
    stacked = len(w1_) == 3
    m, d = w1_[-2], w1_[-1]
    if len(x_) not in (2, len(w1_)) or x_[-1] != d or (len(x_) == 3 and x_[0] != w1_[0]):
        wanted = f"(*, {d})" + (f" or ({w1_[0]}, *, {d})" if stacked else "")
        raise ValueError(f"x must be {wanted} to match w1 {tuple(w1_)}; got {tuple(x_)}")
    if len(w2_) != len(w1_) or (stacked and w2_[0] != w1_[0]) or w2_[-1] != m or w2_[-2] < 1:
        wanted = f"(S, c, m) = ({w1_[0]}, *, {m})" if stacked else f"(c, m) = (*, {m})"
        raise ValueError(
            f"w2 must be {wanted} with c >= 1 to match w1 {tuple(w1_)}; got {tuple(w2_)}"
        )
    for name, bias, size in (("b1", b1, m), ("b2", b2, w2_[-2])):
        if bias is not None and bias.shape != (*w1_[:-2], size):
            prefix = f"S = {w1_[0]}: " if stacked else ""
            raise ValueError(
                f"{name} must be {(*w1_[:-2], size)} ({prefix}one bias per "
                f"{'neuron' if name == 'b1' else 'output'}) or None; "
                f"got {tuple(bias.shape)}"
            )
    check_same_kind(("w1", w1), ("x", x), ("b1", b1), ("w2", w2), ("b2", b2))


GROUP_FLOATS = 2**24

OP = Op(
    "two_layer_relu(Tensor x, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, bool keep_signs,"
    " int terms=3) -> (Tensor, Tensor)"
)
BACKWARD_OP = Op(
    "two_layer_relu_backward(Tensor df, Tensor x, Tensor w1, Tensor? b1, Tensor w2, Tensor signs,"
    " bool[5] wanted, int terms=3) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


@OP.fake
def _forward_fake(
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    keep_signs: bool,
    terms: int = 3,
) -> tuple[Tensor, Tensor | None]:
    S, n, m = w1.shape[:-2], x.shape[-2], w1.shape[-2]
    f = w1.new_empty((*S, n, w2.shape[-2]))
    words = (S[0] if S else 1, (m + 63) // 64, n)
    return f, w1.new_empty(words, dtype=torch.int64) if keep_signs else None


@BACKWARD_OP.fake
def _backward_fake(
    df: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    signs: Tensor,
    wanted: list[bool],
    terms: int = 3,
) -> tuple[Tensor | None, ...]:
    dx, dw1, db1, dw2, db2 = wanted
    return (
        w1.new_empty(x.shape) if dx else None,
        w1.new_empty(w1.shape) if dw1 else None,
        w1.new_empty(w1.shape[:-1]) if db1 else None,
        w1.new_empty(w2.shape) if dw2 else None,
        w1.new_empty(w2.shape[:-1]) if db2 else None,
    )


@OP.kernel("CPU")
def _forward_cpu(
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    keep_signs: bool,
    terms: int = 3,
) -> tuple[Tensor, Tensor | None]:
    f, signs = _forward_fake(x, w1, b1, w2, b2, keep_signs)
    _native.two_layer_relu_forward(
        x.contiguous(),
        w1.contiguous(),
        None if b1 is None else b1.contiguous(),
        w2.contiguous(),
        None if b2 is None else b2.contiguous(),
        f,
        signs,
        torch.get_num_threads(),
    )
    return f, signs


@BACKWARD_OP.kernel("CPU")
def _backward_cpu(
    df: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    signs: Tensor,
    wanted: list[bool],
    terms: int = 3,
) -> tuple[Tensor | None, ...]:
    gradients = _backward_fake(df, x, w1, b1, w2, signs, wanted)
    arrays = (
        df.contiguous(),
        x.contiguous(),
        w1.contiguous(),
        None if b1 is None else b1.contiguous(),
        w2.contiguous(),
        signs.contiguous(),
    )
    threads = torch.get_num_threads()
    native: Any = _native.two_layer_relu_backward  # mypy does not follow the unpacked arrays
    if w1.ndim == 2:
        native(*arrays, *gradients, threads)
        return gradients
    # The kernel packs x for every student of a call; a group's copies stay below GROUP_FLOATS.
    S, (n, d), x_shared = w1.shape[0], x.shape[-2:], x.ndim == 2
    size = max(1, GROUP_FLOATS // max(1, n * (d + 1)))
    dx = gradients[0].zero_() if x_shared and gradients[0] is not None else None
    for first in range(0, S, size):
        group = slice(first, first + size)
        df_, x_, *others = (None if t is None else t[group] for t in arrays)
        dx_, *parts = (None if t is None else t[group] for t in gradients)
        if x_shared:
            x_ = arrays[1]
            dx_ = None if dx is None else dx.new_empty((min(size, S - first), n, d))
        native(df_, x_, *others, dx_, *parts, threads)
        if dx is not None and dx_ is not None:
            dx += sum_first_axis(dx_)
    return gradients


@OP.kernel("CUDA")
def _forward_cuda(
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    keep_signs: bool,
    terms: int = 3,
) -> tuple[Tensor, Tensor | None]:
    if not _cuda.compiled("two_layer_relu.forward"):
        return _forward_reference(x, w1, b1, w2, b2, keep_signs)
    with _cuda.memory_explained("two_layer_relu"):
        f, signs = _forward_fake(x, w1, b1, w2, b2, keep_signs)
        arrays = (x, w1, b1, w2, b2, f, signs)
        _cuda.run(_native.two_layer_relu_forward_cuda, arrays, _cuda.used(terms))
    return f, signs


@BACKWARD_OP.kernel("CUDA")
def _backward_cuda(
    df: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    signs: Tensor,
    wanted: list[bool],
    terms: int = 3,
) -> tuple[Tensor | None, ...]:
    if not _cuda.compiled("two_layer_relu.backward"):
        return _backward_reference(df, x, w1, b1, w2, signs, wanted)
    with _cuda.memory_explained("the backward pass of two_layer_relu"):
        gradients = _backward_fake(df, x, w1, b1, w2, signs, wanted)
        arrays = (df, x, w1, b1, w2, signs, *gradients)
        _cuda.run(_native.two_layer_relu_backward_cuda, arrays, _cuda.used(terms))
    if w1.ndim == 3 and not len(w1) and gradients[0] is not None:
        gradients[0].zero_()  # of a shared x: the sum over no networks
    return gradients


@OP.kernel("CompositeExplicitAutograd")
def _forward_reference(
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    b2: Tensor | None,
    keep_signs: bool,
    terms: int = 3,
) -> tuple[Tensor, Tensor | None]:
    warn_reference_once("two_layer_relu", x.device)
    f = reference.two_layer_relu(x, w1, b1, w2, b2)
    if not keep_signs:
        return f, None
    active = ~(reference.pre_activations(x, w1, b1) <= 0)
    return f, reference.pack_signs(active if active.ndim == 3 else active[None])


def _active(signs: Tensor, w1: Tensor) -> Tensor:
    active = reference.unpack_signs(signs, w1.shape[-2])
    return active if w1.ndim == 3 else active[0]


@BACKWARD_OP.kernel("CompositeExplicitAutograd")
def _backward_reference(
    df: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    signs: Tensor,
    wanted: list[bool],
    terms: int = 3,
) -> tuple[Tensor | None, ...]:
    gradients = reference.two_layer_relu_backward(df, x, w1, b1, w2, _active(signs, w1))
    return tuple(
        g.contiguous() if want else None for g, want in zip(gradients, wanted, strict=True)
    )


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> None:
    x, w1, b1, w2, _, ctx.signs_kept, *terms = inputs
    ctx.terms, ctx.inputs = terms or [3], len(inputs)
    ctx.save_for_backward(x, w1, b1, w2, output[1])
    if output[1] is not None:
        ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, df: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if df is None:
        return tuple(None for _ in range(ctx.inputs))
    x, w1, b1, w2, signs = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:5])
    if not ctx.signs_kept:  # called as a bare op, without them
        signs = OP(x, w1, b1, w2, None, True, *ctx.terms)[1]
    gradients = BACKWARD_OP(df, x, w1, b1, w2, signs, wanted, *ctx.terms)
    found = [g if want else None for g, want in zip(gradients, wanted, strict=True)]
    return (*found, *(None for _ in range(ctx.inputs - 5)))


OP.autograd(_backward, _keep_inputs)


def _keep_backward_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.wanted, ctx.inputs = inputs[6], len(inputs)


def _double_backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate the plain formula; the active neurons are locally constant."""
    saved = ctx.saved_tensors
    signs = saved[5]
    with torch.enable_grad():
        leaves = [
            None if t is None else t.detach().requires_grad_(need)
            for t, need in zip(saved[:5], ctx.needs_input_grad[:5], strict=True)
        ]
        df, x, w1, b1, w2 = leaves
        assert df is not None
        assert x is not None
        assert w1 is not None
        assert w2 is not None
        gradients = reference.two_layer_relu_backward(df, x, w1, b1, w2, _active(signs, w1))
        total: Any = sum(
            (g * u).sum()
            for g, u, want in zip(gradients, upstream, ctx.wanted, strict=True)
            if want
        )
        differentiable = [t for t in leaves if t is not None and t.requires_grad]
        found = iter(
            torch.autograd.grad(total, differentiable, allow_unused=True)
            if isinstance(total, Tensor) and total.requires_grad
            else [None] * len(differentiable)  # such as d dx/d x, which is zero
        )
    return (
        *(next(found) if t is not None and t.requires_grad else None for t in leaves),
        *(None for _ in range(ctx.inputs - 5)),
    )


BACKWARD_OP.autograd(_double_backward, _keep_backward_inputs)
