# SPDX-License-Identifier: MIT
"""The native sums of midpoint deficits against the reference."""

import numpy as np
import pytest
import torch
from compare import assert_close, rounding
from torch import Tensor

from lmc_fast import _native
from lmc_fast.reference.sampled_deficits import sampled_deficits as reference

# Around the lanes of a vector, a tile, and a block of neurons; around a run of samples.
WIDTHS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 97]
SAMPLES = [1, 2, 63, 64, 65, 255, 256, 257, 1000]


def normal(n: int, m: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * n + m + seed)
    return torch.randn(n, m, generator=generator, dtype=torch.float64)


def sums(z: Tensor, z_other: Tensor, threads: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    m = z.shape[1]
    squares, mixed, turned = (torch.zeros(m, m, dtype=torch.float64) for _ in range(3))
    _native.sampled_deficits(z, z_other, squares, mixed, turned, threads)
    return squares, mixed, turned


def check(z: Tensor, z_other: Tensor) -> None:
    got, want = sums(z, z_other), reference(z, z_other)
    # Twice n terms, each good to a few roundings; those of `mixed` have both signs, and the sum of
    # their sizes is bounded by Cauchy and Schwarz.
    relative = rounding(2 * (len(z) + 4))
    squares, _, turned = want
    sizes = (squares, squares.sqrt() * turned.sqrt(), turned)
    for name, *both, size in zip(("squares", "mixed", "turned"), got, want, sizes, strict=True):
        assert_close(*both, relative * size, name)


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("m", WIDTHS)
def test_against_the_reference(m: int) -> None:
    for n in SAMPLES:
        check(normal(n, m), normal(n, m, seed=1))


def test_magnitudes_far_apart_dead_and_always_active_neurons() -> None:
    z, z_other = normal(300, 20), normal(300, 20, seed=1)
    scale = 10.0 ** torch.linspace(-100, 100, 20, dtype=torch.float64)
    check(z * scale, z_other * scale.flip(0))
    for net in (z, z_other):
        net[:, 3] = 0
        net[:, 5] = -net[:, 5].abs()
        net[:, 9].abs_()
        net[::2] = 0
    check(z, z_other)


@pytest.mark.sanitize_quick
def test_the_worked_example_is_added_to_what_was_there() -> None:
    # As in the reference's test: a or b is 1, 2, 1, 4 where the signs differ.
    z, z_other = np.array([[3.0, -1], [-2, 4]]), np.array([[-1.0, 5], [6, -7]])
    squares, mixed, turned = (np.full((2, 2), start) for start in (100.0, 200.0, 300.0))
    _native.sampled_deficits(z, z_other, squares, mixed, turned, 1)
    assert squares.tolist() == [[105, 100], [100, 117]]
    assert mixed.tolist() == [[191, 200], [200, 211]]
    assert turned.tolist() == [[345, 304], [304, 341]]


def test_equal_neurons_and_zeros_lack_nothing() -> None:
    z = normal(500, 40)
    z[:, 7] = 0
    z[:, 8] = -0.0
    squares, mixed, turned = sums(z, z)
    for diagonal in (squares.diagonal(), mixed.diagonal(), turned.diagonal()):
        assert not diagonal.any()
    for rest in (squares, mixed):
        assert not rest[7:9].any()
        assert not rest[:, 7:9].any()


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("m", [1, 5, 8, 70])
def test_nan_stays_with_its_neuron(m: int) -> None:
    z, z_other = normal(70, m), normal(70, m, seed=1)
    clean = sums(z, z_other)
    i, j = m // 2, m - 1
    z[66, i], z_other[3, j] = torch.nan, torch.nan
    others = torch.ones(m, m, dtype=torch.bool)
    others[i], others[:, j] = False, False
    _, mixed, turned = got = sums(z, z_other)
    assert mixed[~others].isnan().all()
    assert turned[~others].isnan().all()
    for sum_, want in zip(got, clean, strict=True):
        assert torch.equal(sum_[others], want[others])


@pytest.mark.parametrize("m", [33, 130])
def test_bits_do_not_depend_on_threads(m: int) -> None:
    z, z_other = normal(1500, m), normal(1500, m, seed=1)
    alone = sums(z, z_other)
    for threads in (2, 3, 7):
        assert all(map(torch.equal, sums(z, z_other, threads), alone))


def test_bits_of_a_pair_do_not_depend_on_the_other_neurons() -> None:
    z, z_other = normal(200, 75), normal(200, 75, seed=1)
    whole = sums(z, z_other)
    for first, count in ((0, 1), (3, 8), (74, 1), (5, 66)):
        part = slice(first, first + count)
        got = sums(z[:, part], z_other[:, part])  # strided, too
        assert all(torch.equal(g, w[part, part]) for g, w in zip(got, whole, strict=True))


def test_networks_exchanged_give_the_transposed_sums() -> None:
    z, z_other = normal(130, 67), normal(130, 67, seed=1)
    squares, mixed, turned = sums(z, z_other)
    back = sums(z_other, z)
    assert all(map(torch.equal, back, (squares.T, -mixed.T, turned.T)))


def test_rounding_grows_like_the_square_root_of_the_samples() -> None:
    # Equal terms, whose roundings do not cancel, in runs of 64.
    n = 2**16
    z, z_other = torch.full((n, 1), 0.3).double(), torch.full((n, 1), -0.1).double()
    exact = [n * value for value in (z_other[0] ** 2, -z_other[0] * z[0], z[0] ** 2)]
    one_by_one = float(np.cumsum((z_other**2).numpy())[-1])
    tolerance = rounding(64 + n // 64)
    assert abs(one_by_one / float(exact[0]) - 1) > tolerance  # so the test can fail
    for got, want in zip(sums(z, z_other), exact, strict=True):
        assert_close(got[0], want, tolerance * want)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_add(n: int, m: int) -> None:
    assert not any(s.any() for s in sums(normal(n, m), normal(n, m)))


def call(**change: object) -> None:
    arguments: dict[str, object] = {"z": np.ones((3, 4)), "z_other": np.ones((3, 4))}
    arguments |= {name: np.zeros((4, 4)) for name in ("squares", "mixed", "turned")}
    _native.sampled_deficits(**arguments | {"threads": 1} | change)  # type: ignore[arg-type]


@pytest.mark.sanitize_quick
@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"z": np.ones(4)}, ValueError, r"z must be \(n, m\), 2-dimensional; got shape \(4,\)"),
        ({"z_other": np.ones((3, 5))}, ValueError, r"z_other must have shape \(3, 4\); got \(3, 5"),
        ({"z_other": np.ones((2, 4))}, ValueError, r"z_other must have shape \(3, 4\); got \(2, 4"),
        ({"z": np.ones((3, 4), np.float32)}, TypeError, "z must be float64; got float32"),
        ({"turned": np.ones((4, 4), np.int64)}, TypeError, "turned must be float64; got int64"),
        ({"squares": np.ones((3, 4))}, ValueError, r"squares must have shape \(4, 4\); got \(3, 4"),
        ({"mixed": np.ones((4, 8))[:, ::2]}, ValueError, "mixed must be contiguous and aligned"),
        ({"z": [[1.0]]}, TypeError, "z must be an array with __dlpack__ .* got list"),
        ({"threads": 0}, ValueError, "threads must be at least 1; got 0"),
    ],
)
def test_bad_arrays(change: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(**change)


def test_outputs_that_may_not_be_written_are_refused() -> None:
    fixed = np.zeros((4, 4))
    fixed.flags.writeable = False
    with pytest.raises(BufferError, match="readonly"):
        call(mixed=fixed)


def test_outputs_that_overlap_are_refused() -> None:
    memory = np.zeros(48)
    squares, beside, across = (memory[k : k + 16].reshape(4, 4) for k in (0, 16, 15))
    call(squares=squares, mixed=beside)
    with pytest.raises(ValueError, match="squares must not overlap mixed, because sums are added"):
        call(squares=squares, mixed=across)
    with pytest.raises(ValueError, match="mixed must not overlap turned"):
        call(mixed=across, turned=across)
    with pytest.raises(ValueError, match="turned must not overlap z_other"):
        call(turned=across, z_other=memory[30:42].reshape(3, 4))
    call(z=memory[:12].reshape(3, 4), z_other=memory[:12].reshape(3, 4))
