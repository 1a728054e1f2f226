# SPDX-License-Identifier: MIT
"""How many students are trained at once: what one needs, and what there is."""

from typing import Any, NamedTuple

import torch

from ... import _native
from ...ensemble import EnsembleProblem
from .. import two_layer_relu
from .._cuda import PRECISIONS

TERMS = PRECISIONS["float32"]  # of the products in a step
BLOCK_BYTES = 2**28  # of one student's pass over a block of samples
GROUP_BYTES = 2**28  # the most that kernels ask for to take several networks at once
USABLE_SHARE = 0.9


class Bytes(NamedTuple):
    """Memory of a group beside the results: ``fixed``, and ``each`` per student."""

    fixed: int
    each: int


def usable_bytes(device: torch.device) -> int:
    """What torch can still give on a CUDA device, without the last tenth."""
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(USABLE_SHARE * (free + unused))


def group_size(count: int, wanted: Bytes, usable: int, where: str) -> int:
    """Students of a group, at most ``count``.

    Raises
    ------
    torch.cuda.OutOfMemoryError
        When not even one fits.
    """
    fitting = (usable - wanted.fixed) // max(1, wanted.each)
    if fitting < 1:
        raise torch.cuda.OutOfMemoryError(
            f"train_ensemble: one student of these sizes needs {sum(wanted):,} bytes on {where}, "
            f"where {max(0, usable):,} can be used. Free other tensors, pass fewer samples, smaller"
            " batches or narrower students, or move the tensors to the CPU with .cpu()"
        )
    return int(min(count, fitting))


def block_of_samples(count: int, m: int, d: int, c: int, itemsize: int) -> int:
    """Samples that a pass over ``count`` takes at once: equal blocks, cut by the sizes alone."""
    each = sample_bytes(m, c, itemsize) + 2 * itemsize * d  # with the split inputs
    most = max(1, BLOCK_BYTES // each)
    blocks = -(-count // most)
    return -(-count // max(1, blocks))


def sample_bytes(m: int, c: int, itemsize: int) -> int:
    """Of a student's pass over one sample: sign bits, outputs, residuals and their float64."""
    return 8 * ((m + 63) // 64) + c * (4 * itemsize + 64)


def stepwise_bytes(problem: EnsembleProblem) -> Bytes:
    """What ``stepwise`` needs."""
    _, m, d = problem.w1.shape
    c, population = problem.w2.shape[1], problem.method == "population_gd"
    itemsize = 8 if population else problem.w1.element_size()
    # The weights, the next ones, gradients, a block's gradients, two temporaries; squares in
    # float64 and their partial sums; masks.
    each = m * (d + c) * (6 * itemsize + 3 * 8 + 2) + 1024
    if problem.method == "adam":  # both means and the direction, with temporaries
        each += m * (d + c) * 5 * itemsize
    if population or problem.x is None:  # the population loss takes float64 weights
        each += m * (d + c) * 8
    if not population:
        n = 0 if problem.x is None else problem.x.shape[-2]
        passed = max(n, problem.batch_size)
        block = block_of_samples(passed, m, d, c, itemsize)
        each += block * sample_bytes(m, c, itemsize)
        if problem.own_x:  # copies of blocks, and of those left once many have stopped
            each += 2 * n * d * itemsize
        if problem.own_y:
            each += n * c * (itemsize + 3 * 8)
        if problem.on_batches:
            each += problem.batch_size * ((d + c) * itemsize + 2 * 8)
            each += 2 * 2 * 8 * n  # the orders of two epochs
        if problem.x is None:
            M = 0 if problem.teacher is None else len(problem.teacher.v1)
            each += problem.batch_size * d * 3 * 8 + M * (d + c) * itemsize
    return Bytes(0, each + _workspace(problem))


def _workspace(problem: EnsembleProblem) -> int:
    """What the CUDA kernels of a step want for one student; those on the CPU want nothing."""
    w1, w2 = problem.w1, problem.w2
    if not w1.is_cuda:
        return 0
    (_, m, d), c = w1.shape, w2.shape[1]
    wanted = [0]
    if problem.teacher is not None:
        v1, v2 = (t.contiguous() for t in problem.teacher)
        u, du = (v1.new_empty((1, m, d)) for _ in range(2))
        a, da = (v1.new_empty((1, c, m)) for _ in range(2))
        loss = v1.new_empty(1)
        wanted.append(_native.population_loss_cuda(u, a, v1, v2, loss, du, da, None, 1.0, 0))
    if problem.method != "population_gd":
        n = problem.batch_size if problem.x is None else problem.x.shape[-2]
        x = w1.new_empty((1, block_of_samples(n, m, d, c, w1.element_size()), d))
        if problem.x is None and problem.teacher is not None:  # which labels the samples
            v1, v2 = (w1.new_empty((1, *t.shape)) for t in problem.teacher)
            y, _ = two_layer_relu._forward_fake(x, v1, None, v2, None, False)
            labelling: Any = _native.two_layer_relu_forward_cuda
            wanted.append(labelling(x, v1, None, v2, None, y, None, None, TERMS, 0))
        w1, dw1 = (w1.new_empty((1, m, d)) for _ in range(2))
        w2, dw2 = (w2.new_empty((1, c, m)) for _ in range(2))
        f, signs = two_layer_relu._forward_fake(x, w1, None, w2, None, True)
        network = (x, w1, None, w2)
        native: Any = _native  # mypy does not follow the unpacked arrays
        wanted += [
            native.two_layer_relu_forward_cuda(*network, None, f, signs, None, TERMS, 0),
            native.two_layer_relu_backward_cuda(
                f, *network, signs, None, dw1, None, dw2, None, None, TERMS, 0
            ),
        ]
    return max(wanted)
