# SPDX-License-Identifier: MIT
"""The tensors that a training fills in."""

from typing import NamedTuple

import torch
from torch import Tensor

from ...ensemble import EnsembleProblem, trace_steps


def state_dtype(problem: EnsembleProblem) -> torch.dtype:
    """The type in which a student's weights are kept while it is trained."""
    return torch.float64 if problem.method == "population_gd" else problem.w1.dtype


class Outputs(NamedTuple):
    """What the op returns, in its order; fields as in :class:`lmc_fast.EnsembleResult`."""

    w1: Tensor
    w2: Tensor
    loss: Tensor
    trace: Tensor
    steps: Tensor
    diverged: Tensor

    @staticmethod
    def of(problem: EnsembleProblem) -> "Outputs":
        """Dense tensors on the students' device: their weights, and nothing recorded yet."""
        w1, w2 = problem.w1, problem.w2
        S, recorded = len(w1), len(trace_steps(problem.steps, problem.record_every))
        return Outputs(
            w1.clone(memory_format=torch.contiguous_format),
            w2.clone(memory_format=torch.contiguous_format),
            w1.new_full((S,), torch.nan, dtype=torch.float64),
            w1.new_full((S, recorded), torch.nan, dtype=torch.float64),
            w1.new_zeros((S,), dtype=torch.int64),
            w1.new_zeros((S,), dtype=torch.bool),
        )

    def of_students(self, rows: slice) -> "Outputs":
        """Views of some students' tensors."""
        return Outputs(*(t[rows] for t in self))
