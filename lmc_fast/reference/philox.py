# SPDX-License-Identifier: MIT
"""The counter-based random numbers of the ensemble trainer.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011) maps a key and a counter to four 32-bit words,
so any number of a student's run can be made without the ones before it. Here

    key     = (seed low 32 bits, seed high 32 bits)
    counter = (index low, index high, step, stream)

with stream 0 for shuffles (step = epoch) and stream 1 for fresh samples (step = training step).
"""

import numpy as np
from numpy.typing import NDArray

SHUFFLES, SAMPLES = 0, 1

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK32 = np.uint64(0xFFFFFFFF)
_ROUNDS = 10


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Four words per counter: (..., 4) uint32 -> (..., 4) uint32."""
    x0, x1, x2, x3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = _MULTIPLIERS[0] * x0, _MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (
            (product1 >> np.uint64(32)) ^ x1 ^ np.uint64(k0),
            product1 & _MASK32,
            (product0 >> np.uint64(32)) ^ x3 ^ np.uint64(k1),
            product0 & _MASK32,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack((x0, x1, x2, x3), axis=-1).astype(np.uint32)


def words(seed: int, blocks: int, step: int, stream: int) -> NDArray[np.uint32]:
    """The first ``blocks`` blocks of a stream at a step: (blocks, 4) uint32."""
    index = np.arange(blocks, dtype=np.uint64)
    counter = np.empty((blocks, 4), dtype=np.uint32)
    counter[:, 0] = (index & _MASK32).astype(np.uint32)
    counter[:, 1] = (index >> np.uint64(32)).astype(np.uint32)
    counter[:, 2] = step
    counter[:, 3] = stream
    return philox4x32(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))


def shuffle(seed: int, n: int, epoch: int) -> NDArray[np.int64]:
    """The order in which epoch ``epoch`` visits n samples.

    Fisher-Yates from the end: for i = n-1 .. 1, swap i with j = (u (i + 1)) >> 32, u being word i
    mod 4 of block i // 4. (The multiplication's bias is below n / 2^32.)
    """
    order = np.arange(n, dtype=np.int64)
    draws = words(seed, (n + 3) // 4, epoch, SHUFFLES).reshape(-1)
    choices = np.arange(1, n + 1).astype(np.uint64)
    chosen = np.right_shift(draws[:n].astype(np.uint64) * choices, 32, dtype=np.uint64)
    for i in range(n - 1, 0, -1):
        j = int(chosen[i])
        order[i], order[j] = order[j], order[i]
    return order


def normals(seed: int, count: int, step: int) -> NDArray[np.float64]:
    """``count`` independent standard normals of training step ``step``.

    Box-Muller: block q gives two 64-bit integers (w0 | w1 << 32), (w2 | w3 << 32), each the
    uniform ((k >> 11) + 0.5) 2^-53; number 2q is sqrt(-2 ln u1) cos(2 pi u2) and number 2q + 1 has
    the sine.
    """
    blocks = words(seed, (count + 1) // 2, step, SAMPLES).astype(np.uint64)
    integers = blocks[:, 0::2] | (blocks[:, 1::2] << np.uint64(32))
    uniform = ((integers >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    size, angle = np.sqrt(-2 * np.log(uniform[:, 0])), 2 * np.pi * uniform[:, 1]
    pairs = np.stack((size * np.cos(angle), size * np.sin(angle)), axis=-1)
    return pairs.reshape(-1)[:count]
