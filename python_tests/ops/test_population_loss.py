# SPDX-License-Identifier: MIT
"""population_loss against the reference, fifty digits and samples."""

import itertools
import math

import mpmath
import pytest
import torch
from compare import assert_close

from lmc_fast import (
    TwoLayerReLU,
    population_loss,
    sample_global_minima,
    sample_inputs,
    teacher,
    train_ensemble,
)
from lmc_fast.ops import population_loss as op
from lmc_fast.reference import population_loss as reference
from lmc_fast.reference.two_layer_relu import two_layer_relu

EPS = 2.0**-52
# Around the lanes of every target (2 to 8), a tile of partners (4) and blocks of neurons (32), of
# which there are one to five.
WIDTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 17, 31, 32, 33, 63, 65, 97, 131)
# Around the rows of the gradient product (1 to 12 at a time).
DIMENSIONS = (1, 2, 3, 7, 10, 12, 13, 25)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(S, m, M, d, c, seed=0):
    shapes = ((S, m, d), (S, c, m), (M, d), (c, M))
    w1, w2, v1, v2 = (random(*shape, seed=4 * seed + k) for k, shape in enumerate(shapes))
    return w1, w2, (v1, v2)


def loss_and_gradients(w1, w2, target, *args):
    w1, w2 = w1.detach().requires_grad_(), w2.detach().requires_grad_()
    loss = population_loss(w1, w2, target, *args)
    return (loss.detach(), *torch.autograd.grad(loss.sum(), (w1, w2)))


def lengths(w1, w2, target):
    """sum_i |a_i||u_i| + sum_k |b_k||v_k|, (S,)."""
    v1, v2 = target
    students = (w2.norm(dim=1) * w1.norm(dim=2)).sum(1)
    return students.double() + (v2.norm(dim=0) * v1.norm(dim=1)).sum()


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("c", [1, 3])
def test_agrees_with_the_reference_at_adversarial_sizes(c):
    # Three dimensions for each width, another three for the next.
    cases = itertools.product(WIDTHS, range(3))
    for number, ((m, _), d) in enumerate(zip(cases, itertools.cycle(DIMENSIONS), strict=False)):
        w1, w2, target = problem((1, 3)[number % 2], m, (1, 4, 5, 40)[number % 4], d, c, number)
        loss, dw1, dw2 = loss_and_gradients(w1, w2, target)
        exact = reference.population_loss_gradient(w1, w2, target)
        # Each kernel value loses about (d + 16) eps; K(u, v) <= |u||v|/2 and |dK/du| <= |v|.
        loss_of_digits, total = (d + 16) * EPS, lengths(w1, w2, target)
        what = f"m={m} d={d} c={c}"
        assert_close(loss, exact.loss, loss_of_digits * total**2, what)
        by_neuron = loss_of_digits * total[:, None] * w2.norm(dim=1)
        assert_close(dw1, exact.w1, by_neuron[..., None], f"dw1 {what}")
        by_neuron = loss_of_digits * total[:, None] * w1.norm(dim=2)
        assert_close(dw2, exact.w2, by_neuron[:, None], f"dw2 {what}")


def test_neurons_at_all_angles_in_all_places_against_the_reference():
    # Pairs within a vector, a block and between blocks are taken in ways of their own.
    turn = 1e-7
    for seed, (i, j) in enumerate(itertools.combinations((0, 1, 8, 30, 33, 70), 2)):
        w1, w2, target = problem(1, 75, 5, 4, 2, seed)
        total = lengths(w1, w2, target)
        for other in (w1[0, i], -3 * w1[0, i], w1[0, i] * torch.tensor([1, 1, 1, 1 + turn])):
            w1[0, j] = other
            loss, dw1, dw2 = loss_and_gradients(w1, w2, target)
            exact = reference.population_loss_gradient(w1, w2, target)
            error = 20 * EPS * 3 * total  # the lengths have changed
            assert_close(loss, exact.loss, error * 3 * total, f"{i}, {j}")
            assert_close(dw1, exact.w1, (error[:, None] * w2.norm(dim=1))[..., None], f"{i}, {j}")
            assert_close(dw2, exact.w2, (error[:, None] * w1.norm(dim=2))[:, None], f"{i}, {j}")


@pytest.mark.parametrize(("m", "c"), [(9, 1), (9, 2), (70, 1), (70, 3)])
def test_each_gradient_alone_and_none(m, c):
    w1, w2, target = problem(2, m, 4, 5, c)
    loss, dw1, dw2 = loss_and_gradients(w1, w2, target)
    for needed in ((True, False), (False, True), (False, False)):
        leaves = [w.clone().requires_grad_(n) for w, n in zip((w1, w2), needed, strict=True)]
        alone = population_loss(*leaves, target)
        assert_close(alone, loss, 0)
        if any(needed):
            alone.sum().backward()
        for leaf, want in zip(leaves, (dw1, dw2), strict=True):
            if leaf.requires_grad:
                assert_close(leaf.grad, want, 0)


ANGLES = [0.0, 1e-300, 1e-12, 1e-8, 1e-4, 0.3, 1.0, math.pi / 2 - 1e-9, math.pi / 2 + 1e-9, 2.7]
BACK = [0.0, 1e-12, 1e-8, 1e-4, 1e-2, 0.3]


@pytest.mark.parametrize(("angle", "back"), [(t, 1.0) for t in ANGLES] + [(t, -1.0) for t in BACK])
@pytest.mark.parametrize("size", [1e-150, 1.0, 1e150])
def test_kernel_and_its_gradient_against_fifty_digits(angle, back, size):
    u = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    across = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
    across = across * (u.norm() / across.norm())
    v = 0.7 * (back * math.cos(angle) * u + math.sin(angle) * across)
    u = u * size
    with mpmath.workdps(50):
        a, b = ([mpmath.mpf(e) for e in w.tolist()] for w in (u, v))
        norm_a, norm_b = (mpmath.sqrt(mpmath.fsum(e * e for e in w)) for w in (a, b))
        a, b = [e / norm_a for e in a], [e / norm_b for e in b]
        apart = mpmath.sqrt(mpmath.fsum((p - q) ** 2 for p, q in zip(a, b, strict=True)))
        along = mpmath.sqrt(mpmath.fsum((p + q) ** 2 for p, q in zip(a, b, strict=True)))
        t = 2 * mpmath.atan2(apart, along)
        turn = mpmath.pi - t
        kernel = norm_a * norm_b * (mpmath.sin(t) + turn * mpmath.cos(t)) / (2 * mpmath.pi)
        gradient = [
            float(norm_b * (mpmath.sin(t) * p + turn * q) / (2 * mpmath.pi))
            for p, q in zip(a, b, strict=True)
        ]
        kernel, turn, norm_b = float(kernel), float(turn), float(norm_b)
    # With w2 = 0, dL/dw2 = -K. pi - t is known to about 4 eps, from the roundings of the unit
    # vectors, and K goes as its cube.
    _, _, dw2 = loss_and_gradients(
        u[None, None], torch.zeros(1, 1, 1).double(), (v[None], torch.ones(1, 1).double())
    )
    condition = 1 / min(max(turn, 1e-15), 1.0)
    assert_close(
        -dw2[0, 0, 0], kernel, min(16 + 16 * condition, 1e15) * EPS * kernel + 1e-45 * size
    )
    # With a tiny w2 the student's own term vanishes against -w2 dK/du.
    tiny = torch.full((1, 1, 1), 2.0**-800, dtype=torch.float64)
    _, dw1, _ = loss_and_gradients(u[None, None], tiny, (v[None], torch.ones(1, 1).double()))
    want = torch.tensor(gradient, dtype=torch.float64)
    assert_close(-dw1[0, 0] * 2.0**800, want, 16 * EPS * norm_b * min(1.0, turn + 16 * EPS))


def test_zero_neurons_change_no_bit_and_get_no_gradient():
    w1, w2, (v1, v2) = problem(2, 6, 4, 5, 1)
    loss, dw1, dw2 = loss_and_gradients(w1, w2, (v1, v2))
    zeros = torch.zeros(2, 3, 5, dtype=torch.float64)
    zeros[:, 1] = -zeros[:, 1]
    more_w1, more_w2 = torch.cat([w1, zeros], 1), torch.cat([w2, torch.ones_like(w2[..., :3])], 2)
    more_target = (torch.cat([v1, zeros[0]]), torch.cat([v2, torch.ones(1, 3)], 1))
    got = loss_and_gradients(more_w1, more_w2, more_target)
    assert_close(got[0], loss, 0)
    assert_close(got[1], torch.cat([dw1, torch.zeros_like(zeros)], 1), 0)
    assert_close(got[2], torch.cat([dw2, torch.zeros(2, 1, 3)], 2), 0)


def test_scaling_a_neuron_against_its_output_weight_changes_no_bit():
    # |u|^2 leaves float64's range at these powers of two; the loss must not notice.
    w1, w2, target = problem(1, 9, 4, 5, 2)
    loss, dw1, dw2 = loss_and_gradients(w1, w2, target)
    for power in (-900, -540, 400, 900):
        s = 2.0**power
        got = loss_and_gradients(w1 * s, w2 / s, target)
        assert_close(got[0], loss, 0, f"2^{power}")
        assert_close(got[1] * s, dw1, 0)
        assert_close(got[2] / s, dw2, 0)


def test_loss_grows_as_the_square_of_all_neurons():
    w1, w2, (v1, v2) = problem(2, 9, 4, 5, 1)
    loss = population_loss(w1, w2, (v1, v2))
    for power in (-498, 3, 498):  # around 1e-150 and 1e150
        s = 2.0**power
        assert_close(population_loss(w1 * s, w2, (v1 * s, v2)) / s / s, loss, 0, f"2^{power}")


def test_tiny_neurons_keep_their_direction():
    # In the subnormal range of |u|, the gradient depends on u/|u| alone and must not vanish.
    u = torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64)
    target = torch.eye(3, dtype=torch.float64)[:2]
    ones = torch.ones(1, 1, 1, dtype=torch.float64)
    _, normal, _ = loss_and_gradients(u[None, None] * 1e-20, ones, (target, ones[0].expand(1, 2)))
    _, got, _ = loss_and_gradients(u[None, None] * 2.0**-1070, ones, (target, ones[0].expand(1, 2)))
    assert_close(got, normal, 16 * EPS)


@pytest.mark.parametrize("inputs", ["gaussian", "sphere"])
def test_against_monte_carlo(inputs):
    w1, w2, target = problem(1, 12, 4, 6, 2)
    n, radius = 200_000, 1.7
    x = sample_inputs(n, 6, inputs, radius, seed=5)
    residual = two_layer_relu(x, w1[0], None, w2[0], None) - two_layer_relu(
        x, target[0], None, target[1], None
    )
    losses = residual.square().sum(1) / 2
    loss = population_loss(w1, w2, target, inputs, radius)[0]
    assert_close(loss, losses.mean(), 5 * float(losses.std()) / math.sqrt(n))


def test_sphere_is_gaussian_times_mean_square():
    w1, w2, target = problem(2, 7, 4, 5, 2)
    for gaussian, sphere in zip(
        loss_and_gradients(w1, w2, target),
        loss_and_gradients(w1, w2, target, "sphere", 3.0),
        strict=True,
    ):
        assert_close(sphere, gaussian * 9 / 5, 8 * EPS * sphere.abs())


def test_order_of_neurons_does_not_matter():
    w1, w2, target = problem(2, 70, 4, 5, 1)
    perm = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    got, want = population_loss(w1[:, perm], w2[..., perm], target), population_loss(w1, w2, target)
    assert_close(got, want, 20 * EPS * lengths(w1, w2, target) ** 2)


def test_teacher_and_its_split_copies_are_minima():
    net = teacher(10, 5)
    itself = net.hidden.weight[None]
    loss, dw1, _ = loss_and_gradients(
        itself, torch.ones(1, 1, 5).double(), (itself[0], torch.ones(1, 5).double())
    )
    assert_close(loss, torch.zeros(1), 1e-15)
    assert_close(dw1, torch.zeros(1, 5, 10), 1e-15)
    for m, death in ((5, 0.0), (12, 0.0), (40, 0.5), (80, 0.3)):
        minima = sample_global_minima(net, m, 4, seed=m, death=death)
        # The student's norms sum to 5, like the teacher's.
        assert_close(population_loss(minima, None, net), torch.zeros(4), 26 * EPS * 5**2, f"m={m}")


def at_threads(threads, function):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return function()
    finally:
        torch.set_num_threads(before)


# More work than one thread takes alone. A single one of more than 512 neurons is shared by the
# threads: 22, 17 and 18 blocks.
@pytest.mark.parametrize(("m", "c"), [(140, 1), (140, 3), (700, 1), (513, 3), (576, 1)])
def test_threads_and_company_change_no_bit(m, c):
    w1, w2, target = problem(3, m, 5, 10, c)
    results = at_threads(1, lambda: loss_and_gradients(w1, w2, target))
    for threads in (2, 3, 5):
        for got, want in zip(
            at_threads(threads, lambda: loss_and_gradients(w1, w2, target)), results, strict=True
        ):
            assert_close(got, want, 0, f"{threads} threads")
    for s, threads in enumerate((2, 3, 5)):
        alone = at_threads(threads, lambda s=s: loss_and_gradients(w1[[s]], w2[[s]], target))
        for got, want in zip(alone, results, strict=True):
            assert_close(got[0], want[s], 0, "alone")


@pytest.mark.parametrize("c", [1, 2])
def test_the_trainer_follows_the_same_gradient(c):
    w1, w2, target = problem(1, 600, 5, 3, c)
    lr = 2.0**-10  # its product with a number is exact
    _, dw1, dw2 = loss_and_gradients(w1, w2, target)
    run = train_ensemble(w1, w2, lr=lr, steps=1, teacher=target, train_w2=True)
    assert_close(run.w1, w1 - lr * dw1, 0)
    assert_close(run.w2, w2 - lr * dw2, 0)


def test_float32_is_computed_in_float64():
    w1, w2, target = problem(2, 9, 4, 5, 2)
    w1, w2 = w1.float(), w2.float()
    got, want = (
        loss_and_gradients(w1, w2, target),
        loss_and_gradients(w1.double(), w2.double(), target),
    )
    assert got[0].dtype == torch.float64
    assert_close(got[0], want[0], 0)
    for ours, exact in zip(got[1:], want[1:], strict=True):
        assert ours.dtype == torch.float32
        assert_close(ours, exact.float(), 0)


@pytest.mark.sanitize_quick
def test_strides_and_single_networks():
    w1, w2, target = problem(2, 9, 4, 5, 2)
    strided = w1.mT.contiguous().mT, w2.mT.contiguous().mT
    assert_close(population_loss(*strided, target), population_loss(w1, w2, target), 0)
    assert_close(population_loss(w1[1], w2[1], target), population_loss(w1, w2, target)[1:], 0)
    ones = torch.ones(2, 1, 9, dtype=torch.float64)
    target = target[0], target[1][:1]
    assert_close(population_loss(w1, None, target), population_loss(w1, ones, target), 0)


@pytest.mark.sanitize_quick
def test_no_students_and_no_neurons():
    w1, w2, target = problem(2, 9, 4, 5, 2)
    assert population_loss(w1[:0], w2[:0], target).shape == (0,)
    zero = population_loss(torch.zeros_like(w1), w2, target)
    assert_close(population_loss(w1[:, :0], w2[..., :0], target), zero, 0)
    flat = [torch.ones(2, 3, 0), torch.ones(2, 1, 3), torch.ones(4, 0), torch.ones(1, 4)]
    loss, *gradients = torch.ops.lmc_fast.population_loss(*flat, 1.0, [True, True])
    assert_close(loss, torch.zeros(2), 0)
    assert_close(gradients[1], torch.zeros(2, 1, 3), 0)


def test_derivatives_against_finite_differences():
    w1, w2, target = problem(2, 3, 2, 3, 2)
    w1, w2 = w1.requires_grad_(), w2.requires_grad_()

    def loss(a, b):
        return population_loss(a, b, target, "sphere", 2.0)

    assert torch.autograd.gradcheck(loss, (w1, w2))
    assert torch.autograd.gradgradcheck(loss, (w1, w2))


def test_opcheck():
    for dtype in (torch.float32, torch.float64):
        w1, w2, (v1, v2) = problem(2, 5, 3, 4, 2)
        w1, w2 = w1.to(dtype).requires_grad_(), w2.to(dtype).requires_grad_()
        torch.library.opcheck(
            torch.ops.lmc_fast.population_loss.default, (w1, w2, v1, v2, 1.5, [True, True])
        )


def test_the_reference_serves_other_devices():
    w1, w2, (v1, v2) = problem(2, 5, 3, 4, 2)
    with pytest.warns(UserWarning, match="no population_loss kernel for cpu tensors"):
        slow = op._forward_reference(w1, w2, v1, v2, 1.5, [True, True])
    fast = torch.ops.lmc_fast.population_loss(w1, w2, v1, v2, 1.5, [True, True])
    for got, want in zip(fast, slow, strict=True):
        assert_close(got, want, 32 * EPS * want.abs().max())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"w1": torch.zeros(2, 3, 4, dtype=torch.float16)}, TypeError, "float32 or float64"),
        ({"w1": torch.full((2, 3, 4), torch.nan)}, ValueError, "finite"),
        ({"w1": torch.full((2, 3, 4), torch.inf)}, ValueError, "finite"),
        ({"w1": torch.ones(4)}, ValueError, r"must be \(m, d\) or \(P, m, d\)"),
        ({"w1": torch.ones(2, 3, 5)}, ValueError, "d = 5; got 4"),
        ({"w2": torch.ones(2, 2, 3)}, ValueError, "c = 2 outputs"),
        ({"w2": torch.ones(2, 1, 4)}, ValueError, r"w2 must be \(c, m\) = \(\*, 3\)"),
        ({"w2": torch.ones(2, 1, 3).double()}, TypeError, "w2 must have the dtype of w1"),
        ({"w2": torch.ones(2, 1, 3, device="meta")}, ValueError, "w2 must be on the device of w1"),
        ({"teacher": torch.ones(2, 3, 4)}, ValueError, "one network; got 2"),
        ({"teacher": TwoLayerReLU(4, 2)},
         ValueError, "teacher must have no biases.*bias=False"),
        ({"inputs": "uniform"}, ValueError, "'gaussian', 'sphere'; got 'uniform'"),
        ({"radius": 0.0}, ValueError, "radius must be finite and above 0"),
        ({"radius": math.inf}, ValueError, "radius must be finite and above 0"),
    ],
)  # fmt: skip
def test_bad_input(arguments, error, message):
    good = {"w1": torch.ones(2, 3, 4), "w2": None, "teacher": torch.ones(2, 4)}
    with pytest.raises(error, match=message):
        population_loss(**{**good, **arguments})
