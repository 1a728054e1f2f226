# SPDX-License-Identifier: MIT
"""The trainer's random numbers: Philox, normals and shuffles."""

import numpy as np
import pytest
import torch

import lmc_fast
from lmc_fast import _native
from lmc_fast.reference import philox


def normals(seed: int, count: int, step: int) -> np.ndarray:
    out = np.full(count, np.nan)
    _native.train_ensemble_normals(seed, step, out)
    return out


def shuffle(seed: int, n: int, epoch: int) -> np.ndarray:
    out = np.full(n, -1)
    _native.train_ensemble_shuffle(seed, epoch, out)
    return out


# Known answers of philox4x32-10, from the test vectors of the authors' Random123 library:
# counter (4 words), key (2 words), result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_known_answers(
    counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]
) -> None:
    seed, index = key[0] | key[1] << 32, counter[0] | counter[1] << 32
    assert _native.train_ensemble_philox(seed, index, counter[2], counter[3]) == words


@pytest.mark.parametrize("seed", [0, 12345, 2**33 + 7, 2**63 - 1])
def test_normals_are_the_references_to_rounding(seed: int) -> None:
    for count, step in ((1, 0), (2, 1), (15, 3), (16, 2), (17, 2**32 - 1), (1001, 12)):
        got, want = normals(seed, count, step), philox.normals(seed, count, step)
        # Logarithm, sine and cosine within 2 ulp, and the reference's own rounding of the angle.
        np.testing.assert_allclose(got, want, rtol=0, atol=10 * np.finfo(float).eps)


def test_normals_have_the_normal_moments() -> None:
    x = np.concatenate([normals(3, 40_000, step) for step in range(5)])
    n = len(x)
    # Five standard errors: E x^k has variance (E x^2k - (E x^k)^2) / n.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < 5 * (variance / n) ** 0.5
    assert np.abs(x).max() > 4
    for lag in (1, 2, 40_000):  # both of a pair, neighbouring pairs, neighbouring steps
        assert abs((x[lag:] * x[:-lag]).mean()) < 5 / (n - lag) ** 0.5
    assert abs((normals(3, 40_000, 0) * normals(4, 40_000, 0)).mean()) < 5 / 40_000**0.5


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("n", [1, 2, 7, 31, 32, 33, 1000])
def test_shuffles_visit_every_sample_once(n: int) -> None:
    orders = [shuffle(9, n, epoch) for epoch in range(3)]
    for epoch, order in enumerate(orders):
        assert sorted(order) == list(range(n))
        assert (order == philox.shuffle(9, n, epoch)).all()
    if n > 10:
        assert (orders[0] != orders[1]).any()


def test_shuffles_put_every_sample_everywhere_equally_often() -> None:
    n, trials = 5, 4000
    counts = np.zeros((n, n))
    for seed in range(trials):
        counts[np.arange(n), shuffle(seed, n, 0)] += 1
    # Binomial with p = 1/5: five standard errors.
    assert np.abs(counts - trials / n).max() < 5 * (trials * 0.2 * 0.8) ** 0.5


def test_an_epoch_of_sgd_uses_every_sample_once() -> None:
    # One neuron per student that stays active, and orthogonal samples e_i: the step of sample i
    # changes component i alone, so after an epoch each has moved exactly once, and by the same.
    n, batch = 12, 4
    w1 = torch.ones(1, 1, n, dtype=torch.float64)
    x, y = torch.eye(n, dtype=torch.float64), torch.zeros(n, 1, dtype=torch.float64)
    options = {"method": "sgd", "x": x, "y": y, "lr": 0.5, "batch_size": batch, "seeds": [4]}
    for steps in (3, 6, 30):
        result = lmc_fast.train_ensemble(w1, steps=steps, **options)
        visits = steps * batch // n
        want = torch.full((n,), (1 - 0.5 / batch) ** visits, dtype=torch.float64)
        torch.testing.assert_close(result.w1[0, 0], want, rtol=1e-14, atol=0)


def test_a_seed_fixes_the_run_and_another_changes_it() -> None:
    w1 = lmc_fast.init_students([0, 0, 0], 5, 4).w1
    teacher = torch.eye(4, dtype=torch.float64)
    for data in ({"teacher": teacher}, {"teacher": teacher, "x": torch.randn(20, 4).double()}):
        result = lmc_fast.train_ensemble(
            w1, method="sgd", lr=0.1, steps=4, batch_size=3, seeds=[7, 7, 8], **data
        )
        assert torch.equal(result.w1[0], result.w1[1])
        assert not torch.equal(result.w1[0], result.w1[2])
