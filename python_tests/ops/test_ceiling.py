# SPDX-License-Identifier: MIT
"""The loops that measure the machine do what they count."""

import pytest
import torch

from lmc_fast import _native


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ceiling_loop_does_the_operations_it_counts(dtype: torch.dtype) -> None:
    sink = torch.zeros(2, dtype=dtype)
    operations = _native.ceiling_multiply_add(sink, 100, 2)
    # Every chain of x = x / 2 + 1 ends at 2, and each counts two operations a round.
    chains = operations / (2 * 100 * 2)
    assert sink.tolist() == [2.0 * chains] * 2
    assert _native.ceiling_multiply_add(sink, 300, 2) == 3 * operations


@pytest.mark.sanitize_quick
def test_the_copy_copies_every_share() -> None:
    source, target = torch.arange(1001.0), torch.zeros(1001)
    _native.ceiling_copy(source, target, 3)
    assert torch.equal(source, target)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        _native.ceiling_copy(source, target, 0)
