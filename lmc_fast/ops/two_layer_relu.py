# SPDX-License-Identifier: MIT
"""The fused two-layer ReLU network: public function, fake kernel, kernels, autograd."""

from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..reference import two_layer_relu as reference
from ._library import check_same_kind, define, fake, register, warn_reference_once


def two_layer_relu(
    x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None
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
    On devices other than the CPU the plain torch reference runs, with one warning.
    NaN and infinity propagate to the outputs as in torch; a gradient is that of the active neurons
    alone, where torch multiplies the others' values by zero (and gives NaN for infinite ones).
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
    keep_signs = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, w1, b1, w2, b2)
    )
    f: Tensor = torch.ops.lmc_fast.two_layer_relu(x, w1, b1, w2, b2, keep_signs)[0]
    return f


def _check(x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None) -> None:
    for name, t in (("x", x), ("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2)):
        if not isinstance(t, Tensor) and (t is not None or name not in ("b1", "b2")):
            raise TypeError(f"{name} must be a tensor; got {type(t).__name__}")
    stacked = w1.ndim == 3
    if w1.ndim not in (2, 3):
        raise ValueError(f"w1 must be (m, d) or (S, m, d); got {tuple(w1.shape)}")
    S, (m, d) = w1.shape[:-2], w1.shape[-2:]
    prefix = f"S = {w1.shape[0]}: " if stacked else ""
    if x.ndim not in (2, 3 if stacked else 2) or x.shape[-1] != d or x.shape[:-2] not in ((), S):
        wanted = f"(*, {d})" + (f" or ({S[0]}, *, {d})" if stacked else "")
        raise ValueError(f"x must be {wanted} to match w1 {tuple(w1.shape)}; got {tuple(x.shape)}")
    if w2.ndim != w1.ndim or w2.shape[:-2] != S or w2.shape[-1] != m or w2.shape[-2] < 1:
        wanted = f"(S, c, m) = ({S[0]}, *, {m})" if stacked else f"(c, m) = (*, {m})"
        raise ValueError(
            f"w2 must be {wanted} with c >= 1 to match w1 {tuple(w1.shape)}; got {tuple(w2.shape)}"
        )
    for name, bias, size in (("b1", b1, m), ("b2", b2, w2.shape[-2])):
        if bias is not None and bias.shape != (*S, size):
            raise ValueError(
                f"{name} must be {(*S, size)} ({prefix}one bias per "
                f"{'neuron' if name == 'b1' else 'output'}) or None; "
                f"got {tuple(bias.shape)}"
            )
    check_same_kind(("w1", w1), ("x", x), ("b1", b1), ("w2", w2), ("b2", b2))


GROUP_FLOATS = 2**24

define(
    "two_layer_relu(Tensor x, Tensor w1, Tensor? b1, Tensor w2, Tensor? b2, bool keep_signs)"
    " -> (Tensor, Tensor)"
)
define(
    "two_layer_relu_backward(Tensor df, Tensor x, Tensor w1, Tensor? b1, Tensor w2, Tensor signs,"
    " bool[5] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _stack(t: Tensor | None, ndim: int) -> Tensor | None:
    """``t`` dense, detached and with its leading S, which a single network lacks."""
    if t is None:
        return None
    t = t.detach().contiguous()
    return t if t.ndim == ndim else t[None]


def _signs_shape(x: Tensor, w1: Tensor, keep_signs: bool) -> tuple[int, int, int]:
    S, m = (w1.shape[0] if w1.ndim == 3 else 1), w1.shape[-2]
    return S, ((m + 63) // 64 if keep_signs else 0), x.shape[-2]


@fake("two_layer_relu")
def _forward_fake(
    x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None, keep_signs: bool
) -> tuple[Tensor, Tensor]:
    f = w1.new_empty((*w1.shape[:-2], x.shape[-2], w2.shape[-2]))
    return f, w1.new_empty(_signs_shape(x, w1, keep_signs), dtype=torch.int64)


@fake("two_layer_relu_backward")
def _backward_fake(
    df: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    signs: Tensor,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    S = w1.shape[:-2]
    shapes = (x.shape, w1.shape, (*S, w1.shape[-2]), w2.shape, (*S, w2.shape[-2]))
    return tuple(
        w1.new_empty(shape if want else (0,)) for shape, want in zip(shapes, wanted, strict=True)
    )


@register("two_layer_relu", "CPU")
def _forward_cpu(
    x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None, keep_signs: bool
) -> tuple[Tensor, Tensor]:
    f, signs = _forward_fake(x, w1, b1, w2, b2, keep_signs)
    _native.two_layer_relu_forward(
        x.detach().contiguous(),
        _stack(w1, 3),
        _stack(b1, 2),
        _stack(w2, 3),
        _stack(b2, 2),
        f if f.ndim == 3 else f[None],
        signs if keep_signs else None,
        torch.get_num_threads(),
    )
    return f, signs


@register("two_layer_relu_backward", "CPU")
def _backward_cpu(
    df: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    signs: Tensor,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    gradients = _backward_fake(df, x, w1, b1, w2, signs, wanted)
    x = x.detach().contiguous()
    S, (n, d), stacked = signs.shape[0], x.shape[-2:], w1.ndim == 3
    stacks = [_stack(t, ndim) for t, ndim in ((df, 3), (w1, 3), (b1, 2), (w2, 3))]
    dx, dw1, db1, dw2, db2 = (
        None if not want else g if ndim == g.ndim else g[None]
        for g, want, ndim in zip(gradients, wanted, (3, 3, 2, 3, 2), strict=True)
    )
    shared_dx = gradients[0].zero_() if wanted[0] and stacked and x.ndim == 2 else None
    # The kernel packs x for every student of a call; a group's copies stay below GROUP_FLOATS.
    size = max(1, GROUP_FLOATS // max(1, n * (d + 1)))
    for first in range(0, S, size):
        group = slice(first, first + size)
        df_, w1_, b1_, w2_, dw1_, db1_, dw2_, db2_ = (
            None if t is None else t[group] for t in (*stacks, dw1, db1, dw2, db2)
        )
        if shared_dx is None:
            dx_ = None if dx is None else dx[group]
        else:
            dx_ = shared_dx.new_empty((min(size, S - first), n, d))
        _native.two_layer_relu_backward(
            df_,
            x if x.ndim == 2 else x[group],
            w1_,
            b1_,
            w2_,
            signs[group],
            dx_,
            dw1_,
            db1_,
            dw2_,
            db2_,
            torch.get_num_threads(),
        )
        if shared_dx is not None and dx_ is not None:
            shared_dx += dx_.sum(0)
    return gradients


@register("two_layer_relu", "CompositeExplicitAutograd")
def _forward_reference(
    x: Tensor, w1: Tensor, b1: Tensor | None, w2: Tensor, b2: Tensor | None, keep_signs: bool
) -> tuple[Tensor, Tensor]:
    warn_reference_once("two_layer_relu", x.device)
    f = reference.two_layer_relu(x, w1, b1, w2, b2)
    if not keep_signs:
        return f, w1.new_empty(_signs_shape(x, w1, keep_signs), dtype=torch.int64)
    active = ~(reference.pre_activations(x, w1, b1) <= 0)
    return f, reference.pack_signs(active if active.ndim == 3 else active[None])


def _active(signs: Tensor, w1: Tensor) -> Tensor:
    active = reference.unpack_signs(signs, w1.shape[-2])
    return active if w1.ndim == 3 else active[0]


@register("two_layer_relu_backward", "CompositeExplicitAutograd")
def _backward_reference(
    df: Tensor,
    x: Tensor,
    w1: Tensor,
    b1: Tensor | None,
    w2: Tensor,
    signs: Tensor,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    gradients = reference.two_layer_relu_backward(df, x, w1, b1, w2, _active(signs, w1))
    return tuple(
        g.contiguous() if want else g.new_empty((0,))
        for g, want in zip(gradients, wanted, strict=True)
    )


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, w1, b1, w2, _, ctx.signs_kept = inputs
    ctx.save_for_backward(x, w1, b1, w2, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, df: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, w1, b1, w2, signs = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:5])
    if not ctx.signs_kept:  # called as a bare op, without them
        signs = torch.ops.lmc_fast.two_layer_relu(x, w1, b1, w2, None, True)[1]
    gradients = torch.ops.lmc_fast.two_layer_relu_backward(df, x, w1, b1, w2, signs, wanted)
    return (*(g if want else None for g, want in zip(gradients, wanted, strict=True)), None)


torch.library.register_autograd("lmc_fast::two_layer_relu", _backward, setup_context=_keep_inputs)


def _keep_backward_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.wanted = inputs[6]


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
        None,
        None,
    )


torch.library.register_autograd(
    "lmc_fast::two_layer_relu_backward", _double_backward, setup_context=_keep_backward_inputs
)
