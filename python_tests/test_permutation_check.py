# SPDX-License-Identifier: MIT
import pytest
import torch

from lmc_fast import Matching, Weights, match, matching, refine, teacher
from lmc_fast.permutation_check import check_reordering, check_same_functions


def networks(P=3, m=50, d=7, c=2, dtype=torch.float64, biases=True):
    generator = torch.Generator().manual_seed(m)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    b1, b2 = (normal(P, m), normal(P, c)) if biases else (None, None)
    return Weights(normal(P, m, d), b1, normal(P, c, m), b2)


def orders(P, m):
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randperm(m, generator=generator) for _ in range(P)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize(("P", "m"), [(1, 1), (3, 50), (2, 3000)])
def test_reordered_networks_pass(P, m, biases, dtype):
    net = networks(P, m, biases=biases, dtype=dtype)
    check_same_functions(net, net.permuted(orders(P, m)), "b")


@pytest.mark.parametrize("part", ["w1", "b1", "w2", "b2"])
def test_one_array_of_one_pair_left_behind_is_found(part):
    net = networks()
    moved = net.permuted(orders(3, 50))
    wrong = getattr(moved, part).clone()
    # Of the last pair: two neurons, or outputs, keep each other's part.
    wrong[2] = wrong[2].flip(0) if part != "w2" else wrong[2].flip(1)
    with pytest.raises(RuntimeError, match="internal error: b, pair 2, computes another function"):
        check_same_functions(net, moved._replace(**{part: wrong}), "b")


def test_a_difference_just_above_rounding_is_found():
    net = networks()
    w2 = net.w2.clone()
    w2[1, 0, 0] += 1e-10
    with pytest.raises(RuntimeError, match="pair 1"):
        check_same_functions(net, net._replace(w2=w2), "b")


def test_numbers_that_overflow_are_no_error():
    net = networks()
    net.w1[0] = 1e300
    net.w2[0] = 1e300
    check_same_functions(net, net.permuted(orders(3, 50)), "b")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("P", "m"), [(1, 1), (3, 50), (2, 3000)])
def test_an_order_is_checked_without_the_weights(P, m, dtype):
    net = networks(P, m, dtype=dtype)
    check_reordering(net, orders(P, m), "b")
    if m > 1:
        twice = orders(P, m)
        twice[-1, 0] = twice[-1, 1]
        with pytest.raises(RuntimeError, match=f"b, pair {P - 1}, computes another function"):
            check_reordering(net, twice, "b")


def test_orders_of_numbers_that_overflow_are_no_error():
    net = networks()
    net.w1[0] = 1e300
    net.w2[0] = 1e300
    check_reordering(net, orders(3, 50), "b")


def broken(perm):
    """Two places get one neuron, in the last pair."""
    perm = perm.clone()
    perm[-1, 0] = perm[-1, 1]
    return perm


@pytest.mark.parametrize("cost", ["gap", "weights", "activations"])
def test_match_checks(cost, monkeypatch):
    assigned = matching._assign_all

    def wrong(*given):
        perm, costs = assigned(*given)
        return broken(perm), costs

    monkeypatch.setattr(matching, "_assign_all", wrong)
    x = None if cost == "weights" else torch.randn(20, 7, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="b, pair 2, computes another function"):
        match(networks(), networks(m=50), cost, x)


def test_refine_checks(monkeypatch):
    a, b = (networks(2, m=6, biases=False, c=1) for _ in "ab")
    given = match(a, b)
    monkeypatch.setattr(Weights, "permuted", lambda self, perm: self._replace(w1=self.w1.flip(1)))
    with pytest.raises(RuntimeError, match="b, pair 0, computes another function"):
        refine(a, b, given, teacher=teacher(7, 3))


def test_apply_checks(monkeypatch):
    net = networks()
    matching = Matching(orders(3, 50), torch.zeros(3), 0.0, "by hand")
    assert torch.equal(matching.apply(net).w1[0], net.w1[0, matching.perm[0]])
    monkeypatch.setattr(Weights, "permuted", lambda self, perm: self._replace(w1=self.w1.flip(1)))
    with pytest.raises(RuntimeError, match="b, pair 0"):
        matching.apply(net)


def test_apply_stays_differentiable():
    net = networks(P=1, m=3)
    w1 = net.w1.clone().requires_grad_()
    matching = Matching(orders(1, 3), torch.zeros(1), 0.0, "by hand")
    matching.apply(net._replace(w1=w1)).w1[0, 0].sum().backward()
    assert (w1.grad[0, matching.perm[0, 0]] == 1).all()
    assert w1.grad.sum() == 7
