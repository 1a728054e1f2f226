# SPDX-License-Identifier: MIT
"""What every pair of neurons lacks half way between them, as sums over samples.

The formulas of the sums are derived in :mod:`lmc_fast.sampled_cost`.
"""

import torch
from torch import Tensor

# Numbers of a block: small enough for a processor's cache.
_NUMBERS = 2**18


def sampled_deficits(z: Tensor, z_other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sums over samples of s^2, s t and t^2 for every pair of neurons, see the module.

    Parameters
    ----------
    z, z_other : Tensor, shape (n, m)
        Pre-activations of the neurons of two networks.

    Returns
    -------
    squares, mixed, turned : Tensor, shape (m, m)
    """
    n, m = z.shape
    squares, mixed, turned = (z.new_empty(m, m) for _ in range(3))
    on_other, off_other = z_other.relu()[:, None], (-z_other).relu()[:, None]
    rows = max(1, _NUMBERS // max(1, n * m))
    for first in range(0, m, rows):
        part = slice(first, first + rows)
        on, off = z[:, part, None].relu(), (-z[:, part, None]).relu()
        lost_from_a, lost_from_b = torch.minimum(on, off_other), torch.minimum(off, on_other)
        squares[part] = (lost_from_a.square() + lost_from_b.square()).sum(0)
        mixed[part] = (lost_from_a * on - lost_from_b * on_other).sum(0)
        turned[part] = (on - on_other).square().sum(0)
    return squares, mixed, turned
