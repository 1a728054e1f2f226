# SPDX-License-Identifier: MIT
r"""Population loss of a two-layer ReLU student against a teacher, in closed form.

The one formula is the degree-1 arc-cosine kernel (Cho and Saul, NeurIPS 2009): for x ~ N(0, I_d)
and t the angle between u and v,

    K(u, v) = E[relu(u.x) relu(v.x)] = |u||v| (sin t + (pi - t) cos t) / (2 pi),

and r^2/d times that for x uniform on the sphere of radius r. All arithmetic is float64.

The angle is taken from the unit vectors' difference and sum, p = |u^ - v^|^2 and q = |u^ + v^|^2,
as t = 2 atan2(sqrt p, sqrt q), which keeps the relative accuracy of t near 0 and of pi - t near
pi. With s(x) = sin x - x cos x,

    sin t + (pi - t) cos t = pi cos t + s(t) = s(pi - t),

the first form for t <= pi/2, the second beyond it, where the plain sum would cancel.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..curves import PathLosses, as_alphas
from ..losses import check_option
from ..weights import Teacher, as_teacher, as_weights, check_no_biases, check_same_architecture

INPUTS = ("gaussian", "sphere")
NO_BIASES = "Pass samples x and y instead of a teacher, or drop them"  # what to do about biases

# s(x) = sum_k (-1)^(k+1) 2k/(2k+1)! x^(2k+1); below 0.5 the term left out is 1e-17 of the sum.
_SERIES_LIMIT = 0.5
_SERIES = tuple((-1) ** (k + 1) * 2 * k / math.factorial(2 * k + 1) for k in range(1, 8))
# x - sin x = sum_k (-1)^(k+1) x^(2k+1) / (2k+1)!
_SINE_GAP_SERIES = tuple((-1) ** (k + 1) / math.factorial(2 * k + 1) for k in range(1, 8))


class PopulationGradient(NamedTuple):
    """Loss (S,) with its gradients in w1 (S, m, d) and w2 (S, c, m)."""

    loss: Tensor
    w1: Tensor
    w2: Tensor


class _Angles(NamedTuple):
    """Geometry of every pair (u_i, v_j); see :func:`_angles`."""

    t: Tensor
    delta: Tensor
    cosine: Tensor
    unit_u: Tensor
    norm_u: Tensor
    unit_v: Tensor
    norm_v: Tensor


def input_scale(inputs: str, radius: float, d: int) -> float:
    """E[x_i^2]: 1 for Gaussian inputs, r^2/d on the sphere of radius r."""
    check_option(inputs, "inputs", INPUTS)
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be finite and above 0; got {radius}")
    return 1.0 if inputs == "gaussian" else radius**2 / d


def relu_kernel(u: Tensor, v: Tensor) -> Tensor:
    """K for Gaussian inputs: u (..., m, d), v (..., M, d) -> (..., m, M), 0 for zero vectors.

    Differentiable twice, parallel, antiparallel and zero vectors included.
    """
    angles = _angles(u.double(), v.double())
    shape = kernel_shape(angles.t, angles.delta, angles.cosine)
    return angles.norm_u[..., :, None] * angles.norm_v[..., None, :] * shape / (2 * math.pi)


def kernel_shape(t: Tensor, delta: Tensor, cosine: Tensor) -> Tensor:
    """sin t + (pi - t) cos t, with delta = pi - t and cosine = cos t given to full accuracy."""
    return torch.where(cosine >= 0, math.pi * cosine + _s(t), _s(delta))


def relu_kernel_gradient(u: Tensor, v: Tensor) -> Tensor:
    """dK(u_i, v_j)/du_i with v_j held fixed: (..., m, M, d); zero where either vector is zero.

    g(u, v) = (|v| sin t u^ + (pi - t) v) / (2 pi), for t > pi/2 in the form
    |v| (delta (u^ + v^) - (delta - sin delta) u^) / (2 pi), delta = pi - t, which does not cancel.
    """
    angles = _angles(u.double(), v.double())
    t, delta = angles.t[..., None], angles.delta[..., None]
    unit_u, unit_v = angles.unit_u[..., :, None, :], angles.unit_v[..., None, :, :]
    acute = t.sin() * unit_u + delta * unit_v
    obtuse = delta * (unit_u + unit_v) - _sine_gap(delta) * unit_u
    direction = torch.where(angles.cosine[..., None] >= 0, acute, obtuse)
    alive = (angles.norm_u > 0)[..., :, None, None]
    return torch.where(alive, angles.norm_v[..., None, :, None] * direction, 0.0) / (2 * math.pi)


def population_loss(
    w1: Tensor, w2: Tensor | None, teacher: object, inputs: str = "gaussian", radius: float = 1.0
) -> Tensor:
    """L = E |f - f*|^2 / 2 of S students; parameters as in :func:`lmc_fast.population_loss`.

    L = 1/2 sum_ij (a_i.a_j) K(u_i,u_j) - sum_ik (a_i.v2_k) K(u_i,v_k)
        + 1/2 sum_kl (v2_k.v2_l) K(v_k,v_l),

    a_i and v2_k the columns of w2 and v2. The three sums cancel at a minimum, so a loss is
    accurate to eps times their magnitude, and the loss of an exact minimum may come out below zero
    by as much.
    """
    w1, w2, teacher = _students(w1, w2, teacher)
    v1, v2 = teacher
    own = (w2.mT @ w2) * relu_kernel(w1, w1)
    cross = (w2.mT @ v2) * relu_kernel(w1, v1)
    fixed = (v2.mT @ v2) * relu_kernel(v1, v1)
    total = own.sum((-2, -1)) / 2 - cross.sum((-2, -1)) + fixed.sum() / 2
    return input_scale(inputs, radius, w1.shape[-1]) * total


def population_loss_gradient(
    w1: Tensor, w2: Tensor | None, teacher: object, inputs: str = "gaussian", radius: float = 1.0
) -> PopulationGradient:
    """Loss and its gradients by formula, without autograd; all float64.

    dL/du_i = sum_j (a_i.a_j) g(u_i,u_j) - sum_k (a_i.v2_k) g(u_i,v_k), and
    dL/da_i = sum_j a_j K(u_i,u_j) - sum_k v2_k K(u_i,v_k). A zero neuron gets zero from both.
    """
    loss = population_loss(w1, w2, teacher, inputs, radius)
    w1, w2, teacher = _students(w1, w2, teacher)
    v1, v2 = teacher
    own = ((w2.mT @ w2)[..., None] * relu_kernel_gradient(w1, w1)).sum(-2)
    cross = ((w2.mT @ v2)[..., None] * relu_kernel_gradient(w1, v1)).sum(-2)
    grad_w2 = w2 @ relu_kernel(w1, w1) - v2 @ relu_kernel(w1, v1).mT
    scale = input_scale(inputs, radius, w1.shape[-1])
    return PopulationGradient(loss, scale * (own - cross), scale * grad_w2)


def population_path_losses(
    a: object,
    b: object,
    teacher: object,
    alphas: int | Sequence[float] | Tensor = 25,
    inputs: str = "gaussian",
    radius: float = 1.0,
) -> PathLosses:
    """Population losses of P segments; parameters as in :func:`lmc_fast.population_path_losses`."""
    a, b = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(a, b)
    for name, weights in (("a", a), ("b", b)):
        check_no_biases(weights, name, NO_BIASES)
    points = as_alphas(alphas)
    losses = []
    for alpha in points.tolist():
        middle = a.at(b, alpha)
        losses.append(population_loss(middle.w1, middle.w2, teacher, inputs, radius))
    return PathLosses(points, torch.stack(losses, dim=-1), None)


def _students(w1: Tensor, w2: Tensor | None, teacher: object) -> tuple[Tensor, Tensor, Teacher]:
    """w1 (S, m, d), w2 (S, c, m) and the teacher, all float64 and checked."""
    weights = as_weights(w1 if w2 is None else (w1, w2), "student", allow_empty=True)
    _, _, d, c = weights.sizes
    v1, v2 = as_teacher(teacher, d, c)
    device = weights.w1.device
    return weights.w1.double(), weights.w2.double(), Teacher(v1.to(device), v2.to(device))


def _angles(u: Tensor, v: Tensor) -> _Angles:
    """Angles t and delta = pi - t (both with gradients that exist everywhere) and unit vectors."""
    unit_u, norm_u = _unit(u)
    unit_v, norm_v = _unit(v)
    p = (unit_u[..., :, None, :] - unit_v[..., None, :, :]).square().sum(-1)
    q = (unit_u[..., :, None, :] + unit_v[..., None, :, :]).square().sum(-1)
    # sqrt has no derivative at 0. t enters the kernel through s(t) ~ p^1.5 only and delta through
    # s(delta) ~ q^1.5, whose first two derivatives are 0 there, so the constant is right.
    # Two zero vectors have no angle; any will do, since their norms make the kernel 0.
    dead = (p == 0) & (q == 0)
    p, q = torch.where(dead, 1.0, p), torch.where(dead, 1.0, q)
    root_p = torch.where(p > 0, torch.where(p > 0, p, 1.0).sqrt(), 0.0)
    root_q = torch.where(q > 0, torch.where(q > 0, q, 1.0).sqrt(), 0.0)
    t = 2 * torch.atan2(root_p, root_q)
    delta = 2 * torch.atan2(root_q, root_p)
    return _Angles(t, delta, (q - p) / 4, unit_u, norm_u, unit_v, norm_v)


def _unit(u: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors and norms over the last dimension; a zero vector gets the zero vector and 0.

    A vector whose squared norm underflows (a norm below 1e-162) counts as zero.
    """
    alive = u.detach().square().sum(-1, keepdim=True) > 0
    norm = torch.where(alive, u, 1.0).square().sum(-1, keepdim=True).sqrt()
    return torch.where(alive, u / norm, 0.0), torch.where(alive, norm, 0.0)[..., 0]


def _odd_series(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """coefficients[0] x^3 + coefficients[1] x^5 + ..."""
    total = torch.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x * x + coefficient
    return total * x**3


def _s(x: Tensor) -> Tensor:
    """sin x - x cos x to full relative accuracy."""
    small = x < _SERIES_LIMIT
    series = _odd_series(torch.where(small, x, 0.0), _SERIES)
    return torch.where(small, series, x.sin() - x * x.cos())


def _sine_gap(x: Tensor) -> Tensor:
    """x - sin x to full relative accuracy."""
    small = x < _SERIES_LIMIT
    series = _odd_series(torch.where(small, x, 0.0), _SINE_GAP_SERIES)
    return torch.where(small, series, x - x.sin())
