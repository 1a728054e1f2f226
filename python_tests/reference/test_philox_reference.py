# SPDX-License-Identifier: MIT
import math

import numpy as np
import pytest

from lmc_fast.reference.philox import SAMPLES, SHUFFLES, normals, philox4x32, shuffle, words

ONES = 2**32 - 1


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known-answer vectors published with Random123
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, expected):
    assert tuple(philox4x32(np.array(counter, dtype=np.uint32), key)) == expected


def test_words_use_the_documented_counter_and_key():
    seed = (7 << 32) | 5
    block = philox4x32(np.array([3, 0, 11, SAMPLES], dtype=np.uint32), (5, 7))
    assert (words(seed, 4, 11, SAMPLES)[3] == block).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 9, 33])
def test_shuffle_is_the_documented_fisher_yates(n):
    seed, epoch = 2**40 + 17, 6
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        counter = np.array([i // 4, 0, epoch, SHUFFLES], dtype=np.uint32)
        u = int(philox4x32(counter, (seed & ONES, seed >> 32))[i % 4])
        j = u * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    assert shuffle(seed, n, epoch).tolist() == order


def test_shuffles_are_uniform_over_the_six_orders():
    epochs = 6000
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(epochs):
        order = tuple(shuffle(1, 3, epoch).tolist())
        counts[order] = counts.get(order, 0) + 1
    # A count is binomial(6000, 1/6): standard deviation 28.9; six of them, five deviations.
    assert len(counts) == 6
    assert max(abs(count - epochs / 6) for count in counts.values()) < 5 * 28.9


def test_normals_are_the_documented_box_muller():
    seed, step = 9, 4
    for q in range(3):
        w = [int(word) for word in words(seed, 3, step, SAMPLES)[q]]
        u1 = (((w[0] | w[1] << 32) >> 11) + 0.5) * 2.0**-53
        u2 = (((w[2] | w[3] << 32) >> 11) + 0.5) * 2.0**-53
        size = math.sqrt(-2 * math.log(u1))
        pair = normals(seed, 6, step)[2 * q : 2 * q + 2]
        # log, sqrt, cos and two products, each within an ulp or two of either library's
        assert abs(pair[0] - size * math.cos(2 * math.pi * u2)) <= 16 * 2.2e-16 * size
        assert abs(pair[1] - size * math.sin(2 * math.pi * u2)) <= 16 * 2.2e-16 * size


def test_normals_have_the_moments_of_a_normal():
    count = 200_000
    z = normals(3, count, 0)
    # E z^k = 0, 1, 0, 3 for k = 1..4, with variances 1, 2, 15, 96; five standard errors.
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - mean) < 5 * math.sqrt(variance / count)


def test_an_odd_count_is_a_prefix():
    assert (normals(3, 5, 2) == normals(3, 6, 2)[:5]).all()
