# SPDX-License-Identifier: MIT
import pytest
import torch
from compare import assert_close, rounding
from hypothesis import given
from hypothesis import strategies as st
from torch.linalg import vector_norm

from lmc_fast import Weights, canonicalize, init_students, match, sample_inputs, two_layer_relu


def network(seed=0, P=3, m=5, d=4, c=2, biases=True, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    b1, b2 = (normal(P, m), normal(P, c)) if biases else (None, None)
    return Weights(normal(P, m, d), b1, normal(P, c, m), b2)


def rescaled(net, factors):
    """Incoming weights times factors (m,), outgoing ones divided by them: the same function."""
    b1 = None if net.b1 is None else net.b1 * factors
    return Weights(net.w1 * factors[:, None], b1, net.w2 / factors, net.b2)


def norms(net):
    square = net.w1.double().square().sum(2)
    if net.b1 is not None:
        square = square + net.b1.double().square()
    return square.sqrt(), vector_norm(net.w2.double(), dim=1)


def test_by_hand():
    # |(w1, b1)| = |(2, 1, 2)| = 3 and |w2| = 12: both become 6.
    w1, b1, w2 = torch.tensor([[2.0, 1.0]]), torch.tensor([2.0]), torch.tensor([[12.0]])
    got = canonicalize((w1, b1, w2, None))
    assert_close(got.w1, torch.tensor([[[4.0, 2.0]]]), rounding(4, 6.0, torch.float32))
    assert_close(got.b1, torch.tensor([[4.0]]), rounding(4, 6.0, torch.float32))
    assert_close(got.w2, torch.tensor([[[6.0]]]), rounding(4, 6.0, torch.float32))
    assert got.b2 is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("biases", [True, False])
def test_the_function_stays_and_the_norms_are_equal(biases, dtype):
    net = network(biases=biases, dtype=dtype)
    got = canonicalize(net)
    assert got.w1.dtype == dtype
    assert [None if t is None else t.shape for t in got] == [
        None if t is None else t.shape for t in net
    ]
    x = sample_inputs(20, 4, dtype=dtype)
    want = two_layer_relu(x, *net)
    assert_close(two_layer_relu(x, *got), want, rounding(20, float(want.abs().max()), dtype))
    incoming, outgoing = norms(got)
    assert_close(incoming, outgoing, rounding(4, float(incoming.max()), dtype))


@given(st.lists(st.floats(-40, 40), min_size=5, max_size=5))
def test_scales_of_any_size_are_undone_and_a_second_call_changes_nothing(exponents):
    net = network(P=1)
    want = canonicalize(net)
    got = canonicalize(rescaled(net, 10.0 ** torch.tensor(exponents, dtype=torch.float64)))
    for tensor, other in zip(got, want, strict=True):
        assert_close(tensor, other, rounding(20, 4.0))
    for tensor, other in zip(canonicalize(got), got, strict=True):
        assert torch.equal(tensor, other)


def test_the_ends_of_the_range_neither_overflow_nor_vanish():
    one = torch.ones(1, 1, dtype=torch.float64)
    for large, small in ((1e308, 1e-308), (1e-308, 1e308)):
        got = canonicalize((large * one, small * one))
        assert_close(got.w1, one[None], rounding(8))
        assert_close(got.w2, one[None], rounding(8))
    huge = torch.full((1, 4), 3e38)  # its norm is above float32's range
    got = canonicalize((huge, torch.full((1, 1), 1e-38)))
    assert_close(vector_norm(got.w1.double()), (6e38 * 1e-38) ** 0.5, 1e-5)


def test_a_neuron_with_a_zero_side_becomes_zero():
    net = network(m=3)
    net.w1[:, 0], net.b1[:, 0], net.w2[:, :, 1] = 0, 0, 0
    got = canonicalize(net)
    incoming, outgoing = norms(got)
    assert (incoming[:, :2] == 0).all()
    assert (outgoing[:, :2] == 0).all()
    assert (incoming[:, 2] > 0).all()
    x = sample_inputs(20, 4)
    assert_close(two_layer_relu(x, *got), two_layer_relu(x, *net), rounding(20, 20.0))


def test_rescaled_copies_are_matched_by_their_canonical_forms():
    a = network(P=1, m=6)
    factors = 100.0 ** torch.linspace(-1, 1, 6, dtype=torch.float64)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    b = rescaled(a, factors).permuted(order)
    for cost in ("weights", "activations"):
        x = sample_inputs(200, 4) if cost == "activations" else None
        assert torch.equal(match(a, b, cost, x, canonical=True).perm[0], order.argsort())
        assert not torch.equal(match(a, b, cost, x).perm[0], order.argsort())


def test_the_costs_are_those_of_the_canonical_networks():
    a, b = (init_students([seed], 5, 4, scale=1.0, c=2) for seed in (0, 1))
    got, want = match(a, b, canonical=True), match(canonicalize(a), canonicalize(b))
    assert torch.equal(got.perm, want.perm)
    assert_close(got.cost, want.cost, 0)
    assert torch.equal(got.apply(b).w1[0], b.w1[0, got.perm[0]])  # b itself, reordered
