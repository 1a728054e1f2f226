# SPDX-License-Identifier: MIT
"""two_layer_relu against the float64 reference, over the sizes and values that break kernels."""

import itertools
from collections.abc import Callable

import pytest
import torch
from compare import assert_close
from torch import Tensor

import lmc_fast
from lmc_fast.ops import _library
from lmc_fast.ops import two_layer_relu as op
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


@pytest.mark.sanitize_quick
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
        (100, 65_536, 16, 1, 1.0),
        (65_536, 70, 16, 1, 1.0),
        (65_536, 70, 16, 3, 1.0),
        (600, 300, 64, 1, 1e-20),
        (600, 300, 64, 1, 1e20),
        (600, 300, 64, 3, 1e20),
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


def test_bits_of_the_gradient_to_a_shared_x_do_not_depend_on_threads() -> None:
    # So many students that torch would split the sum over them.
    x, w1, b1, w2, b2 = sample_inputs(1, 1, 1, 1, S=50_000, x_shared=True, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaf = x.detach().requires_grad_()
            f = lmc_fast.two_layer_relu(leaf, w1, b1, w2, b2)
            results.append(torch.autograd.grad(f.sum(), leaf)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.sanitize_quick
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


def test_meta_tensors_give_shapes() -> None:
    f = lmc_fast.two_layer_relu(*(t.to("meta") for t in GOOD.values()))
    assert f.shape == (3, 2)
    assert f.device.type == "meta"


@pytest.mark.parametrize("S", [None, 2])
def test_the_path_of_other_devices_agrees_and_warns_once(
    monkeypatch: pytest.MonkeyPatch, S: int | None
) -> None:
    monkeypatch.setattr(_library, "_warned", set())
    arguments = sample_inputs(7, 67, 3, 2, S=S)
    f, signs = torch.ops.lmc_fast.two_layer_relu(*arguments, True)
    with pytest.warns(UserWarning, match="has no two_layer_relu kernel for cpu"):
        reference_f, reference_signs = op._forward_reference(*arguments, True)
    reference_f, _ = op._forward_reference(*arguments, True)  # a second warning is an error
    assert_close(f, reference_f, 1e-13)
    assert torch.equal(signs, reference_signs)
    wanted = [True, True, False, True, True]
    backward = (torch.ones_like(f), *arguments[:4], signs, wanted)
    ours = torch.ops.lmc_fast.two_layer_relu_backward(*backward)
    for got, want, asked in zip(ours, op._backward_reference(*backward), wanted, strict=True):
        if asked:
            assert_close(got, want, 1e-12)
        else:
            assert want is None


@pytest.mark.parametrize("frozen", [("x",), ("w1", "b1", "w2", "b2"), ("w1", "w2")])
def test_second_derivatives_of_a_part(frozen: tuple[str, ...]) -> None:
    arguments = sample_inputs(5, 9, 3, 2)
    names = ("x", "w1", "b1", "w2", "b2")

    def penalty(function: Callable[..., Tensor]) -> list[Tensor | None]:
        leaves = [
            t.detach().requires_grad_(name not in frozen)
            for name, t in zip(names, arguments, strict=True)
        ]
        wanted = [t for t in leaves if t.requires_grad]
        first = torch.autograd.grad(function(*leaves).square().sum(), wanted, create_graph=True)
        total = sum((g.square().sum() for g in first), torch.zeros((), dtype=torch.float64))
        return torch.autograd.grad(total, wanted, allow_unused=True)

    for ours, theirs in zip(
        penalty(lmc_fast.two_layer_relu), penalty(reference.two_layer_relu), strict=True
    ):
        assert theirs is not None
        assert_close(torch.zeros_like(theirs) if ours is None else ours, theirs, 1e-8)


def test_the_gradient_of_a_linear_function_of_x_has_no_gradient_to_x() -> None:
    x, *weights = sample_inputs(5, 9, 3, 1)
    x.requires_grad_()
    (dx,) = torch.autograd.grad(lmc_fast.two_layer_relu(x, *weights).sum(), x, create_graph=True)
    dx.square().sum().backward()
    assert x.grad is None or not x.grad.any()


def test_shared_x_of_many_students_is_taken_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = [t.requires_grad_() for t in sample_inputs(6, 9, 3, 1, S=5)]
    whole = torch.autograd.grad(lmc_fast.two_layer_relu(*leaves).square().sum(), leaves)
    monkeypatch.setattr(op, "GROUP_FLOATS", 2 * 6 * 4)
    grouped = torch.autograd.grad(lmc_fast.two_layer_relu(*leaves).square().sum(), leaves)
    assert_close(grouped[0], whole[0], 1e-13)
    for got, want in zip(grouped[1:], whole[1:], strict=True):
        assert torch.equal(got, want)


def test_dw2_of_inputs_far_from_the_origin_is_within_its_bound() -> None:
    # One output: dw2 = <[w1, b1], [dw1, db1]> / w2, whose terms cancel when b1 centres the inputs.
    # Each sum of n terms in float32 has an error of at most eps (runs of 64, then n / 64 of them,
    # then chunks: under 64 + 8 + n / 504 additions) times the sum of the terms' sizes.
    n, m, d = 4096, 64, 2
    x, w1, _, w2, _ = sample_inputs(n, m, d, 1, dtype=torch.float32)
    x = x + 100.0
    b1 = -100.0 * w1.sum(1)
    df = torch.ones(n, 1)
    exact = gradients(reference.two_layer_relu, (x, w1, b1, w2, None), torch.float64)
    ours = gradients(lmc_fast.two_layer_relu, (x, w1, b1, w2, None), torch.float32)
    sizes = (w1.abs().double() @ x.abs().double().T + b1.abs().double()[:, None]) @ df.double()
    bound = (64 + 8 + n / 504) * torch.finfo(torch.float32).eps * sizes[:, 0]
    error = (ours[4][0].double() - exact[4][0]).abs()
    assert bool((error < bound).all())
    assert float(error.norm() / exact[4].norm()) < 1e-4
