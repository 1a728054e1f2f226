# SPDX-License-Identifier: MIT
import pytest
import torch
from compare import assert_close, rounding

from lmc_fast import (
    TwoLayerReLU,
    alive_count,
    alive_fraction,
    hoyer,
    init_students,
    neuron_strengths,
    participation_ratio,
)


def students(*rows):
    """One student per row, whose neurons have these norms."""
    norms = torch.tensor(rows, dtype=torch.float64)
    direction = torch.tensor([0.6, 0.0, -0.8], dtype=torch.float64)
    return norms[:, :, None] * direction


def test_strength_is_the_product_of_norms():
    w1, w2 = students([5.0, 2.0]), torch.tensor([[3.0, -1.0], [4.0, 0.0]], dtype=torch.float64)
    assert_close(neuron_strengths(w1, w2), torch.tensor([[25.0, 2.0]]), rounding(8, 25.0))
    assert_close(neuron_strengths(w1), torch.tensor([[5.0, 2.0]]), rounding(8, 5.0))
    biased = (torch.tensor([[3.0]]), torch.tensor([4.0]), torch.tensor([[2.0]]), None)
    assert_close(neuron_strengths(biased), torch.tensor([[10.0]]), rounding(8, 10.0))


def test_measures_by_hand():
    w1 = students([1, 1, 1, 1], [2, 0, 0, 0], [3, 1, 0, 0], [0, 0, 0, 0])
    assert alive_count(w1).tolist() == [4, 1, 2, 0]
    assert_close(alive_fraction(w1), torch.tensor([1, 0.25, 0.5, 0]), 0)
    ratios = torch.tensor([4, 1, 1.6, 0], dtype=torch.float64)
    assert_close(participation_ratio(w1), ratios, rounding(16, 4.0))
    third = 2 - 4 / 10**0.5  # (sqrt 4 - 4 / sqrt 10) / (sqrt 4 - 1)
    want = torch.tensor([0, 1, third, torch.nan], dtype=torch.float64)
    assert_close(hoyer(w1), want, rounding(16))
    assert hoyer(students([2.0])).isnan().all()


def test_threshold_is_relative_to_the_strongest_neuron():
    w1 = students([100.0, 0.2, 0.05], [1e-9, 2e-12, 5e-13])
    assert alive_count(w1).tolist() == [2, 2]
    assert alive_count(w1, threshold=1e-4).tolist() == [3, 3]
    assert alive_count(w1, threshold=0.5).tolist() == [1, 1]
    assert alive_count(w1, threshold=0).tolist() == [3, 3]


def test_rescaling_a_neuron_changes_nothing():
    net = init_students([0], 6, 3, c=2)
    factor = torch.tensor([1e-3, 1.0, 7.0, 0.1, 1e5, 2.0], dtype=torch.float64)
    other = (net.w1 * factor[:, None], net.w2 / factor)
    assert_close(neuron_strengths(*other), neuron_strengths(net), rounding(20))


def test_extreme_magnitudes_neither_overflow_nor_vanish():
    w1 = students([1e-160, 1e-160], [1e150, 1e150])
    assert_close(participation_ratio(w1), torch.tensor([2.0, 2.0]), rounding(8, 2.0))
    assert_close(hoyer(w1), torch.zeros(2), rounding(8))


def test_modules_are_accepted():
    net = TwoLayerReLU(3, 4)
    strengths = net.hidden.weight.square().sum(1) + net.hidden.bias.square()
    want = strengths.double().sqrt() * net.output.weight.double().abs()[0]
    assert_close(neuron_strengths(net), want[None], rounding(8, 1.0, torch.float32))
    assert not neuron_strengths(net).requires_grad


def test_bad_input():
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\).*got 1.0"):
        alive_count(students([1.0]), threshold=1.0)
    with pytest.raises(ValueError, match=r"network.w1 must be finite"):
        hoyer(students([torch.inf]))
    with pytest.raises(ValueError, match=r"network.w2"):
        alive_fraction(students([1.0, 2.0]), torch.ones(1, 3, dtype=torch.float64))
