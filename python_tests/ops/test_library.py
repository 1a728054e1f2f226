# SPDX-License-Identifier: MIT
"""What the ops share: sums whose bits do not depend on threads."""

import pytest
import torch

from lmc_fast.ops import _library


@pytest.mark.parametrize("shape", [(0, 2), (1, 3), (7, 2, 2), (50_000, 1), (50_000, 100)])
def test_the_sum_over_the_first_axis_does_not_depend_on_threads(shape: tuple[int, ...]) -> None:
    t = torch.randn(shape)
    threads, sums = torch.get_num_threads(), []
    try:
        for count in (1, 2, 16):
            torch.set_num_threads(count)
            sums.append(_library.sum_first_axis(t))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(sums[0], sums[1])
    assert torch.equal(sums[0], sums[2])
    # A term takes part in at most two roundings a halving.
    roundings = 2 * max(1, shape[0]).bit_length()
    bound = roundings * torch.finfo(t.dtype).eps * t.double().abs().sum(0)
    assert ((sums[0] - t.double().sum(0)).abs() <= bound).all()
