# SPDX-License-Identifier: MIT
"""two_layer_relu against the float64 reference, over the sizes and values that break kernels."""

import itertools

import pytest
import torch
from torch import Tensor

import lmc_fast
from lmc_fast.reference import two_layer_relu as reference

Arguments = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]


def sample_inputs(
    n: int,
    m: int,
    d: int,
    c: int = 1,
    *,
    S: int | None = None,
    bias: bool = True,
    x_shared: bool = True,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Arguments:
    generator = torch.Generator().manual_seed(seed)
    lead = () if S is None else (S,)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return (
        normal(n, d) if x_shared else normal(*lead, n, d),
        normal(*lead, m, d) / max(d, 1) ** 0.5,
        normal(*lead, m) if bias else None,
        normal(*lead, c, m) / max(m, 1) ** 0.5,
        normal(*lead, c) if bias else None,
    )


def gradients(function, arguments: Arguments, dtype: torch.dtype) -> list[Tensor]:
    """Outputs and all gradients of a weighted sum of them."""
    leaves = [None if t is None else t.to(dtype).detach().requires_grad_() for t in arguments]
    f = function(*leaves)
    weights = torch.linspace(-1, 2, f.numel(), dtype=torch.float64).reshape(f.shape).to(dtype)
    if f.numel():
        (f * weights).sum().backward()
    return [
        f.detach(),
        *(torch.zeros_like(t) if t.grad is None else t.grad for t in leaves if t is not None),
    ]


def errors(results: list[Tensor], exact: list[Tensor]) -> list[float]:
    return [
        float((r.double() - e).norm() / e.norm().clamp_min(1e-300))
        for r, e in zip(results, exact, strict=True)
    ]


# Around the vector lengths of every target (2 to 16 lanes), the panels (8 to 32), the tiles (3 to
# 12), the sign words (64), the sample blocks (96) and chunks (504), and their tails.
SIZES = list(
    itertools.product((0, 1, 3, 13, 97, 505), (0, 1, 7, 31, 33, 64, 65, 257), (0, 1, 3, 17))
)


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_the_reference_at_adversarial_sizes(dtype: torch.dtype, c: int) -> None:
    # Rounding grows like the square root of the number of added terms, at most 505 here; 40 eps
    # leaves a factor of two over the largest seen.
    tolerance = 40 * torch.finfo(dtype).eps
    for number, (n, m, d) in enumerate(SIZES):
        S = (None, 1, 3)[number % 3]
        arguments = sample_inputs(
            n,
            m,
            d,
            c,
            S=S,
            bias=number % 2 == 0,
            x_shared=number % 5 != 0,
            dtype=dtype,
            seed=number,
        )
        ours = gradients(lmc_fast.two_layer_relu, arguments, dtype)
        exact = gradients(reference.two_layer_relu, arguments, torch.float64)
        for result, wanted, error in zip(ours, exact, errors(ours, exact), strict=True):
            assert result.shape == wanted.shape
            assert error <= tolerance, f"n={n} m={m} d={d} c={c} S={S}: {errors(ours, exact)}"


@pytest.mark.parametrize(
    ("n", "m", "d", "c", "scale"),
    [
        (600, 1000, 64, 1, 1.0),
        (600, 1000, 64, 5, 1.0),
        (300, 9000, 16, 1, 1.0),
        (2000, 70, 300, 1, 1.0),
        (5000, 64, 10, 2, 1.0),
        (600, 300, 64, 1, 1e-12),
        (600, 300, 64, 1, 1e9),
    ],
)
def test_float32_error_is_at_most_twice_eager_torchs(
    n: int, m: int, d: int, c: int, scale: float
) -> None:
    x, w1, b1, w2, b2 = sample_inputs(n, m, d, c, dtype=torch.float32)
    arguments = (x, w1 * scale, None if b1 is None else b1 * scale, w2, b2)
    exact = gradients(reference.two_layer_relu, arguments, torch.float64)
    ours = errors(gradients(lmc_fast.two_layer_relu, arguments, torch.float32), exact)
    eager = errors(gradients(reference.two_layer_relu, arguments, torch.float32), exact)
    # eps: both may be exact to rounding, and their ratio then means nothing.
    floor = float(torch.finfo(torch.float32).eps)
    for name, our, their in zip(("f", "dx", "dw1", "db1", "dw2", "db2"), ours, eager, strict=True):
        assert our <= 2 * max(their, floor), f"{name}: ours {our:.2e}, eager {their:.2e}"


def test_hand_worked_numbers() -> None:
    x = torch.tensor([[1.0, 2.0], [-1.0, 1.0]])
    w1 = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], requires_grad=True)
    b1 = torch.tensor([0.0, -1.0, 0.0], requires_grad=True)
    w2 = torch.tensor([[2.0, -1.0, 3.0]], requires_grad=True)
    # z = [[1, 1, 3], [-1, 0, 0]]: the second sample has one negative neuron and two at exactly 0.
    f = lmc_fast.two_layer_relu(x, w1, b1, w2, torch.tensor([0.5]))
    assert f.tolist() == [[2 - 1 + 9 + 0.5], [0.5]]
    f.sum().backward()
    assert w1.grad is not None
    assert b1.grad is not None
    assert w2.grad is not None
    assert w1.grad.tolist() == [[2.0, 4.0], [-1.0, -2.0], [3.0, 6.0]]  # a tie at 0 passes nothing
    assert b1.grad.tolist() == [2.0, -1.0, 3.0]
    assert w2.grad.tolist() == [[1.0, 1.0, 3.0]]


@pytest.mark.parametrize("S", [None, 2])
@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck_and_opcheck(S: int | None, c: int, bias: bool) -> None:
    arguments = sample_inputs(5, 67, 3, c, S=S, bias=bias)
    leaves = tuple(None if t is None else t.requires_grad_() for t in arguments)
    torch.autograd.gradcheck(lmc_fast.two_layer_relu, leaves, fast_mode=True)
    torch.autograd.gradgradcheck(lmc_fast.two_layer_relu, leaves, fast_mode=True)
    torch.library.opcheck(torch.ops.lmc_fast.two_layer_relu, (*leaves, True))
    torch.library.opcheck(torch.ops.lmc_fast.two_layer_relu, (*leaves, False))


def test_any_subset_of_gradients_can_be_asked_for() -> None:
    arguments = sample_inputs(9, 33, 4, 2)
    every = gradients(lmc_fast.two_layer_relu, arguments, torch.float64)[1:]
    for wanted in itertools.product((False, True), repeat=5):
        leaves = [t.detach().requires_grad_(w) for t, w in zip(arguments, wanted, strict=True)]
        f = lmc_fast.two_layer_relu(*leaves)
        if not any(wanted):
            assert not f.requires_grad
            continue
        weights = torch.linspace(-1, 2, f.numel(), dtype=torch.float64).reshape(f.shape)
        (f * weights).sum().backward()
        for leaf, gradient, want in zip(leaves, every, wanted, strict=True):
            assert (leaf.grad is not None) == want
            if want:
                assert torch.equal(leaf.grad, gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [1, 2])
def test_bits_do_not_depend_on_threads_or_on_the_ensemble(dtype: torch.dtype, c: int) -> None:
    # Large enough for several sample blocks, neuron chunks, groups and sample spans.
    arguments = sample_inputs(5000, 600, 5, c, S=3, x_shared=False, dtype=dtype)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(gradients(lmc_fast.two_layer_relu, arguments, dtype))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(p, q) for p, q in zip(results[0], other, strict=True))
    for s in range(3):
        alone = [None if t is None else t[s] for t in arguments]
        leaves = [t.detach().requires_grad_() for t in alone if t is not None]
        f = lmc_fast.two_layer_relu(*leaves)
        assert torch.equal(f, results[0][0][s])
        weights = torch.linspace(-1, 2, 3 * f.numel(), dtype=torch.float64)
        (f * weights.reshape(3, *f.shape)[s].to(dtype)).sum().backward()
        for leaf, whole in zip(leaves, results[0][1:], strict=True):
            assert torch.equal(leaf.grad, whole[s])


def test_strided_views_are_accepted() -> None:
    x, w1, b1, w2, b2 = sample_inputs(40, 70, 8, 2)
    assert b1 is not None
    views = (x.mT.contiguous().mT, w1[:, ::1].flip(0).flip(0), b1, w2.mT.contiguous().mT, b2)
    views = (*views[:2], torch.stack((b1, b1), 1)[:, 0], *views[3:])
    assert not any(view.is_contiguous() for view in (views[0], views[2], views[3]))
    ours = gradients(lmc_fast.two_layer_relu, views, torch.float64)
    same = gradients(lmc_fast.two_layer_relu, (x, w1, b1, w2, b2), torch.float64)
    assert all(torch.equal(p, q) for p, q in zip(ours, same, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_propagate_as_in_torch(value: float) -> None:
    x, w1, b1, w2, b2 = sample_inputs(20, 37, 6)
    x[3, 2] = value
    ours = gradients(lmc_fast.two_layer_relu, (x, w1, b1, w2, b2), torch.float64)
    torchs = gradients(reference.two_layer_relu, (x, w1, b1, w2, b2), torch.float64)
    torch.testing.assert_close(ours[0], torchs[0], equal_nan=True, rtol=1e-12, atol=1e-12)
    # An inactive neuron passes no gradient, where torch's product 0 * infinity makes a NaN of it.
    active = ~(reference.pre_activations(x, w1, b1) <= 0)
    assert torch.equal(ours[2][:, 2].isfinite(), ~active[3])
    for p, q in zip(ours[1:], torchs[1:], strict=True):
        torch.testing.assert_close(p[q.isfinite()], q[q.isfinite()], rtol=1e-12, atol=1e-12)


def test_sign_words_are_the_references() -> None:
    for n, m in ((1, 1), (5, 63), (13, 64), (97, 65), (3, 200)):
        x, w1, b1, w2, b2 = sample_inputs(n, m, 4, S=2)
        _, signs = torch.ops.lmc_fast.two_layer_relu(x, w1, b1, w2, b2, True)
        active = reference.pre_activations(x, w1, b1) > 0
        assert torch.equal(signs, reference.pack_signs(active))
        assert torch.equal(reference.unpack_signs(signs, m), active)


def test_no_signs_are_kept_when_no_gradient_will_be_asked_for() -> None:
    arguments = sample_inputs(10, 20, 3)
    f, signs = torch.ops.lmc_fast.two_layer_relu(*arguments, False)
    assert signs.numel() == 0
    assert torch.equal(f, lmc_fast.two_layer_relu(*arguments))


def test_works_under_torch_compile() -> None:
    arguments = sample_inputs(10, 20, 3)
    compiled = torch.compile(lmc_fast.two_layer_relu, backend="aot_eager", fullgraph=True)
    ours = gradients(compiled, arguments, torch.float64)
    plain = gradients(lmc_fast.two_layer_relu, arguments, torch.float64)
    assert all(torch.equal(p, q) for p, q in zip(ours, plain, strict=True))


GOOD = {
    "x": torch.ones(3, 4),
    "w1": torch.ones(5, 4),
    "b1": torch.ones(5),
    "w2": torch.ones(2, 5),
    "b2": torch.ones(2),
}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"x": torch.ones(3, 5)},
            ValueError,
            r"x must be \(\*, 4\) to match w1 \(5, 4\); got \(3, 5\)",
        ),
        ({"x": torch.ones(4)}, ValueError, r"x must be .* got \(4,\)"),
        ({"w1": torch.ones(5)}, ValueError, r"w1 must be \(m, d\) or \(S, m, d\); got \(5,\)"),
        ({"w2": torch.ones(2, 4)}, ValueError, r"w2 must be \(c, m\) = \(\*, 5\).* got \(2, 4\)"),
        ({"w2": torch.ones(0, 5)}, ValueError, "c >= 1"),
        ({"b1": torch.ones(4)}, ValueError, r"b1 must be \(5,\) .*got \(4,\)"),
        ({"b2": torch.ones(1)}, ValueError, r"b2 must be \(2,\) .*got \(1,\)"),
        ({"w1": torch.ones(5, 4).double()}, TypeError, "x must have the dtype of w1"),
        (
            {"w1": torch.ones(5, 4).int()},
            TypeError,
            "w1 must be float32 or float64; got torch.int32",
        ),
        (
            {"w2": torch.ones(2, 5, device="meta")},
            ValueError,
            "w2 must be on the device of w1, cpu",
        ),
    ],
)
def test_bad_arguments(change: dict[str, Tensor], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        lmc_fast.two_layer_relu(**{**GOOD, **change})


def test_other_devices_run_the_reference_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmc_fast.ops import _library

    monkeypatch.setattr(_library, "_warned", set())
    arguments = [t.to("meta") for t in GOOD.values()]
    f = lmc_fast.two_layer_relu(*arguments)
    assert f.shape == (3, 2)
    assert f.device.type == "meta"
