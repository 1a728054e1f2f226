# SPDX-License-Identifier: MIT
import math

import pytest
import torch
from compare import assert_close, rounding
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lmc_fast import TwoLayerReLU, Weights, as_weights, init_students
from lmc_fast.weights import all_finite, as_teacher, check_same_architecture


def network(d=3, m=5, c=2, bias=True, seed=0):
    torch.manual_seed(seed)
    return TwoLayerReLU(d, m, c, bias, dtype=torch.float64)


def inputs(n=6, d=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sequential(bias=True):
    return nn.Sequential(nn.Linear(3, 5, bias), nn.ReLU(), nn.Linear(5, 2, bias)).double()


def test_forward_by_hand():
    net = TwoLayerReLU(2, 2, dtype=torch.float64)
    with torch.no_grad():
        net.hidden.weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
        net.hidden.bias.copy_(torch.tensor([0.5, -3.0]))
        net.output.weight.copy_(torch.tensor([[2.0, 10.0]]))
        net.output.bias.copy_(torch.tensor([-1.0]))
    x = torch.tensor([[1.0, 0.0], [2.0, 4.0]], dtype=torch.float64)
    # Pre-activations (1.5, -1) and (-1.5, 1): outputs 2 * 1.5 - 1 and 10 * 1 - 1.
    assert_close(net(x), torch.tensor([[2.0], [9.0]]), 0)


def test_module_has_the_parameters_of_two_linear_layers():
    net = network()
    assert (net.d, net.m, net.c) == (3, 5, 2)
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert shapes == {
        "hidden.weight": (5, 3),
        "hidden.bias": (5,),
        "output.weight": (2, 5),
        "output.bias": (2,),
    }
    assert len(network(bias=False).state_dict()) == 2


@pytest.mark.parametrize("bias", [True, False])
def test_from_sequential_computes_the_same(bias):
    seq, x = sequential(bias), inputs()
    net = TwoLayerReLU.from_sequential(seq)
    want = seq(x)
    assert_close(net(x), want, rounding(20))
    assert net.hidden.weight.data_ptr() != seq[0].weight.data_ptr()


def test_from_sequential_with_one_bias_missing():
    seq, x = sequential(), inputs()
    seq[2].bias = None
    assert_close(TwoLayerReLU.from_sequential(seq)(x), seq(x), rounding(20))


@given(st.permutations(range(5)), st.booleans())
def test_a_permuted_network_computes_the_same_function(order, bias):
    net, x, perm = network(bias=bias), inputs(), torch.tensor(order)
    permuted = net.permuted(perm)
    assert_close(permuted(x), net(x), rounding(20))
    assert_close(permuted.hidden.weight, net.hidden.weight[perm], 0)


def test_stacked_networks_are_permuted_each_by_its_own():
    weights = init_students([0, 1], 4, 3, c=2)
    perm = torch.tensor([[2, 0, 1, 3], [3, 2, 1, 0]])
    moved = weights.permuted(perm)
    for p in range(2):
        assert_close(moved.w1[p], weights.w1[p, perm[p]], 0)
        assert_close(moved.w2[p], weights.w2[p][:, perm[p]], 0)


@pytest.mark.parametrize(
    ("perm", "error", "message"),
    [
        (torch.tensor([0, 1, 2, 3]), ValueError, r"\(5,\).*got \(4,\)"),
        (torch.tensor([0, 1, 2, 3, 3]), ValueError, "each of 0..4 once"),
        (torch.tensor([0, 1, 2, 3, 5]), ValueError, "each of 0..4 once"),
        (torch.tensor([0.0, 1, 2, 3, 4]), TypeError, "integers"),
    ],
)
def test_bad_permutations(perm, error, message):
    with pytest.raises(error, match=message):
        network().permuted(perm)


def test_every_form_of_a_network_is_read_alike():
    net = network()
    seq = sequential()
    seq[0].load_state_dict(net.hidden.state_dict())
    seq[2].load_state_dict(net.output.state_dict())
    arrays = as_weights(net)
    assert arrays.sizes == (1, 5, 3, 2)
    short = dict(zip(("w1", "b1", "w2", "b2"), (a[0] for a in arrays), strict=True))
    for form in (seq, net.state_dict(), seq.state_dict(), short, tuple(arrays), arrays):
        for got, want in zip(as_weights(form), arrays, strict=True):
            assert_close(got, want, 0)


def test_tensors_are_stacked_students_with_unit_output_weights():
    w1 = torch.ones(4, 5, 3)
    weights = as_weights(w1)
    assert weights.sizes == (4, 5, 3, 1)
    assert (weights.w2 == 1).all()
    assert weights.b1 is weights.b2 is None
    assert as_weights(w1[0]).sizes == (1, 5, 3, 1)
    assert as_weights((w1, torch.ones(2, 5))).w2.shape == (4, 2, 5)


def test_gradients_flow_through_tensors_and_not_through_modules():
    w1 = torch.ones(4, 5, 3, requires_grad=True)
    assert as_weights(w1).w1.requires_grad
    assert not as_weights(network()).w1.requires_grad


@pytest.mark.parametrize(
    ("form", "error", "message"),
    [
        ("net.pt", TypeError, "a must be a TwoLayerReLU.*got str"),
        (nn.Linear(3, 4), TypeError, "got Linear"),
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), TypeError, "Linear, Tanh"),
        ({"weight": torch.ones(3)}, ValueError, "hidden.weight and output.weight.*got weight"),
        (
            {"0.weight": torch.ones(4, 3), "2.weight": torch.ones(1, 4), "4.weight": torch.ones(1)},
            ValueError,
            "also has the keys 4.weight",
        ),
        ({"w1": [1.0], "w2": [1.0]}, TypeError, "a.w1 must be a torch tensor; got list"),
        (torch.ones(3), ValueError, r"a.w1 must be \(m, d\) or \(P, m, d\).*got \(3,\)"),
        (torch.ones(0, 3), ValueError, "no size of 0"),
        (torch.ones(4, 3).half(), TypeError, "float32 or float64; got torch.float16"),
        (torch.ones(4, 3).long(), TypeError, "float32 or float64; got torch.int64"),
        (torch.full((4, 3), torch.inf), ValueError, "a.w1 must be finite"),
        ((torch.ones(4, 3), torch.full((1, 4), torch.nan)), ValueError, "a.w2 must be finite"),
        ((torch.ones(4, 3), torch.ones(1, 5)), ValueError, r"a.w2 .*\(\*, 4\).*got \(1, 5\)"),
        ((torch.ones(4, 3), torch.ones(1, 4).double()), TypeError, "dtype of w1, torch.float32"),
        (
            (torch.ones(4, 3), torch.ones(3), torch.ones(1, 4), None),
            ValueError,
            r"a.b1 must be \(m,\) = \(4\).*got \(3,\)",
        ),
        (
            (torch.ones(4, 3), torch.ones(4, device="meta"), torch.ones(1, 4), None),
            ValueError,
            "device of w1, cpu; got meta",
        ),
    ],
)
def test_bad_networks(form, error, message):
    with pytest.raises(error, match=message):
        as_weights(form, "a")


class ThreeLayers(nn.Module):
    """Has the two layers of a TwoLayerReLU and another between them."""

    def __init__(self):
        super().__init__()
        self.hidden, self.mid, self.output = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.output(self.mid(self.hidden(x).tanh()).tanh())


class Tanh(TwoLayerReLU):
    """Has exactly the parameters of a TwoLayerReLU, and computes something else."""

    def forward(self, x):
        return self.output(self.hidden(x).tanh())


@pytest.mark.parametrize("module", [ThreeLayers(), Tanh(3, 4)])
def test_a_module_is_not_read_by_the_names_of_its_layers(module):
    with pytest.raises(TypeError, match=f"a must be a TwoLayerReLU.*got {type(module).__name__}"):
        as_weights(module, "a")


def test_interpolation_is_exact_at_both_ends():
    a, b = (init_students([seed], 4, 3, c=2, scale=1e8 if seed else 1e-8) for seed in (0, 1))
    for alpha, want in ((0.0, a), (1.0, b)):
        middle = a.at(b, alpha)
        assert_close(middle.w1, want.w1, 0)
        assert_close(middle.w2, want.w2, 0)
    assert_close(a.at(b, 0.25).w1, 0.75 * a.w1 + 0.25 * b.w1, 0)
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\]; got 1.5"):
        a.at(b, 1.5)


def test_a_missing_bias_interpolates_as_zero():
    a = as_weights(network())
    b = Weights(a.w1, None, a.w2, None)
    middle = a.at(b, 0.25)
    assert_close(middle.b1, 0.75 * a.b1, 0)
    assert_close(b.at(a, 0.25).b2, 0.25 * a.b2, 0)
    assert b.at(b, 0.5).b1 is None


def test_a_student_depends_on_its_seed_alone():
    together, alone = init_students([7, 8, 9], 5, 3, c=2), init_students([8], 5, 3, c=2)
    assert_close(alone.w1[0], together.w1[1], 0)
    assert_close(alone.w2[0], together.w2[1], 0)
    single = init_students([8], 5, 3, c=2, dtype=torch.float32)
    assert_close(single.w1, alone.w1.float(), 0)


def test_initial_scales():
    students = init_students(range(50), 40, 10, scale=0.3, c=2, w2_scale=2.0)
    # Variances 0.3^2/10 and 4/40 from 20,000 and 4,000 normals: relative error sqrt(2/count).
    assert abs(students.w1.var() / 0.009 - 1) < 5 * (2 / 20_000) ** 0.5
    assert abs(students.w2.var() / 0.1 - 1) < 5 * (2 / 4_000) ** 0.5
    assert (init_students([0], 4, 3).w2 == 1).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seeds": []}, ValueError, "at least one seed"),
        ({"m": 0}, ValueError, "m must be at least 1"),
        ({"c": 0}, ValueError, "c must be at least 1"),
        ({"scale": -1.0}, ValueError, "scale must be finite and at least 0"),
        ({"scale": float("nan")}, ValueError, "scale must be finite"),
        ({"dtype": torch.float16}, TypeError, "float32 or float64"),
    ],
)
def test_bad_initialisation(arguments, error, message):
    with pytest.raises(error, match=message):
        init_students(**{"seeds": [0], "m": 4, "d": 3, **arguments})


def test_bad_module_sizes():
    with pytest.raises(ValueError, match="m must be at least 1; got 0"):
        TwoLayerReLU(3, 0)
    with pytest.raises(TypeError, match=r"float32 or float64; got torch.float16"):
        TwoLayerReLU(3, 4, dtype=torch.float16)


def test_teacher_must_be_one_bias_free_network_that_fits():
    teacher = as_teacher(network(bias=False), 3)
    assert teacher.v1.dtype == torch.float64
    x = inputs()
    assert_close(teacher.targets(x), network(bias=False)(x), rounding(20))
    with pytest.raises(ValueError, match="teacher must have no biases"):
        as_teacher(network(), 3)
    with pytest.raises(ValueError, match="d = 4; got 3"):
        as_teacher(network(bias=False), 4)
    with pytest.raises(ValueError, match="c = 1 outputs"):
        as_teacher(network(bias=False), 3, 1)


def test_networks_of_different_shape_have_no_segment():
    a = as_weights(torch.ones(4, 3))
    for other, letter in ((torch.ones(5, 3), "width m"), (torch.ones(4, 2), "input dimension d")):
        with pytest.raises(ValueError, match=f"same {letter}"):
            check_same_architecture(a, as_weights(other))
    with pytest.raises(TypeError, match="same dtype"):
        check_same_architecture(a, as_weights(torch.ones(4, 3).double()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 5, 16, 33, 70_000])
def test_one_bad_number_anywhere_is_found(size: int, dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    numbers = torch.randn(size, dtype=dtype).clamp(-1, 1) * largest
    assert all_finite(numbers)
    assert all_finite(numbers[:0])
    for place in {0, size // 2, size - 1}:
        for bad in (math.nan, math.inf, -math.inf):
            spoilt = numbers.clone()
            spoilt[place] = bad
            assert not all_finite(spoilt)
            assert not all_finite(spoilt[:, None].expand(size, 2).requires_grad_())
