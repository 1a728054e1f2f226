# SPDX-License-Identifier: MIT
"""population_path_losses against the reference and population_loss."""

import pytest
import torch
from compare import assert_close

from lmc_fast import TwoLayerReLU, population_loss, population_path_losses
from lmc_fast.ops import population_path_losses as op
from lmc_fast.reference import population_loss as reference

EPS = 2.0**-52


def problem(P, m, M, d, c, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    shapes = ((P, m, d), (P, c, m), (P, m, d), (P, c, m), (M, d), (c, M))
    a1, a2, b1, b2, v1, v2 = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    )
    return (a1.to(dtype), a2.to(dtype)), (b1.to(dtype), b2.to(dtype)), (v1, v2)


def size(a, b, target):
    """A bound on the sums of the loss anywhere on the segments, (P, 1)."""
    students = sum((w2.norm(dim=1) + 0 * w2[:, 0]) @ torch.ones(w2.shape[2]).double()
                   for w2 in (a[1].double(), b[1].double()))  # fmt: skip
    longest = torch.maximum(a[0].double().norm(dim=2).amax(1), b[0].double().norm(dim=2).amax(1))
    return ((students * longest + target[1].norm() * target[0].norm()) ** 2)[:, None]


@pytest.mark.sanitize_quick
@pytest.mark.parametrize(("m", "c"), [(1, 1), (5, 1), (13, 3), (70, 1)])
def test_agrees_with_the_reference(m, c):
    a, b, target = problem(3, m, 5, 7, c)
    for alphas in (7, [0.0, 0.1, 0.5, 0.5, 0.9], [0.3], [1.0]):
        got = population_path_losses(a, b, target, alphas, "sphere", 2.0)
        want = reference.population_path_losses(a, b, target, alphas, "sphere", 2.0)
        assert_close(got.alphas, want.alphas, 0)
        assert_close(got.losses, want.losses, 8 * EPS * size(a, b, target))
        assert got.accuracies is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [9, 600])
def test_ends_are_the_endpoints_losses_to_the_last_bit(m, dtype):
    a, b, target = problem(2, m, 4, 3, 2, dtype)
    losses = population_path_losses(a, b, target, 3).losses
    assert_close(losses[:, 0], population_loss(*a, target), 0)
    assert_close(losses[:, 2], population_loss(*b, target), 0)
    middle = ((s.double() + (t.double() - s.double()) / 2) for s, t in zip(a, b, strict=True))
    assert_close(losses[:, 1], population_loss(*middle, target), 8 * EPS * size(a, b, target)[:, 0])


def test_path_to_itself_is_flat_to_the_last_bit():
    a, _, target = problem(2, 9, 4, 5, 2)
    losses = population_path_losses(a, a, target, 11).losses
    assert_close(losses, losses[:, :1].expand_as(losses), 0)


def test_way_back_is_the_same_curve():
    a, b, target = problem(2, 9, 4, 5, 2)
    alphas = [0.0, 0.125, 0.25, 0.75, 0.875, 1.0]  # 1 - alpha is exact
    there = population_path_losses(a, b, target, alphas).losses
    assert_close(population_path_losses(b, a, target, alphas).losses, there.flip(1), 0)


def test_each_point_depends_on_its_own_alpha_alone():
    a, b, target = problem(2, 9, 4, 5, 1)
    curve = population_path_losses(a, b, target, 25)
    for k in (0, 3, 12, 24):
        point = population_path_losses(a, b, target, curve.alphas[k : k + 1])
        assert_close(point.losses[:, 0], curve.losses[:, k], 0)


def losses_and_gradients(a, b, target):
    leaves = [w.detach().requires_grad_() for w in (*a, *b)]
    losses = population_path_losses(leaves[:2], leaves[2:], target, 5).losses
    weights = torch.linspace(-1, 2, 5, dtype=torch.float64)
    return (losses.detach(), *torch.autograd.grad((losses * weights).sum(), leaves))


@pytest.mark.parametrize("m", [90, 600])  # more work than one thread takes alone
def test_threads_and_company_change_no_bit(m):
    a, b, target = problem(3, m, 4, 3, 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = losses_and_gradients(a, b, target)
        torch.set_num_threads(3)
        for got, expected in zip(losses_and_gradients(a, b, target), want, strict=True):
            assert_close(got, expected, 0, "three threads")
    finally:
        torch.set_num_threads(before)
    alone = losses_and_gradients([w[[1]] for w in a], [w[[1]] for w in b], target)
    for got, expected in zip(alone, want, strict=True):
        assert_close(got[0], expected[1], 0, "alone")


def test_gradient_is_the_chain_rule_through_the_weights_between():
    a, b, target = problem(2, 6, 4, 5, 2)
    weights = torch.linspace(-1, 2, 5, dtype=torch.float64)
    want = [torch.zeros_like(w) for w in (*a, *b)]
    for alpha, weight in zip((0.0, 0.25, 0.5, 0.75, 1.0), weights.tolist(), strict=True):
        between = [
            ((1 - alpha) * s + alpha * t).requires_grad_() for s, t in zip(a, b, strict=True)
        ]
        gradients = torch.autograd.grad(population_loss(*between, target).sum(), between)
        for k, gradient in enumerate(gradients):
            want[k] += (1 - alpha) * weight * gradient
            want[k + 2] += alpha * weight * gradient
    for got, expected in zip(losses_and_gradients(a, b, target)[1:], want, strict=True):
        assert_close(got, expected, 64 * EPS * expected.abs().max())


def test_float32_gradients_are_rounded_from_float64():
    a, b, target = problem(2, 6, 4, 5, 2, torch.float32)
    exact = losses_and_gradients([w.double() for w in a], [w.double() for w in b], target)
    got = losses_and_gradients(a, b, target)
    assert_close(got[0], exact[0], 0)
    for ours, want in zip(got[1:], exact[1:], strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, want.float(), 0)


def test_derivatives_against_finite_differences():
    a, b, target = problem(1, 3, 2, 3, 2)
    leaves = [w.requires_grad_() for w in (*a, *b)]

    def losses(a1, a2, b1, b2):
        return population_path_losses((a1, a2), (b1, b2), target, [0.2, 1.0]).losses

    assert torch.autograd.gradcheck(losses, leaves)
    assert torch.autograd.gradgradcheck(losses, leaves)


def test_opcheck():
    a, b, target = problem(2, 4, 3, 4, 2, torch.float32)
    leaves = [w.requires_grad_() for w in (*a, *b)]
    alphas = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    torch.library.opcheck(
        torch.ops.lmc_fast.population_path_losses.default, (*leaves, *target, alphas, 1.5)
    )


def test_the_reference_serves_other_devices():
    a, b, target = problem(2, 4, 3, 4, 2)
    alphas = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    arguments = (*a, *b, *target, alphas, 1.5)
    with pytest.warns(UserWarning, match="no population_path_losses kernel for cpu tensors"):
        slow = op._forward_reference(*arguments)
    fast = torch.ops.lmc_fast.population_path_losses(*arguments)
    assert_close(fast, slow, 8 * EPS * size(a, b, target))
    upstream = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], dtype=torch.float64)
    slow = op._backward_reference(upstream, *arguments)
    fast = torch.ops.lmc_fast.population_path_losses_backward(upstream, *arguments)
    for got, want in zip(fast, slow, strict=True):
        assert_close(got, want, 64 * EPS * want.abs().max())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"a": TwoLayerReLU(4, 3)}, ValueError, "a must have no biases"),
        ({"b": TwoLayerReLU(4, 3)}, ValueError, "b must have no biases"),
        ({"b": torch.ones(2, 4)}, ValueError, "the same width m; got 3 and 2"),
        ({"b": torch.ones(3, 4).double()}, TypeError, "the same dtype"),
        ({"a": torch.full((3, 4), torch.nan)}, ValueError, "a.w1 must be finite"),
        ({"teacher": torch.ones(2, 5)}, ValueError, "d = 4; got 5"),
        ({"alphas": [0.0, 1.5]}, ValueError, r"alphas must lie in \[0, 1\]"),
        ({"alphas": [0.5, 0.2]}, ValueError, "alphas must be sorted"),
        ({"alphas": []}, ValueError, "not empty"),
        ({"inputs": "cube"}, ValueError, "'gaussian', 'sphere'; got 'cube'"),
        ({"radius": -1.0}, ValueError, "radius must be finite and above 0"),
    ],
)
def test_bad_input(arguments, error, message):
    good = {"a": torch.ones(3, 4), "b": torch.ones(3, 4), "teacher": torch.ones(2, 4)}
    with pytest.raises(error, match=message):
        population_path_losses(**{**good, **arguments})
