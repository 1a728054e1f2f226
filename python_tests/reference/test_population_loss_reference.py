# SPDX-License-Identifier: MIT
import math

import mpmath
import pytest
import torch
from compare import assert_close, rounding

from lmc_fast import sample_inputs
from lmc_fast.reference.population_loss import (
    input_scale,
    population_loss,
    population_loss_gradient,
    population_path_losses,
    relu_kernel,
    relu_kernel_gradient,
)
from lmc_fast.reference.two_layer_relu import two_layer_relu

EPS = 2.0**-52
# How far the second vector is turned, from parallel to antiparallel; "pi -" counts from pi.
TURNS = [0.0, 1e-300, 1e-12, 1e-8, 1e-4, 0.3, 0.5, 1.0, math.pi / 2, 2.0, 2.7]
BACK_TURNS = [0.0, 1e-12, 1e-8, 1e-4, 1e-2, 0.3, 0.499, 0.501]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact_kernel_and_gradient(u, v):
    """K and dK/du in 50 digits, from the textbook formula and the float64 inputs as they are."""
    with mpmath.workdps(50):
        u, v = [mpmath.mpf(e) for e in u.tolist()], [mpmath.mpf(e) for e in v.tolist()]
        norm_u, norm_v = (mpmath.sqrt(mpmath.fsum(e * e for e in w)) for w in (u, v))
        dot = mpmath.fsum(p * q for p, q in zip(u, v, strict=True))
        cross = mpmath.sqrt(abs((norm_u * norm_v) ** 2 - dot**2))
        t = mpmath.atan2(cross, dot)
        kernel = (
            norm_u * norm_v * (mpmath.sin(t) + (mpmath.pi - t) * mpmath.cos(t)) / (2 * mpmath.pi)
        )
        gradient = [
            (norm_v * mpmath.sin(t) * p / norm_u + (mpmath.pi - t) * q) / (2 * mpmath.pi)
            for p, q in zip(u, v, strict=True)
        ]
        return kernel, gradient, float(mpmath.pi - t)


def turned_pair(angle, back):
    u = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    across = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
    across = across * (u.norm() / across.norm())
    direction = -1 if back else 1
    return u, 0.7 * (direction * math.cos(angle) * u + math.sin(angle) * across)


@pytest.mark.parametrize(
    ("angle", "back"), [(t, False) for t in TURNS] + [(t, True) for t in BACK_TURNS]
)
def test_kernel_and_gradient_against_fifty_digits(angle, back):
    u, v = turned_pair(angle, back)
    exact, exact_gradient, delta = exact_kernel_and_gradient(u, v)
    # delta = pi - t is known to about 4 eps, from the roundings of the unit vectors; K goes as
    # delta^3 and its gradient as delta^2 when delta is small, hence the condition numbers.
    condition = 1 / max(min(delta, 1.0), 1e-300)
    got = relu_kernel(u[None], v[None])[0, 0]
    if float(exact) < 1e-45:  # delta itself is rounding
        assert 0 <= float(got) < 1e-45
        return
    assert_close(got, float(exact), (16 + 12 * condition) * EPS * float(exact), "kernel")
    gradient = relu_kernel_gradient(u[None], v[None])[0, 0]
    size = float(mpmath.sqrt(mpmath.fsum(g * g for g in exact_gradient)))
    want = torch.tensor([float(g) for g in exact_gradient], dtype=torch.float64)
    assert_close(gradient, want, (16 + 8 * condition) * EPS * size, "gradient")


def test_kernel_by_hand():
    e = torch.eye(3, dtype=torch.float64)
    vectors = torch.stack([2 * e[0], e[1], -e[0], 0 * e[0]])
    # |u|^2/2 with itself; 1/(2 pi) per unit norms when orthogonal; 0 when opposite or zero.
    third = 1 / (2 * math.pi)
    want = torch.tensor(
        [[2, 2 * third, 0, 0], [2 * third, 0.5, third, 0], [0, third, 0.5, 0], [0, 0, 0, 0]],
        dtype=torch.float64,
    )
    got = relu_kernel(vectors, vectors)
    assert_close(got, want, rounding(8, want))
    assert (got[want == 0] == 0).all()


def test_loss_by_hand():
    # One student u = (1/2, 0) and teacher e1: f - f* = -relu(x1)/2, E relu^2 = 1/2, loss 1/16.
    u = torch.tensor([[[0.5, 0.0]]], dtype=torch.float64)
    teacher = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert_close(population_loss(u, None, teacher), torch.tensor([1 / 16]), rounding(8))
    # With teacher -e1 the two never overlap: (1/4 + 1) / 2 / 2 = 5/16.
    assert_close(population_loss(u, None, -teacher), torch.tensor([5 / 16]), rounding(8))
    # w2 = -2 and teacher e1: f - f* = -2 relu(x1), loss 1.
    w2 = torch.tensor([[[-2.0]]], dtype=torch.float64)
    assert_close(population_loss(u, w2, teacher), torch.tensor([1.0]), rounding(8))
    # Sphere of radius 3 in d = 2: E x1^2 = 9/2.
    got = population_loss(u, None, teacher, "sphere", 3.0)
    assert_close(got, torch.tensor([4.5 / 16], dtype=torch.float64), rounding(8))


@pytest.mark.parametrize("inputs", ["gaussian", "sphere"])
@pytest.mark.parametrize("c", [1, 3])
def test_loss_against_monte_carlo(inputs, c):
    d, m, M, radius, n = 5, 4, 3, 1.7, 400_000
    w1, w2, v1, v2 = (
        random(1, m, d),
        random(1, c, m, seed=1),
        random(M, d, seed=2),
        random(c, M, seed=3),
    )
    x = sample_inputs(n, d, inputs, radius, seed=4)
    residual = two_layer_relu(x, w1[0], None, w2[0], None) - two_layer_relu(x, v1, None, v2, None)
    losses = residual.square().sum(1) / 2
    loss = population_loss(w1, w2, (v1, v2), inputs, radius)[0]
    assert_close(loss, losses.mean(), 5 * float(losses.std()) / math.sqrt(n))


def test_outputs_add_up():
    w1, w2, v1, v2 = (
        random(2, 4, 5),
        random(2, 3, 4, seed=1),
        random(3, 5, seed=2),
        random(3, 3, seed=3),
    )
    apart = sum(population_loss(w1, w2[:, [o]], (v1, v2[[o]])) for o in range(3))
    assert_close(population_loss(w1, w2, (v1, v2)), apart, rounding(100, 10.0))


def test_gradient_formula_equals_autograd():
    w1, w2 = random(3, 6, 4).requires_grad_(), random(3, 2, 6, seed=1).requires_grad_()
    teacher = (random(5, 4, seed=2), random(2, 5, seed=3))
    loss = population_loss(w1, w2, teacher, "sphere", 2.0)
    by_autograd = torch.autograd.grad(loss.sum(), (w1, w2))
    got = population_loss_gradient(w1.detach(), w2.detach(), teacher, "sphere", 2.0)
    assert_close(got.loss, loss, 0)
    for ours, want in zip((got.w1, got.w2), by_autograd, strict=True):
        assert_close(ours, want, rounding(100, want.abs().max()))


def test_derivatives_against_finite_differences():
    w1, w2 = random(2, 3, 4).requires_grad_(), random(2, 1, 3, seed=1).requires_grad_()
    teacher = random(2, 4, seed=2)
    assert torch.autograd.gradcheck(lambda u, a: population_loss(u, a, teacher), (w1, w2))
    assert torch.autograd.gradgradcheck(lambda u, a: population_loss(u, a, teacher), (w1, w2))


def degenerate_student():
    """Zero (two of them), parallel, antiparallel and nearly parallel neurons, and its teacher."""
    teacher = torch.eye(4, dtype=torch.float64)[:3]
    w1 = torch.zeros(1, 7, 4, dtype=torch.float64)
    w1[0, 1], w1[0, 2], w1[0, 3] = teacher[0], -teacher[0], 0.3 * teacher[0]
    w1[0, 4], w1[0, 5] = teacher[1] + 1e-9 * teacher[2], -0.5 * teacher[1]
    return w1, teacher


def test_derivatives_exist_for_degenerate_neurons():
    w1, teacher = degenerate_student()
    w1.requires_grad_()
    loss = population_loss(w1, None, teacher)
    (gradient,) = torch.autograd.grad(loss.sum(), w1, create_graph=True)
    assert_close(gradient, population_loss_gradient(w1, None, teacher).w1, rounding(20))
    assert (gradient[0, [0, 6]] == 0).all()
    second = torch.stack(
        [torch.autograd.grad(g, w1, retain_graph=True)[0] for g in gradient.flatten()]
    )
    assert torch.isfinite(second).all()
    hessian = second.reshape(28, 28)
    assert_close(hessian, hessian.T, rounding(100))


def test_hessian_across_a_parallel_teacher_neuron():
    # Turning u = e1 away from v = e1 by e2: the two terms of dg/du cancel, only |u|^2/2 bends.
    teacher = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(
        lambda u: population_loss(u[None, None], None, teacher)[0], teacher[0].clone()
    )
    assert_close(hessian, torch.eye(2, dtype=torch.float64) / 2, rounding(8))


def test_a_gradient_step_against_the_gradient_goes_down():
    w1, teacher = random(1, 6, 4) * 0.1, random(3, 4, seed=1)
    result = population_loss_gradient(w1, None, teacher)
    below = population_loss(w1 - 1e-3 * result.w1, None, teacher)
    want = result.loss - 1e-3 * result.w1.square().sum()
    assert_close(below, want, 1e-6 * 10 * float(result.w1.square().sum()))


def test_teacher_is_a_minimum_in_any_order_and_split():
    teacher = random(3, 4)
    split = torch.cat([0.25 * teacher, 0.75 * teacher[[2, 0, 1]]])[None]
    result = population_loss_gradient(split, None, teacher)
    magnitude = float(teacher.norm(dim=1).sum() ** 2)
    assert_close(result.loss, torch.zeros(1), rounding(36, magnitude))
    assert_close(result.w1, torch.zeros(1, 6, 4), rounding(36, magnitude))


def test_float32_weights_are_computed_in_float64():
    w1, teacher = random(2, 3, 4).float(), random(2, 4, seed=1)
    assert population_loss(w1, None, teacher).dtype == torch.float64
    assert_close(population_loss(w1, None, teacher), population_loss(w1.double(), None, teacher), 0)


def test_path_ends_are_the_endpoints_losses():
    a, b, teacher = random(3, 4, 5), random(3, 4, 5, seed=1), random(2, 5, seed=2)
    curve = population_path_losses(a, b, teacher, 7)
    assert_close(curve.losses[:, 0], population_loss(a, None, teacher), 0)
    assert_close(curve.losses[:, -1], population_loss(b, None, teacher), 0)
    middle = population_loss((a + b) / 2, None, teacher)
    assert_close(curve.losses[:, 3], middle, rounding(100, middle))
    assert curve.accuracies is None


def test_path_of_a_network_to_itself_is_flat():
    a, teacher = random(2, 4, 5), random(2, 5, seed=2)
    losses = population_path_losses(a, a, teacher, 11).losses
    assert_close(losses, losses[:, :1].expand_as(losses), rounding(100, 50.0))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"w1": torch.zeros(2, 3, 4, dtype=torch.float16)}, TypeError, "float32 or float64"),
        ({"w1": torch.full((2, 3, 4), torch.nan)}, ValueError, "finite"),
        ({"w1": torch.zeros(2, 3, 0)}, ValueError, "d = 0; got 4"),
        ({"w1": torch.ones(2, 3, 5)}, ValueError, "d = 5; got 4"),
        ({"w2": torch.ones(2, 2, 3)}, ValueError, "c = 2 outputs"),
        ({"w2": torch.ones(2, 1, 4)}, ValueError, r"w2 must be \(c, m\) = \(\*, 3\)"),
        ({"teacher": torch.ones(2, 3, 4)}, ValueError, "one network; got 2"),
        ({"inputs": "uniform"}, ValueError, "'gaussian', 'sphere'; got 'uniform'"),
        ({"radius": -1.0}, ValueError, "radius must be finite and above 0"),
    ],
)
def test_bad_input(arguments, error, message):
    good = {"w1": torch.ones(2, 3, 4), "w2": None, "teacher": torch.ones(2, 4)}
    with pytest.raises(error, match=message):
        population_loss(**{**good, **arguments})


def test_no_neurons_is_the_zero_network_and_no_students_no_losses():
    teacher = random(3, 4)
    zero = population_loss(torch.zeros(2, 5, 4, dtype=torch.float64), None, teacher)
    assert_close(population_loss(torch.zeros(2, 0, 4), None, teacher), zero, 0)
    assert population_loss(torch.zeros(0, 3, 4), None, teacher).shape == (0,)


def test_paths_refuse_biases():
    biased = (torch.ones(3, 4), torch.ones(3), torch.ones(1, 3), None)
    with pytest.raises(ValueError, match="a must have no biases"):
        population_path_losses(biased, biased, torch.ones(2, 4))


def test_input_scale():
    assert input_scale("gaussian", 5.0, 4) == 1.0
    assert input_scale("sphere", 5.0, 4) == 6.25
