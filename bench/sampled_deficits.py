# SPDX-License-Identifier: MIT
"""The sums under ``match(cost="gap", x=x)`` of every pair of neurons, against the torch formula."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lmc_fast import _native
from lmc_fast.reference.sampled_deficits import sampled_deficits as reference

from .restricted import restricted
from .timer import OURS, Case

SIZES = [(1024, 256), (1024, 40), (1024, 1024)]  # n, m

# Of a pair and a sample: three multiply-adds, a minimum, a maximum, a sum and a difference.
OPERATIONS = 10


def cases(quick: bool) -> Iterator[Case]:
    """Rows of this op, all or the quick one."""
    for size in SIZES[:1] if quick else SIZES:
        yield _case(*size)


def _case(n: int, m: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    z, z_other = (torch.randn(n, m, generator=generator, dtype=torch.float64) for _ in range(2))
    sums = torch.empty(3, m, m, dtype=torch.float64)

    def ours() -> Tensor:
        _native.sampled_deficits(z, z_other, *sums.zero_(), torch.get_num_threads())
        return sums

    def eager() -> Tensor:
        return torch.stack(reference(z, z_other))

    def verify() -> None:
        torch.testing.assert_close(ours(), eager(), rtol=1e-12, atol=1e-12 * n)

    return Case(
        "sampled_deficits",
        f"n={n} m={m} float64",
        {OURS: ours, **(restricted(ours) if m >= 256 else {}), "eager": eager},
        verify,
        work=OPERATIONS * n * m * m,
        dtype=torch.float64,
    )
