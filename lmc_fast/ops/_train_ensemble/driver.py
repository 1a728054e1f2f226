# SPDX-License-Identifier: MIT
"""Groups of students that fit the memory of the device, trained one after the other."""

from contextlib import nullcontext

import torch

from ...ensemble import EnsembleProblem
from .. import _cuda
from .fused import fits, fused_bytes, step_work, train_fused
from .memory import group_size, stepwise_bytes, usable_bytes
from .outputs import Outputs, state_dtype
from .stepwise import train_stepwise


def train_on_cpu(problem: EnsembleProblem, threads: int) -> Outputs:
    """Train an ensemble step by step, for methods that the native call does not know."""
    outputs = Outputs.of(problem)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        train_stepwise(problem, outputs)
    finally:
        torch.set_num_threads(before)
    return outputs


def train_on_cuda(problem: EnsembleProblem) -> Outputs:
    """Train an ensemble on the CUDA device of its students.

    Which way they are trained depends on their sizes alone, and so do their bits.
    """
    device = problem.w1.device
    if problem.w1.is_cuda and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "train_ensemble waits for the device, which a CUDA graph cannot record; got a stream "
            "that is being captured. Call it outside the capture"
        )
    # (The tests run this on the CPU.)
    current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with current, _cuda.memory_explained("train_ensemble"):
        outputs = Outputs.of(problem)
        count = len(problem.w1)
        if count == 0:
            return outputs
        most = count
        if fits(problem):
            train, wanted = train_fused, fused_bytes(problem)
            most = _cuda.in_a_launch(step_work(problem), state_dtype(problem), device)
        else:
            train, wanted = train_stepwise, stepwise_bytes(problem)
        size = group_size(min(count, most), wanted, usable_bytes(device), str(device))
        for first in range(0, count, size):
            group = slice(first, first + size)
            train(problem.of_students(group), outputs.of_students(group))
    return outputs
