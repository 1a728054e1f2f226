# SPDX-License-Identifier: MIT
"""path_losses against the float64 reference, over the sizes and values that break kernels."""

import itertools

import pytest
import torch
from torch import Tensor

import lmc_fast
from lmc_fast.reference import path_losses as reference
from lmc_fast.weights import Weights

Alphas = int | list[float]


def sample_network(
    m: int,
    d: int,
    c: int = 1,
    *,
    P: int = 1,
    bias: bool = True,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Weights:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return Weights(
        normal(P, m, d) / d**0.5,
        normal(P, m) if bias else None,
        normal(P, c, m) / m**0.5,
        normal(P, c) if bias else None,
    )


def sample_data(
    n: int, d: int, c: int = 1, loss: str = "mse", dtype: torch.dtype = torch.float64, seed: int = 9
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    if loss == "cross_entropy":
        return x.to(dtype), torch.randint(c, (n,), generator=generator)
    return x.to(dtype), torch.randn(n, c, generator=generator, dtype=torch.float64).to(dtype)


def double(network: Weights) -> Weights:
    return Weights(*(None if t is None else t.double() for t in network))


def exact_losses(
    a: Weights, b: Weights, x: Tensor, y: Tensor, alphas: Alphas, loss: str
) -> lmc_fast.PathLosses:
    y = y.double() if loss == "mse" else y
    return reference.path_losses(double(a), double(b), x.double(), y, alphas, loss)


def error(losses: Tensor, exact: Tensor) -> float:
    """Largest over a path, relative to the largest loss on it; the worst pair's."""
    scale = exact.abs().amax(1).clamp_min(1e-300)
    return float(((losses - exact).abs().amax(1) / scale).max())


# Around the vector lengths of every target (2 to 16 lanes), the panels (8 to 32), the tiles
# (3 to 12) and the sample blocks (96), and their tails.
SIZES = list(itertools.product((1, 13, 97), (1, 7, 31, 33, 64, 257), (1, 17)))
GRIDS: tuple[Alphas, ...] = (
    25,
    2,
    [0.5],
    [0.0, 0.1, 0.1, 0.25, 1.0],
    67,
    [0.0],
    [1.0],
    [0.3, 0.30000001, 0.9],
    3,
)


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("c", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_the_reference_at_adversarial_sizes(
    dtype: torch.dtype, c: int, loss: str
) -> None:
    # Sums of at most 257 terms of one size, squared: 40 eps leaves a factor of two over the
    # largest seen.
    tolerance = 40 * torch.finfo(dtype).eps
    for number, (n, m, d) in enumerate(SIZES):
        alphas, P = GRIDS[number % len(GRIDS)], 1 + number % 3
        a = sample_network(m, d, c, P=P, bias=number % 2 == 0, dtype=dtype, seed=number)
        b = sample_network(m, d, c, P=P, bias=number % 3 != 0, dtype=dtype, seed=number + 1000)
        x, y = sample_data(n, d, c, loss, dtype)
        ours = lmc_fast.path_losses(a, b, x, y, alphas, loss)
        exact = exact_losses(a, b, x, y, alphas, loss)
        where = f"n={n} m={m} d={d} c={c} P={P} alphas={alphas}"
        assert ours.losses.shape == exact.losses.shape
        assert ours.losses.dtype == torch.float64
        assert torch.equal(ours.alphas, exact.alphas)
        assert error(ours.losses, exact.losses) <= tolerance, where
        assert (ours.accuracies is None) == (loss == "mse")
        if exact.accuracies is not None and dtype == torch.float64:
            assert torch.equal(ours.accuracies, exact.accuracies), where


@pytest.mark.parametrize(
    ("n", "m", "d", "c", "loss", "scale"),
    [
        (200, 1000, 64, 1, "mse", 1.0),
        (200, 1000, 64, 5, "mse", 1.0),
        (60, 65_536, 16, 1, "mse", 1.0),
        (20_000, 70, 16, 1, "mse", 1.0),
        (1000, 70, 300, 2, "mse", 1.0),
        (200, 1000, 64, 10, "cross_entropy", 1.0),
        (200, 300, 64, 1, "mse", 1e-20),
        (200, 300, 64, 1, "mse", 1e18),
    ],
)
def test_float32_error_is_at_most_twice_eager_torchs(
    n: int, m: int, d: int, c: int, loss: str, scale: float
) -> None:
    dtype = torch.float32
    a, b = (sample_network(m, d, c, bias=scale == 1.0, dtype=dtype, seed=seed) for seed in (1, 2))
    a, b = a._replace(w1=a.w1 * scale), b._replace(w1=b.w1 * scale)
    x, y = sample_data(n, d, c, loss, dtype)
    y = y * scale if loss == "mse" else y
    exact = exact_losses(a, b, x, y, 25, loss).losses
    ours = error(lmc_fast.path_losses(a, b, x, y, 25, loss).losses, exact)
    eager = error(reference.path_losses(a, b, x, y, 25, loss).losses, exact)
    # eps: both may be exact to rounding, and their ratio then means nothing.
    assert ours <= 2 * max(eager, torch.finfo(dtype).eps), f"ours {ours:.2e}, eager {eager:.2e}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [1, 3])
def test_outputs_at_the_ends_are_those_of_two_layer_relu_bit_for_bit(
    dtype: torch.dtype, c: int
) -> None:
    # 5000 neurons: more than one chunk of the outputs' sums. A sum of squares is 0 only if all are.
    a, b = (sample_network(5000, 7, c, P=2, dtype=dtype, seed=seed) for seed in (1, 2))
    x, _ = sample_data(130, 7, c, "mse", dtype)
    for place, end in ((slice(0, 2), a), (3, b)):
        for pair, outputs in enumerate(lmc_fast.two_layer_relu(x, *end)):
            losses = lmc_fast.path_losses(a, b, x, outputs, [0.0, 0.0, 0.4, 1.0]).losses[pair]
            assert bool((losses[place] == 0).all())
            assert int((losses == 0).sum()) == losses[place].numel()


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_networks_give_a_flat_curve_and_ends_do_not_depend_on_the_other_network(
    dtype: torch.dtype, loss: str
) -> None:
    a, b = (sample_network(300, 10, 3, P=2, dtype=dtype, seed=seed) for seed in (1, 2))
    x, y = sample_data(150, 10, 3, loss, dtype)
    flat = lmc_fast.path_losses(a, a, x, y, 33, loss).losses
    assert torch.equal(flat, flat[:, :1].expand_as(flat))
    there = lmc_fast.path_losses(a, b, x, y, 33, loss)
    back = lmc_fast.path_losses(b, a, x, y, 33, loss)
    assert torch.equal(there.losses[:, 0], flat[:, 0])
    assert torch.equal(there.losses[:, 0], back.losses[:, -1])
    assert torch.equal(there.losses[:, -1], back.losses[:, 0])
    assert error(back.losses.flip(1), there.losses) <= 10 * torch.finfo(dtype).eps
    assert float(there.losses.std()) > 1e-3  # not flat for lack of a curve


def test_hand_worked_numbers() -> None:
    # At x = 1 one neuron goes from z = -1 (a) to 1 (b), its w2 from 1 to 2: it is born at 1/2, and
    # there f = (2 alpha - 1)(1 + alpha). The other goes from 1 to -1 with w2 = 3: it dies at 1/2,
    # and before that f = 3 (1 - 2 alpha).
    a = (torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0, 3.0]]))
    b = (torch.tensor([[1.0], [-1.0]]), torch.tensor([[2.0, 3.0]]))
    curve = lmc_fast.path_losses(a, b, torch.tensor([[1.0]]), torch.tensor([1.0]), 5)
    outputs = [3.0, 1.5, 0.0, 0.5 * 1.75, 2.0]
    assert curve.losses.tolist() == [[(f - 1.0) ** 2 / 2 for f in outputs]]


@pytest.mark.parametrize("alphas", [5, [0.0, 0.2, 0.25, 0.5, 0.5, 0.75, 1.0]])
def test_crossings_on_a_grid_alpha_and_ties_at_zero(alphas: Alphas) -> None:
    # Pre-activations in quarters: every crossing lies exactly on a quarter, and many are exactly 0.
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).double()
    za, zb = (grid.flatten() for grid in torch.meshgrid(values, values, indexing="ij"))
    a = (za[:, None], torch.arange(25.0).double()[None] - 7)
    b = (zb[:, None], 3 - torch.arange(25.0).double()[None])
    x, y = torch.tensor([[1.0], [-2.0]]).double(), torch.zeros(2).double()
    ours = lmc_fast.path_losses(a, b, x, y, alphas).losses
    exact = reference.path_losses(a, b, x, y, alphas).losses
    assert error(ours, exact) <= 40 * torch.finfo(torch.float64).eps


@pytest.mark.parametrize("scale", [1e-20, 1e20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_and_tiny_pre_activations(scale: float, dtype: torch.dtype) -> None:
    a, b = (sample_network(70, 6, bias=False, dtype=dtype, seed=seed) for seed in (1, 2))
    x, y = sample_data(40, 6, dtype=dtype)
    once = lmc_fast.path_losses(a, b, x, y * 0, 33).losses
    scaled = lmc_fast.path_losses(
        a._replace(w1=a.w1 * scale), b._replace(w1=b.w1 * scale), x, y * 0, 33
    ).losses
    assert error(scaled / scale**2, once) <= 20 * torch.finfo(dtype).eps


def test_accuracy_counts_the_first_of_equal_outputs() -> None:
    a = (torch.ones(1, 1), torch.tensor([[1.0], [2.0], [2.0]]))
    x = torch.ones(3, 1)
    for label, right in ((0, 0.0), (1, 1.0), (2, 0.0)):
        curve = lmc_fast.path_losses(a, a, x, torch.full((3,), label), 3, "cross_entropy")
        assert curve.accuracies is not None
        assert curve.accuracies.tolist() == [[right] * 3]


@pytest.mark.parametrize("bias", [None, torch.tensor([0.3, 0.3, 0.3])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_tie_exactly_where_no_neuron_is_active(
    dtype: torch.dtype, bias: Tensor | None
) -> None:
    # Every neuron of a is dead by alpha = 1/4 and none of b is born before 3/4.
    a, b = (sample_network(2, 1, 3, bias=False, dtype=dtype, seed=seed) for seed in (4, 5))
    bias = None if bias is None else bias.to(dtype)[None]
    a = a._replace(w1=torch.tensor([[[0.1], [-0.7]]], dtype=dtype), b2=bias)
    b = b._replace(w1=torch.tensor([[[-0.4], [0.2]]], dtype=dtype), b2=bias)
    x = torch.rand(50, 1, generator=torch.Generator().manual_seed(0)).to(dtype) + 0.1
    y = torch.arange(50) % 3
    curve = lmc_fast.path_losses(a, b, x, y, 41, "cross_entropy")
    assert curve.accuracies is not None
    middle = (curve.alphas > 0.26) & (curve.alphas < 0.74)
    assert bool((curve.accuracies[0, middle] == (y == 0).double().mean()).all())
    assert bool((curve.losses[0, middle] - torch.tensor(3.0).double().log()).abs().max() < 1e-15)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_cross_entropy_and_squares_of_far_apart_outputs_stay_finite(loss: str) -> None:
    a = (torch.ones(1, 1).double(), torch.tensor([[1e6], [-1e6]]).double())
    b = (torch.ones(1, 1).double(), torch.tensor([[-1e6], [1e6]]).double())
    x, y = torch.ones(1, 1).double(), torch.tensor([0])
    y = y if loss == "cross_entropy" else torch.zeros(1, 2).double()
    ours = lmc_fast.path_losses(a, b, x, y, 5, loss).losses
    wanted = [0.0, 0.0, torch.tensor(2.0).double().log().item(), 1e6, 2e6]
    if loss == "mse":
        wanted = [1e12, 0.25e12, 0.0, 0.25e12, 1e12]
    assert ours[0].tolist() == pytest.approx(wanted, rel=1e-15)


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_do_not_depend_on_threads_or_on_the_other_pairs(dtype: torch.dtype, c: int) -> None:
    # Large enough for several blocks and spans of samples.
    a, b = (sample_network(80, 5, c, P=3, dtype=dtype, seed=seed) for seed in (1, 2))
    x, y = sample_data(3000, 5, c, dtype=dtype)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(lmc_fast.path_losses(a, b, x, y, 25).losses)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])
    for pair in range(3):
        alone = [
            Weights(*(None if t is None else t[pair : pair + 1] for t in net)) for net in (a, b)
        ]
        assert torch.equal(lmc_fast.path_losses(*alone, x, y, 25).losses[0], results[0][pair])


def test_bits_of_the_gradient_to_y_do_not_depend_on_threads() -> None:
    # So many pairs that torch would split the sum over them.
    a, b = (sample_network(1, 1, 1, P=50_000, dtype=torch.float32, seed=seed) for seed in (1, 2))
    x, y = sample_data(1, 1, 1, dtype=torch.float32)
    y.requires_grad_()
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            losses = lmc_fast.path_losses(a, b, x, y, 2).losses
            results.append(torch.autograd.grad(losses, y, torch.ones_like(losses))[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.sanitize_quick
def test_strided_and_broadcast_views_are_accepted() -> None:
    a, b = (sample_network(37, 6, 2, seed=seed) for seed in (1, 2))
    x, y = sample_data(40, 6, 2)
    view = Weights(a.w1.mT.contiguous().mT, a.b1, a.w2.mT.contiguous().mT, a.b2)
    assert not view.w1.is_contiguous()
    assert not view.w2.is_contiguous()
    mirrored = (x.flip(1).flip(1).mT.contiguous().mT, torch.stack((y, y), 0)[1])
    assert not mirrored[0].is_contiguous()
    same = lmc_fast.path_losses(a, b, x, y, 9).losses
    assert torch.equal(lmc_fast.path_losses(view, b, *mirrored, 9).losses, same)
    # w2 given once for both pairs is broadcast with a stride of 0.
    pair = torch.cat((a.w1, b.w1))
    twice = lmc_fast.path_losses((pair, a.w2[0]), (pair.flip(0), b.w2[0]), x, y, 9).losses
    once = lmc_fast.path_losses((a.w1, a.w2), (b.w1, b.w2), x, y, 9).losses
    assert torch.equal(twice[0], once[0])


@pytest.mark.sanitize_quick
def test_alphas_and_samples_beyond_one_block() -> None:
    # So many outputs and alphas that the alphas are cut into passes.
    a, b = (sample_network(9, 3, 300, dtype=torch.float32, seed=seed) for seed in (1, 2))
    x, y = sample_data(14, 3, 300, dtype=torch.float32)
    ours = lmc_fast.path_losses(a, b, x, y, 701).losses
    exact = exact_losses(a, b, x, y, 701, "mse").losses
    assert error(ours, exact) <= 40 * torch.finfo(torch.float32).eps
    dense = torch.linspace(0.4, 0.6, 701).tolist()
    ours = lmc_fast.path_losses(a, b, x, y, dense).losses
    exact = exact_losses(a, b, x, y, dense, "mse").losses
    assert error(ours, exact) <= 40 * torch.finfo(torch.float32).eps
