# SPDX-License-Identifier: MIT
import itertools
import math

import pytest
import torch
from compare import assert_close, rounding

from lmc_fast import Weights, barrier, init_students, match, sample_inputs, sampled_cost
from lmc_fast.deficit_cost import deficit_cost
from lmc_fast.sampled_cost import sampled_deficit_cost


def networks(m, c, P=1, d=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(m + c)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return [Weights(normal(P, m, d), normal(P, m), normal(P, c, m), None) for _ in range(2)]


def by_loop(a, b, p, x):
    """The formula of the deficit, neuron by neuron."""
    m = a.w1.shape[1]
    cost = torch.empty(m, m, dtype=torch.float64)
    x = x.double()
    for i, j in itertools.product(range(m), repeat=2):
        z = x @ a.w1[p, i].double() + a.b1[p, i].double()
        z_other = x @ b.w1[p, j].double() + b.b1[p, j].double()
        out, out_other = a.w2[p, :, i].double(), b.w2[p, :, j].double()
        ends = z.relu()[:, None] * out + z_other.relu()[:, None] * out_other
        middle = ((z + z_other) / 2).relu()[:, None] * (out + out_other) / 2
        cost[i, j] = (ends / 2 - middle).square().sum(1).mean().sqrt()
    return cost


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("m", "n", "c"), [(1, 1, 1), (5, 257, 3), (7, 600, 1)])
def test_against_a_loop(m, n, c, dtype, monkeypatch):
    a, b = networks(m, c, P=2, dtype=dtype)
    x = sample_inputs(n, 4, dtype=dtype)
    monkeypatch.setattr(sampled_cost, "_SAMPLES", 256)
    monkeypatch.setattr("lmc_fast.deficit_cost._ON_CPU", 2 * m)  # two rows at a time
    for p in range(2):
        want = by_loop(a, b, p, x)
        assert_close(sampled_deficit_cost(a, b, p, x), want, rounding(n, 10.0))


def test_by_hand():
    # z = 3, -1 and z' = -1, 2 on x = 1, -1 (w1 = 2, -3/2, b1 = 1, 1/2); a = 4, b = 2, so e = 3.
    # Ends 4*3/2 = 6 and 2*2/2 = 2; middles 3*relu(1) = 3 and 3*relu(1/2) = 3/2. D = 3, 1/2.
    def one(value):
        return torch.tensor([[[value]]], dtype=torch.float64)

    a = Weights(one(2.0), one(1.0)[0], one(4.0), None)
    b = Weights(one(-1.5), one(0.5)[0], one(2.0), None)
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    got = match(a, b, "gap", x)
    assert_close(got.cost, [math.sqrt((9 + 0.25) / 2)], rounding(8, 3.0))


def test_it_tends_to_the_closed_form():
    a, b = (init_students([seed], 4, 5, scale=2.0, c=3) for seed in (0, 1))
    n = 100_000
    got = sampled_deficit_cost(a, b, 0, sample_inputs(n, 5)).square()
    want = deficit_cost(a.w1[0], a.w2[0], b.w1[0], b.w2[0]).square()
    # The relative spread of |D|^2 is that of a square of a Gaussian's part: about 3 at most.
    assert_close(got, want, 5 * 3 * want / math.sqrt(n))


def test_dead_and_parallel_neurons_of_equal_output_weights_cost_nothing():
    a, b = networks(3, 2)
    for net in (a, b):
        net.b1[:] = torch.tensor([0.5, 0.0, 1.0])
        net.w2[:] = torch.tensor([1.0, -2.0])[:, None]
    a.w1[0, 1] = 0  # dead
    b.w1[0, 0], b.b1[0, 0] = 4 * a.w1[0, 0], 4 * a.b1[0, 0]  # four times a's first
    got = sampled_deficit_cost(a, b, 0, sample_inputs(500, 4))
    assert (got[1] == 0).all()
    assert got[0, 0] == 0
    assert (got[2] > 0).all()


def test_equal_neurons_of_unequal_output_weights_cost_nothing():
    a, _ = networks(3, 2)
    b = a._replace(w2=a.w2.flip(1))
    got = sampled_deficit_cost(a, b, 0, sample_inputs(500, 4))
    assert not got.diagonal().any()
    assert (got.fill_diagonal_(1) > 0).all()


@pytest.mark.parametrize("eps", [1e-8, 1e-12])
def test_nearly_equal_neurons_cost_what_they_differ_by(eps):
    a, _ = networks(3, 2)
    b = a._replace(w1=(1 + eps) * a.w1, b1=(1 + eps) * a.b1, w2=a.w2.flip(1))
    x = sample_inputs(500, 4)
    # z and z' have one sign, so D = f t / 2 with t = -eps relu(z).
    f = (a.w2 - b.w2)[0].square().sum(0).sqrt() / 2
    z = (x @ a.w1[0].T + a.b1[0]).relu()
    want = eps * f / 2 * z.square().mean(0).sqrt()
    got = sampled_deficit_cost(a, b, 0, x).diagonal()
    assert_close(got, want, 100 * torch.finfo(torch.float64).eps / eps * want)


def test_nan_in_a_neuron_is_nan_in_its_costs():
    a, b = networks(9, 2)
    a.w1[0, 3, 1] = torch.nan
    got = sampled_deficit_cost(a, b, 0, sample_inputs(70, 4)).isnan()
    assert got[3].all()
    assert got.sum() == 9


def test_other_devices_need_no_kernel_of_ours():
    a, b = (Weights(*(None if t is None else t.to("meta") for t in net)) for net in networks(9, 2))
    got = sampled_deficit_cost(a, b, 0, sample_inputs(1100, 4).to("meta"))
    assert (got.device.type, got.shape, got.dtype) == ("meta", (9, 9), torch.float64)


def test_matching_finds_the_order_of_a_network_with_biases():
    a, _ = networks(6, 2)
    order = torch.tensor([2, 5, 0, 1, 4, 3])
    x = sample_inputs(300, 4)
    assert torch.equal(match(a, a.permuted(order), "gap", x).perm[0], order.argsort())


def test_barrier_measures_the_gap_on_its_samples_where_there_are_biases():
    a, b = networks(5, 2)
    x = sample_inputs(100, 4)
    y = x[:, :2].contiguous()
    result = barrier(a, b, x=x, y=y, match="gap")
    assert torch.equal(result.matching.perm, match(a, b, "gap", x).perm)
    zero = torch.zeros(1, 5, dtype=torch.float64)
    plain_a, plain_b = a._replace(b1=zero), b._replace(b1=None)
    result = barrier(plain_a, plain_b, x=x, y=y, match="gap")
    assert_close(result.matching.cost, match(plain_a, plain_b, "gap").cost, 0)


def test_costs_do_not_depend_on_the_place_in_the_stack():
    # An odd number of weights, so that half of the stack is not aligned to two of them.
    generator = torch.Generator().manual_seed(0)

    def stacked():
        shapes = ((5, 3, 7), (5, 3), (5, 3, 3), (5, 3))
        return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]

    a, b = stacked(), stacked()
    x = torch.randn(501, 7, generator=generator, dtype=torch.float64)
    together = match(tuple(a), tuple(b), "gap", x)
    for p in range(5):
        a_, b_ = (tuple(t[p : p + 1].clone() for t in net) for net in (a, b))
        alone = match(a_, b_, "gap", x)
        assert torch.equal(alone.cost, together.cost[p : p + 1])
        assert torch.equal(alone.perm, together.perm[p : p + 1])
