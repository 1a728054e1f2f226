# SPDX-License-Identifier: MIT
"""The CUDA kernels, run on the CPU by ``cuda_emulation``, against the float64 reference.

What runs is what nvcc compiles but for a handful of machine instructions, so this covers the
indices, tails, sums and barriers of the kernels on machines without a GPU. No access out of bounds
needs a test of its own: every array ends at a page that the process may not touch, and memory that
a kernel has not written yet is NaN.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace

import cuda_emulation as emulation
import pytest
import torch
from cuda_emulation import Settings
from torch import Tensor

from lmc_fast.reference import path_losses as path_reference
from lmc_fast.reference import two_layer_relu as reference
from lmc_fast.weights import Weights

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="emulated on Linux only"),
    pytest.mark.skipif(
        "libasan" in os.environ.get("LD_PRELOAD", ""),
        reason="AddressSanitizer does not follow threads that are fibers",
    ),
    pytest.mark.skipif(
        shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
    ),
]

TENSOR = Settings()
OLDER = Settings(warpgroups=False)  # tensor cores of a capability before 9.0
SIMT = Settings(tensor_cores=False)
LOW = 99 * 1024  # shared memory of a GPU on which the tensor cores' tiles are lower


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For sizes like these torch's threads cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


NAMES = ("dx", "dw1", "db1", "dw2", "db2")
ALL = [True] * 5

Arguments = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]


def arguments_of(
    n: int,
    m: int,
    d: int,
    c: int = 1,
    *,
    S: int = 1,
    bias: bool = True,
    x_shared: bool = True,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Arguments:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return (
        normal(n, d) if x_shared else normal(S, n, d),
        normal(S, m, d) / max(d, 1) ** 0.5,
        normal(S, m) if bias else None,
        normal(S, c, m) / max(m, 1) ** 0.5,
        normal(S, c) if bias else None,
    )


def gradient_of(arguments: Arguments, seed: int = 1) -> Tensor:
    x, w1, _, w2, _ = arguments
    generator = torch.Generator().manual_seed(seed)
    shape = (len(w1), x.shape[-2], w2.shape[1])
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(w1.dtype)


def double(arguments: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    return [None if t is None else t.double() for t in arguments]


def error(result: Tensor, exact: Tensor) -> float:
    assert result.shape == exact.shape
    assert not result.isnan().any()
    return float((result.double() - exact).norm() / exact.norm().clamp_min(1e-300))


def allowed(eager: Tensor, exact: Tensor) -> float:
    """Twice eager torch's error; in float64, where that is the reference itself, some roundings.

    At least a few eps: both may be exact to rounding, and their ratio then means nothing.
    """
    if eager.dtype == torch.float64:
        return 40 * torch.finfo(torch.float64).eps
    return 2 * max(error(eager, exact), 2 * torch.finfo(torch.float32).eps)


def check_signs(signs: Tensor, arguments: Arguments) -> Tensor:
    """Only where z is rounding error may its sign differ; return which neurons are active."""
    x, w1, b1, _, _ = arguments
    m, d = w1.shape[1:]
    active = reference.unpack_signs(signs, m)
    assert torch.equal(reference.pack_signs(active), signs)  # no bits beyond the last neuron
    z = reference.pre_activations(*double((x, w1, b1)))
    magnitude = reference.pre_activations(
        *(None if t is None else t.double().abs() for t in (x, w1, b1))
    )
    unsure = z.abs() <= (d + 2) * torch.finfo(w1.dtype).eps * magnitude
    assert bool(((active == ~(z <= 0)) | unsure).all())
    return active


def check(arguments: Arguments, settings: Settings, wanted: list[bool] = ALL) -> None:
    """Outputs, signs and gradients: their errors are at most twice eager torch's."""
    x, w1, b1, w2, _ = arguments
    f, signs = emulation.forward(*arguments, settings)
    exact = reference.two_layer_relu(*double(arguments))
    assert error(f, exact) <= allowed(reference.two_layer_relu(*arguments), exact)
    active = check_signs(signs, arguments)
    wanted = [
        want and (name != "db1" or b1 is not None) for want, name in zip(wanted, NAMES, strict=True)
    ]
    df = gradient_of(arguments)
    ours = emulation.backward(df, x, w1, b1, w2, signs, wanted, settings)
    exact_gradients = reference.two_layer_relu_backward(*double((df, x, w1, b1, w2)), active)
    eager_gradients = reference.two_layer_relu_backward(df, x, w1, b1, w2, active)
    for name, want, our, eager, right in zip(
        NAMES, wanted, ours, eager_gradients, exact_gradients, strict=True
    ):
        assert (our is not None) == want
        if our is not None:
            assert error(our, right) <= allowed(eager, right), name


@pytest.mark.parametrize(
    "values",
    [
        torch.randn(100_000, generator=torch.Generator().manual_seed(0)),
        2.0 ** torch.arange(-110, 128, dtype=torch.float32),
        -(2.0 ** torch.arange(-110, 128, dtype=torch.float32)),
        torch.tensor([2.0]) ** torch.arange(-110, 127) * (2 - 2.0**-23),  # all bits set
        torch.tensor([2.0]) ** torch.arange(-110, 127) * (-1 - 2.0**-23),
        torch.tensor([0.0, torch.finfo(torch.float32).max, torch.finfo(torch.float32).min]),
        # What rounding to bfloat16 would make infinite.
        torch.tensor([3.39e38, 3.3895e38, 3.4e38, -3.4e38]),
        # Ties, between even and odd.
        1 + torch.arange(-8, 9) * 2.0**-8,
    ],
)
def test_three_terms_hold_a_float32(values: Tensor) -> None:
    terms = emulation.split(values)
    assert torch.equal(terms.double().sum(0), values.double())
    # Near overflow the first term is truncated, and may leave all of 2^-8.
    size = (1 + 2.0**-8) * values.double().abs()
    assert bool((terms[1].double().abs() <= 2.0**-8 * size).all())
    assert bool((terms[2].double().abs() <= 2.0**-16 * size).all())


def test_random_bits_are_split_exactly() -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (200_000,), generator=generator).to(torch.int32)
    values = bits.view(torch.float32)
    values = values[values.isfinite() & (values.abs() >= 2.0**-110)]
    assert len(values) > 100_000
    assert torch.equal(emulation.split(values).double().sum(0), values.double())


def test_infinity_and_nan_stay_in_the_first_term() -> None:
    # 2139095041: a NaN of which the upper 16 bits alone would be infinity.
    odd = torch.tensor([2139095041], dtype=torch.int32).view(torch.float32)
    values = torch.cat((torch.tensor([float("inf"), -float("inf"), float("nan")]), odd))
    terms = emulation.split(values)
    torch.testing.assert_close(terms[0].float(), values, equal_nan=True)
    assert not terms[1:].any()


# Around the tensor cores' 16 and 32, the chunks of 8 of their operands, the sign words (64), the
# tiles (32, 64 and 128) and their tails: n, m, d, c.
SIZES = [
    (1, 1, 1, 1),
    (1, 129, 8, 3),
    (129, 1, 7, 1),
    (15, 17, 9, 5),
    (16, 16, 16, 1),
    (17, 15, 31, 2),
    (31, 33, 32, 1),
    (33, 31, 33, 3),
    (63, 65, 15, 1),
    (64, 64, 64, 1),
    (65, 63, 17, 3),
    (127, 129, 3, 1),
    (128, 128, 5, 2),
    (129, 127, 65, 1),
    (3, 5, 129, 1),
    (2, 257, 63, 5),
    (97, 130, 127, 2),
]
EMPTY = [(0, 5, 3, 1), (0, 5, 3, 3), (5, 0, 3, 1), (5, 0, 3, 2), (5, 4, 0, 1), (5, 4, 0, 3)]


@pytest.mark.parametrize("number", range(len(SIZES) + len(EMPTY)))
@pytest.mark.parametrize("kind", ["tensor", "older", "float32", "float64"])
def test_agrees_with_the_reference_at_adversarial_sizes(kind: str, number: int) -> None:
    n, m, d, c = (SIZES + EMPTY)[number]
    settings = Settings(
        tensor_cores=kind in ("tensor", "older"),
        warpgroups=kind == "tensor",
        thread_order=number % 3,
        shared_memory=LOW if number % 2 and kind == "older" else TENSOR.shared_memory,
    )
    for turn in range(2 if kind.startswith("float") else 1):
        arguments = arguments_of(
            n,
            m,
            d,
            c,
            S=1 + (number + turn) % 2,
            bias=(number // 2 + turn) % 2 == 0,
            x_shared=number % 4 < 2,
            dtype=torch.float64 if kind == "float64" else torch.float32,
            seed=number,
        )
        check(arguments, settings)


@pytest.mark.parametrize("biases", [(True, False), (False, True)])
@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("settings", [TENSOR, OLDER, SIMT])
def test_one_of_the_biases(settings: Settings, c: int, biases: tuple[bool, bool]) -> None:
    x, w1, b1, w2, b2 = arguments_of(20, 70, 10, c)
    check((x, w1, b1 if biases[0] else None, w2, b2 if biases[1] else None), settings)


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("settings", [TENSOR, OLDER, SIMT])
def test_any_subset_of_gradients_can_be_asked_for(settings: Settings, c: int) -> None:
    arguments = arguments_of(20, 35, 5, c, S=2)
    x, w1, b1, w2, _ = arguments
    _, signs = emulation.forward(*arguments, settings)
    df = gradient_of(arguments)
    every = emulation.backward(df, x, w1, b1, w2, signs, ALL, settings)
    for number in (0, 1, 2, 4, 8, 16, 6, 12, 10, 23, 27, 29):
        wanted = [bool(number >> i & 1) for i in range(5)]
        some = emulation.backward(df, x, w1, b1, w2, signs, wanted, settings)
        for got, whole, want in zip(some, every, wanted, strict=True):
            assert (got is not None) == want
            # Without a column for the bias a sum over samples may be cut differently.
            assert got is None or whole is None or error(got, whole.double()) <= 1e-6


# More than one part: of the samples for dw1 (n), for dw2 of several outputs (n); of the neurons for
# f and dx (m). 4200 neurons and 17 200 samples leave a last part with nothing to add.
@pytest.mark.parametrize(
    ("settings", "dtype", "n", "m", "d", "c"),
    [
        (TENSOR, torch.float32, 2000, 3, 2, 1),
        (TENSOR, torch.float32, 1100, 3, 5, 3),
        (TENSOR, torch.float32, 3, 1100, 9, 1),
        (TENSOR, torch.float32, 3, 1100, 2, 3),
        (TENSOR, torch.float32, 1100, 3, 70, 2),
        (OLDER, torch.float32, 2000, 3, 2, 1),
        (OLDER, torch.float32, 1100, 3, 5, 3),
        (OLDER, torch.float32, 3, 1100, 9, 1),
        (SIMT, torch.float32, 2000, 3, 9, 3),
        (SIMT, torch.float32, 2, 4200, 2, 1),
        (SIMT, torch.float64, 17_200, 1, 1, 1),
        (SIMT, torch.float64, 2000, 5, 9, 1),
        (SIMT, torch.float64, 5, 1100, 9, 3),
    ],
)
def test_sums_cut_into_parts(
    settings: Settings, dtype: torch.dtype, n: int, m: int, d: int, c: int
) -> None:
    check(arguments_of(n, m, d, c, dtype=dtype), settings)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
@pytest.mark.parametrize("c", [1, 3])
def test_huge_and_tiny_weights(scale: float, c: int) -> None:
    x, w1, b1, w2, b2 = arguments_of(40, 70, 20, c)
    assert b1 is not None
    check((x, w1 * scale, b1 * scale, w2, b2), TENSOR)


@pytest.mark.parametrize("settings", [TENSOR, OLDER, SIMT])
@pytest.mark.parametrize("c", [1, 3])
def test_hand_worked_ties_at_zero(settings: Settings, c: int) -> None:
    # z = [[1, 1, 3], [-1, 0, 0]]: the second sample has one negative neuron and two at exactly 0.
    x = torch.tensor([[1.0, 2.0], [-1.0, 1.0]])
    w1 = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    b1, b2 = torch.tensor([[0.0, -1.0, 0.0]]), torch.full((1, c), 0.5)
    w2 = torch.tensor([2.0, -1.0, 3.0]).expand(1, c, 3).contiguous()
    f, signs = emulation.forward(x, w1, b1, w2, b2, settings)
    assert f.tolist() == [[[2 - 1 + 9 + 0.5] * c, [0.5] * c]]
    assert signs.tolist() == [[[7, 0]]]
    _, dw1, db1, dw2, _ = emulation.backward(
        torch.ones(1, 2, c), x, w1, b1, w2, signs, ALL, settings
    )
    assert dw1 is not None
    assert db1 is not None
    assert dw2 is not None
    assert (dw1 / c).tolist() == [[[2.0, 4.0], [-1.0, -2.0], [3.0, 6.0]]]
    assert (db1 / c).tolist() == [[2.0, -1.0, 3.0]]
    assert dw2.tolist() == [[[1.0, 1.0, 3.0]] * c]


@pytest.mark.parametrize("settings", [TENSOR, OLDER, SIMT])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_stay_in_their_sample(settings: Settings, value: float) -> None:
    x, w1, b1, w2, b2 = arguments_of(20, 70, 6, 2)
    plain, plain_signs = emulation.forward(x, w1, b1, w2, b2, settings)
    x[3, 2] = value
    f, signs = emulation.forward(x, w1, b1, w2, b2, settings)
    others = torch.arange(20) != 3
    assert torch.equal(f[:, others], plain[:, others])
    assert torch.equal(signs[..., others], plain_signs[..., others])
    assert not f[0, 3].isfinite().any()
    if value != value:
        assert bool(f[0, 3].isnan().all())
        assert bool(reference.unpack_signs(signs, 70)[0, 3].all())


@pytest.mark.parametrize(("terms", "bound"), [(2, 2.0**-14), (1, 2.0**-6)])
@pytest.mark.parametrize(("c", "d"), [(1, 33), (1, 70), (3, 33), (3, 70)])
def test_fewer_terms_are_less_exact_by_as_much_as_they_should(
    terms: int, bound: float, c: int, d: int
) -> None:
    arguments = arguments_of(70, 140, d, c, bias=False)
    x, w1, b1, w2, _ = arguments
    df = gradient_of(arguments)
    _, signs = emulation.forward(*arguments, TENSOR)
    active = reference.unpack_signs(signs, 140)
    exact = [
        reference.two_layer_relu(*double(arguments)),
        *reference.two_layer_relu_backward(*double((df, x, w1, b1, w2)), active)[:4],
    ]
    results = {}
    for settings in (TENSOR, Settings(terms=terms)):
        f, _ = emulation.forward(*arguments, settings)
        wanted = [True, True, False, True, False]
        gradients = emulation.backward(df, x, w1, b1, w2, signs, wanted, settings)
        results[settings.terms] = [f, *gradients[:4]]
    for fewer, three, right in zip(results[terms], results[3], exact, strict=True):
        if fewer is not None and three is not None:
            assert bound / 256 < error(fewer, right) < bound
            assert error(three, right) < bound / 256


# A missing barrier would show as a difference here (or as NaN).
ORDERS = (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        (TENSOR, torch.float32),
        (OLDER, torch.float32),
        (Settings(shared_memory=LOW), torch.float32),
        (SIMT, torch.float32),
        (SIMT, torch.float64),
    ],
)
@pytest.mark.parametrize("c", [1, 3])
def test_bits_do_not_depend_on_the_order_of_threads(
    settings: Settings, dtype: torch.dtype, c: int
) -> None:
    arguments = arguments_of(140, 140, 70, c, dtype=dtype)
    x, w1, b1, w2, _ = arguments
    df = gradient_of(arguments)
    results = []
    for order in ORDERS:
        ordered = replace(settings, thread_order=order)
        f, signs = emulation.forward(*arguments, ordered)
        gradients = emulation.backward(df, x, w1, b1, w2, signs, ALL, ordered)
        results.append([f, signs, *(t for t in gradients if t is not None)])
    assert not any(t.isnan().any() for t in results[0])
    for other in results[1:]:
        assert all(torch.equal(p, q) for p, q in zip(results[0], other, strict=True))


@pytest.mark.parametrize("settings", [TENSOR, OLDER, SIMT])
@pytest.mark.parametrize("order", ORDERS)
def test_without_inputs_only_the_biases_count(settings: Settings, order: int) -> None:
    # No step of a product, and so no barrier of its own.
    ordered = replace(settings, thread_order=order)
    check(arguments_of(100, 140, 0, 2), ordered)


@pytest.mark.parametrize("settings", [TENSOR, OLDER, SIMT])
@pytest.mark.parametrize("c", [1, 3])
def test_a_network_gives_the_same_bits_alone_and_in_an_ensemble(settings: Settings, c: int) -> None:
    arguments = arguments_of(40, 70, 11, c, S=3, x_shared=False)
    x, w1, b1, w2, _ = arguments
    df = gradient_of(arguments)
    f, signs = emulation.forward(*arguments, settings)
    gradients = emulation.backward(df, x, w1, b1, w2, signs, ALL, settings)
    for s in range(3):
        alone = tuple(None if t is None else t[s : s + 1] for t in arguments)
        one_f, one_signs = emulation.forward(*alone, settings)
        assert torch.equal(one_f[0], f[s])
        assert torch.equal(one_signs[0], signs[s])
        one = emulation.backward(df[s : s + 1], *alone[:4], one_signs, ALL, settings)
        for single, whole in zip(one, gradients, strict=True):
            assert single is not None
            assert whole is not None
            assert torch.equal(single[0], whole[s])


@pytest.mark.parametrize("terms", [3, 2, 1])
def test_bits_do_not_depend_on_the_height_of_the_tiles(terms: int) -> None:
    arguments = arguments_of(130, 200, 40, 3)
    x, w1, b1, w2, _ = arguments
    df = gradient_of(arguments)
    tall, low = Settings(terms), Settings(terms, shared_memory=LOW)
    f, signs = emulation.forward(*arguments, tall)
    low_f, low_signs = emulation.forward(*arguments, low)
    assert torch.equal(f, low_f)
    assert torch.equal(signs, low_signs)
    only = [False, False, False, True, False]  # the others have one tile only
    for a, b in zip(
        emulation.backward(df, x, w1, b1, w2, signs, only, tall),
        emulation.backward(df, x, w1, b1, w2, signs, only, low),
        strict=True,
    ):
        assert (a is None and b is None) or torch.equal(a, b)


# The matrix instructions differ, the order of every sum does not.
@pytest.mark.parametrize("terms", [3, 2, 1])
@pytest.mark.parametrize(("d", "c"), [(40, 1), (70, 1), (40, 3), (130, 3)])
def test_bits_are_the_same_on_warpgroups_and_on_older_tensor_cores(
    terms: int, d: int, c: int
) -> None:
    arguments = arguments_of(150, 300, d, c)
    x, w1, b1, w2, _ = arguments
    df = gradient_of(arguments)
    newer, older = Settings(terms), Settings(terms, warpgroups=False)
    f, signs = emulation.forward(*arguments, newer)
    older_f, older_signs = emulation.forward(*arguments, older)
    assert torch.equal(f, older_f)
    assert torch.equal(signs, older_signs)
    for a, b in zip(
        emulation.backward(df, x, w1, b1, w2, signs, ALL, newer),
        emulation.backward(df, x, w1, b1, w2, signs, ALL, older),
        strict=True,
    ):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)


# path_losses. Its networks are (w1, b1, w2, b2) of P pairs.
Network = tuple[Tensor, Tensor | None, Tensor, Tensor | None]


def network_of(m: int, d: int, c: int = 1, *, P: int = 1, **options) -> Network:
    return arguments_of(1, m, d, c, S=P, **options)[1:]


def data_of(
    n: int, d: int, c: int, cross_entropy: bool, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64).to(dtype)
    if cross_entropy:
        return x, torch.randint(c, (n,), generator=generator)
    return x, torch.randn(n, c, generator=generator, dtype=torch.float64).to(dtype)


def grid(alphas: int | list[float]) -> Tensor:
    if isinstance(alphas, int):
        return torch.linspace(0, 1, alphas, dtype=torch.float64)
    return torch.tensor(alphas, dtype=torch.float64)


def path_error(losses: Tensor, exact: Tensor) -> float:
    """Largest over a path, relative to the largest loss on it; the worst pair's."""
    assert not losses.isnan().any()
    scale = exact.abs().amax(1).clamp_min(1e-300)
    return float(((losses - exact).abs().amax(1) / scale).max())


def check_path(
    a: Network, b: Network, x: Tensor, y: Tensor, alphas: Tensor, settings: Settings
) -> None:
    losses, accuracies = emulation.path_losses(a, b, x, y, alphas, settings)
    loss = "mse" if y.is_floating_point() else "cross_entropy"
    exact = path_reference.path_losses(
        Weights(*double(a)),
        Weights(*double(b)),
        x.double(),
        y.double() if loss == "mse" else y,
        alphas,
        loss,
    )
    eager = path_reference.path_losses(Weights(*a), Weights(*b), x, y, alphas, loss)
    eps = torch.finfo(x.dtype).eps
    bound = 40 * eps
    if x.dtype == torch.float32:
        bound = 2 * max(path_error(eager.losses, exact.losses), 2 * eps)
    assert path_error(losses, exact.losses) <= bound
    assert (accuracies is None) == (exact.accuracies is None)
    if accuracies is not None and exact.accuracies is not None:
        assert torch.equal(accuracies, exact.accuracies)


GRIDS: list[int | list[float]] = [
    25,
    2,
    [0.0],
    7,
    [0.5],
    [0.0, 0.1, 0.1, 0.25, 1.0],
    1001,
    [1.0],
    [0.3, 0.30000001, 0.9],
    [0.01, 0.99],
]
PATH_SIZES = [
    (1, 1, 1, 1),
    (31, 129, 9, 3),
    (33, 65, 17, 1),
    (17, 63, 33, 4),
    (63, 127, 7, 1),
    (64, 31, 8, 2),
    (65, 128, 16, 1),
    (15, 257, 3, 3),
    (3, 33, 65, 1),
    (16, 64, 5, 5),
]


@pytest.mark.parametrize("number", range(len(PATH_SIZES)))
@pytest.mark.parametrize("cross_entropy", [False, True])
@pytest.mark.parametrize("kind", ["tensor", "float32", "float64"])
def test_path_agrees_with_the_reference(kind: str, cross_entropy: bool, number: int) -> None:
    n, m, d, c = PATH_SIZES[number]
    dtype = torch.float64 if kind == "float64" else torch.float32
    settings = Settings(
        tensor_cores=kind == "tensor",
        thread_order=number % 3,
        shared_memory=LOW if number % 2 else TENSOR.shared_memory,
    )
    P = 1 + number % 2
    a = network_of(m, d, c, P=P, bias=number % 3 != 0, dtype=dtype, seed=number)
    b = network_of(m, d, c, P=P, bias=number % 4 != 0, dtype=dtype, seed=number + 100)
    x, y = data_of(n, d, c, cross_entropy, dtype)
    check_path(a, b, x, y, grid(GRIDS[number]), settings)
    if kind != "tensor":
        check_path(b, a, x, y, grid(GRIDS[number - 5]), settings)


@pytest.mark.parametrize("settings", [TENSOR, SIMT])
@pytest.mark.parametrize("side", range(4))
def test_path_with_biases_on_one_side(settings: Settings, side: int) -> None:
    a, b = (network_of(70, 5, 2, seed=seed) for seed in (1, 2))
    for which, network in enumerate((a, b)):
        if side // 2 == which:
            without = (network[0], None, network[2], network[3])
            if side % 2:
                without = (*network[:3], None)
            a, b = (without, b) if which == 0 else (a, without)
    x, y = data_of(20, 5, 2, False)
    check_path(a, b, x, y, grid(9), settings)


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [(TENSOR, torch.float32), (SIMT, torch.float32), (SIMT, torch.float64)],
)
@pytest.mark.parametrize(("m", "c", "P"), [(1000, 1, 1), (140, 3, 2)])
def test_path_ends_are_the_outputs_of_two_layer_relu_bit_for_bit(
    settings: Settings, dtype: torch.dtype, m: int, c: int, P: int
) -> None:
    # 1000 neurons: two parts of the outputs' sums. A sum of squares is 0 only if all are.
    a, b = (network_of(m, 7, c, P=P, dtype=dtype, seed=seed) for seed in (1, 2))
    x, _ = data_of(12, 7, c, False, dtype)
    alphas = grid([0.0, 0.0, 0.4, 1.0])
    for place, end in ((slice(0, 2), a), (slice(3, 4), b)):
        outputs, _ = emulation.forward(x, *end, settings)
        for pair in range(P):
            y = outputs[pair].contiguous()
            losses = emulation.path_losses(a, b, x, y, alphas, settings)[0][pair]
            assert bool((losses[place] == 0).all())
            assert int((losses == 0).sum()) == losses[place].numel()


@pytest.mark.parametrize("settings", [TENSOR, SIMT])
@pytest.mark.parametrize("cross_entropy", [False, True])
def test_path_between_equal_networks_is_flat(settings: Settings, cross_entropy: bool) -> None:
    a = network_of(70, 5, 3, P=2)
    x, y = data_of(20, 5, 3, cross_entropy)
    losses, _ = emulation.path_losses(a, a, x, y, grid(33), settings)
    assert torch.equal(losses, losses[:, :1].expand_as(losses))


@pytest.mark.parametrize("settings", [TENSOR, SIMT])
@pytest.mark.parametrize("cross_entropy", [False, True])
def test_path_of_dead_neurons(settings: Settings, cross_entropy: bool) -> None:
    a, b = (network_of(70, 5, 3, seed=seed) for seed in (1, 2))
    assert a[1] is not None
    assert b[1] is not None
    a[1][:, ::2] -= 100
    b[1][:, ::3] -= 100
    x, y = data_of(20, 5, 3, cross_entropy)
    check_path(a, b, x, y, grid(11), settings)
    for network in (a, b):  # and all of them
        network[1][:] = -100
    losses, _ = emulation.path_losses(a, a, x, y, grid(11), settings)
    assert torch.equal(losses, losses[:, :1].expand_as(losses))
    check_path(a, b, x, y, grid(11), settings)


@pytest.mark.parametrize("settings", [TENSOR, SIMT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_path_outputs_tie_exactly_where_no_neuron_is_active(
    settings: Settings, dtype: torch.dtype
) -> None:
    # Every neuron of a is dead by alpha = 1/4 and none of b is born before 3/4.
    bias = torch.tensor([[0.3, 0.3, 0.3]], dtype=dtype)
    w2 = network_of(2, 1, 3, dtype=dtype)[2]
    a = (torch.tensor([[[0.1], [-0.7]]], dtype=dtype), None, w2, bias)
    b = (torch.tensor([[[-0.4], [0.2]]], dtype=dtype), None, -w2, bias)
    x = torch.rand(50, 1, generator=torch.Generator().manual_seed(0)).to(dtype) + 0.1
    y = torch.arange(50) % 3
    alphas = grid(41)
    losses, accuracies = emulation.path_losses(a, b, x, y, alphas, settings)
    assert accuracies is not None
    middle = (alphas > 0.26) & (alphas < 0.74)
    assert bool((accuracies[0, middle] == (y == 0).double().mean()).all())
    assert bool((losses[0, middle] - torch.tensor(3.0).double().log()).abs().max() < 1e-15)


@pytest.mark.parametrize("settings", [TENSOR, SIMT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alphas", [5, [0.0, 0.2, 0.25, 0.5, 0.5, 0.75, 1.0]])
def test_path_crossings_on_a_grid_alpha_and_ties_at_zero(
    settings: Settings, dtype: torch.dtype, alphas: int | list[float]
) -> None:
    # Pre-activations in quarters: every crossing lies exactly on a quarter, and many are exactly 0.
    values = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0], dtype=dtype)
    za, zb = (grid.flatten() for grid in torch.meshgrid(values, values, indexing="ij"))
    steps = torch.arange(25, dtype=dtype)
    a = (za[None, :, None].contiguous(), None, (steps - 7)[None, None].contiguous(), None)
    b = (zb[None, :, None].contiguous(), None, (3 - steps)[None, None].contiguous(), None)
    x, y = torch.tensor([[1.0], [-2.0]], dtype=dtype), torch.zeros(2, 1, dtype=dtype)
    check_path(a, b, x, y, grid(alphas), settings)


@pytest.mark.parametrize(
    ("tensor_cores", "dtype", "sizes"),
    [
        # Shared memory for bins in it, for copies of them, for lists of many and of few samples;
        # on tensor cores the last four are too little for tall tiles with lists of many.
        (True, torch.float32, (227, 190, 170, 120, 114, 100, 95)),
        (False, torch.float32, (227, 90, 70, 64)),
        (False, torch.float64, (227, 75, 64)),
    ],
)
@pytest.mark.parametrize(("c", "cross_entropy"), [(1, False), (4, False), (4, True), (13, True)])
def test_path_bits_do_not_depend_on_where_the_bins_are(
    tensor_cores: bool, dtype: torch.dtype, sizes: tuple[int, ...], c: int, cross_entropy: bool
) -> None:
    a, b = (network_of(150, 5, c, seed=seed, dtype=dtype) for seed in (1, 2))
    x, y = data_of(70, 5, c, cross_entropy, dtype)
    results = [
        emulation.path_losses(
            a,
            b,
            x,
            y,
            grid(5),
            Settings(tensor_cores=tensor_cores, shared_memory=size * 1024, thread_order=order),
        )
        for order, size in enumerate(sizes)
    ]
    assert not results[0][0].isnan().any()
    for losses, accuracies in results[1:]:
        assert torch.equal(losses, results[0][0])
        assert accuracies is None or torch.equal(accuracies, results[0][1])


@pytest.mark.parametrize("tensor_cores", [True, False])
@pytest.mark.parametrize("A", [2, 60, 101, 1001, 12001])
@pytest.mark.parametrize("c", [1, 3])
def test_path_with_few_and_many_alphas(tensor_cores: bool, A: int, c: int) -> None:
    # Bins of tall tiles, of low ones, in the workspace; the most alphas themselves do not fit.
    a, b = (network_of(150, 4, c, seed=seed) for seed in (1, 2))
    x, y = data_of(9, 4, c, False)
    settings = Settings(tensor_cores=tensor_cores, shared_memory=(99 if A == 12001 else 227) * 1024)
    check_path(a, b, x, y, grid(A), settings)
    uneven = torch.rand(A, generator=torch.Generator().manual_seed(A), dtype=torch.float64)
    check_path(a, b, x, y, (uneven**3).sort().values, settings)


def test_path_refuses_more_alphas_than_it_can_count() -> None:
    a, b = (network_of(2, 1, seed=seed) for seed in (1, 2))
    x, y = data_of(1, 1, 1, False)
    with pytest.raises(AssertionError, match="alphas must have at most"):
        emulation.path_losses(a, b, x, y, grid(2**20 + 1), TENSOR)


@pytest.mark.parametrize("settings", [TENSOR, SIMT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("alphas", [9, [0.0, 0.2, 0.75, 0.75, 0.9]])
def test_path_crossings_that_all_fall_into_one_bin(
    settings: Settings, dtype: torch.dtype, c: int, alphas: int | list[float]
) -> None:
    # Every neuron crosses, at 3/4: the longest lists there are.
    w1, _, w2, b2 = network_of(300, 6, c, dtype=dtype)
    assert w1 is not None
    a, b = (3 * w1, None, w2, b2), (-w1, None, w2.flip(-1).contiguous(), b2)
    x, y = data_of(33, 6, c, c > 1, dtype)
    check_path(a, b, x, y, grid(alphas), settings)


@pytest.mark.parametrize("settings", [TENSOR, SIMT])
@pytest.mark.parametrize("c", [1, 3])
def test_path_without_inputs_only_the_biases_count(settings: Settings, c: int) -> None:
    # No step of a product, and so no barrier of its own.
    a, b = (network_of(300, 0, c, seed=seed) for seed in (1, 2))
    x, y = data_of(40, 0, c, c > 1)
    results = [
        emulation.path_losses(
            a, b, x, y, grid(9), Settings(settings.terms, order, settings.tensor_cores)
        )
        for order in ORDERS
    ]
    zero = torch.zeros(40, 1)
    ones = [(torch.ones(1, 300, 1), *net[1:]) for net in (a, b)]
    expected, _ = emulation.path_losses(*ones, zero, y, grid(9), settings)
    assert not expected.isnan().any()
    for losses, _ in results:
        assert torch.equal(losses, expected)


@pytest.mark.parametrize("settings", [TENSOR, SIMT])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("c", [1, 3])
def test_path_next_to_a_network_that_is_not_finite(
    settings: Settings, number: float, c: int
) -> None:
    # The other end is its own network's, everything else is infinite or NaN.
    a, b = (network_of(140, 5, c, seed=seed) for seed in (1, 2))
    assert a[1] is not None
    a[1][0, 77] = number
    x, y = data_of(20, 5, c, False)
    for p, q, end in ((a, b, 8), (b, a, 0)):
        losses, _ = emulation.path_losses(p, q, x, y, grid(9), settings)
        finite = losses[0].isfinite()
        assert int(finite.sum()) == 1
        assert bool(finite[end])
        exact, _ = emulation.path_losses(b, b, x, y, grid(9), settings)
        assert losses[0, end] == exact[0, end]


@pytest.mark.parametrize("P", [1, 2])
def test_path_bits_do_not_depend_on_how_many_processors_there_are(P: int) -> None:
    # Which decides between tall and low tiles.
    a, b = (network_of(140, 5, 2, P=P, seed=seed) for seed in (1, 2))
    x, y = data_of(130, 5, 2, False)
    results = [
        emulation.path_losses(a, b, x, y, grid(9), Settings(processors=processors))[0]
        for processors in (1, 2, 3, 4, 132)
    ]
    for losses in results[1:]:
        assert torch.equal(losses, results[0])


def test_path_bins_beyond_a_groups_memory_take_several_launches() -> None:
    a, b = (network_of(40, 3, 10, seed=seed) for seed in (1, 2))
    x, y = data_of(1100, 3, 10, True)
    # 18 blocks of 64 samples, whose bins take 16 MiB each.
    check_path(a, b, x, y, grid(1001), Settings(tensor_cores=False))


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        (TENSOR, torch.float32),
        (Settings(shared_memory=LOW), torch.float32),
        (SIMT, torch.float32),
        (Settings(tensor_cores=False, shared_memory=64 * 1024), torch.float64),
    ],
)
@pytest.mark.parametrize("cross_entropy", [False, True])
def test_path_bits_do_not_depend_on_the_order_of_threads(
    settings: Settings, dtype: torch.dtype, cross_entropy: bool
) -> None:
    c = 3 if cross_entropy else 1
    a, b = (network_of(140, 40, c, dtype=dtype, seed=seed) for seed in (1, 2))
    x, y = data_of(20, 40, c, cross_entropy, dtype)
    results = [
        emulation.path_losses(
            a,
            b,
            x,
            y,
            grid(4),  # few bins: many lanes hit the same one
            replace(settings, thread_order=order),
        )
        for order in ORDERS
    ]
    assert not results[0][0].isnan().any()
    for losses, accuracies in results[1:]:
        assert torch.equal(losses, results[0][0])
        assert accuracies is None or torch.equal(accuracies, results[0][1])


@pytest.mark.parametrize("settings", [TENSOR, SIMT])
def test_a_pair_gives_the_same_bits_alone_and_among_others(settings: Settings) -> None:
    a, b = (network_of(70, 5, 2, P=3, seed=seed) for seed in (1, 2))
    x, y = data_of(40, 5, 2, False)
    together, _ = emulation.path_losses(a, b, x, y, grid(25), settings)
    for pair in range(3):
        alone = [tuple(None if t is None else t[pair : pair + 1] for t in net) for net in (a, b)]
        losses, _ = emulation.path_losses(*alone, x, y, grid(25), settings)
        assert torch.equal(losses[0], together[pair])


@pytest.mark.parametrize(("terms", "bound"), [(2, 2.0**-14), (1, 2.0**-6)])
def test_path_with_fewer_terms_is_less_exact_by_as_much_as_it_should(
    terms: int, bound: float
) -> None:
    a, b = (network_of(140, 33, bias=False, seed=seed) for seed in (1, 2))
    x, y = data_of(40, 33, 1, False)
    exact = path_reference.path_losses(
        Weights(*double(a)), Weights(*double(b)), x.double(), y.double(), 25
    ).losses
    fewer, _ = emulation.path_losses(a, b, x, y, grid(25), Settings(terms))
    three, _ = emulation.path_losses(a, b, x, y, grid(25), TENSOR)
    assert bound / 256 < path_error(fewer, exact) < bound
    assert path_error(three, exact) < bound / 256
