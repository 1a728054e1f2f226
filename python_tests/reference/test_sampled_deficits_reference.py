# SPDX-License-Identifier: MIT
import pytest
import torch

from lmc_fast.reference import sampled_deficits as reference

# Two neurons of each network on two samples. Of pair (0, 0) the first sample has z = 3, z' = -1:
# a = min(3, 1) = 1, and the second z = -2, z' = 6: b = min(2, 6) = 2.
Z, Z_OTHER = [[3.0, -1.0], [-2.0, 4.0]], [[-1.0, 5.0], [6.0, -7.0]]
SQUARES = [[1.0 + 4, 0.0], [0.0, 16.0 + 1]]
MIXED = [[1.0 * 3 - 2 * 6, 0.0], [0.0, 4.0 * 4 - 1 * 5]]
TURNED = [[9.0 + 36, 4.0], [4.0, 25.0 + 16]]


@pytest.mark.parametrize("numbers", [1, 2**18])
def test_the_worked_example(numbers, monkeypatch):
    monkeypatch.setattr(reference, "_NUMBERS", numbers)
    got = reference.sampled_deficits(torch.tensor(Z), torch.tensor(Z_OTHER))
    assert [sums.tolist() for sums in got] == [SQUARES, MIXED, TURNED]


def test_a_zero_is_of_neither_sign():
    z, z_other = torch.tensor([[0.0, -0.0, 2.0]]), torch.tensor([[-3.0, 3.0, 0.0]])
    squares, mixed, turned = reference.sampled_deficits(z, z_other)
    assert squares.tolist() == mixed.tolist() == [[0.0] * 3, [0.0] * 3, [4.0, 0.0, 0.0]]
    assert turned.tolist() == [[0.0, 9.0, 0.0], [0.0, 9.0, 0.0], [4.0, 1.0, 4.0]]


def test_nan_stays_with_its_neuron():
    z, z_other = torch.tensor(Z), torch.tensor(Z_OTHER)
    z[1, 0] = torch.nan
    for got, want in zip(
        reference.sampled_deficits(z, z_other), (SQUARES, MIXED, TURNED), strict=True
    ):
        assert got[0].isnan().all()
        assert got[1].tolist() == want[1]
