# SPDX-License-Identifier: MIT
"""Neurons like those of a trained student, whose costs are clustered and nearly tied."""

import torch
from torch import Tensor


def trained_neurons(m: int, seed: int, M: int = 5, d: int = 10, dead: float = 0.1) -> Tensor:
    """(m, d) float64: shares of the teacher's M orthonormal neurons, plus noise of 1e-3.

    Every neuron has a type; the shares of a type are Dirichlet(1) distributed, so that they sum to
    1. A fraction ``dead`` is exactly zero.
    """
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(M, (m,), generator=generator)
    alive = torch.rand(m, generator=generator) >= dead
    share = -torch.rand(m, generator=generator).clamp_min(1e-9).log().double() * alive
    total = torch.zeros(M, dtype=torch.float64).index_add(0, kind, share)
    share = share / total[kind].clamp_min(1e-300)
    noise = 1e-3 * torch.randn(m, d, generator=generator).double()
    return (share[:, None] * torch.eye(M, d, dtype=torch.float64)[kind] + noise) * alive[:, None]
