# SPDX-License-Identifier: MIT
import torch
from compare import assert_close

from lmc_fast.reference.two_layer_relu import (
    pack_signs,
    pre_activations,
    two_layer_relu,
    two_layer_relu_backward,
    unpack_signs,
)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


X = tensor([[1, 2], [-1, 3]])
W1, B1 = tensor([[1, 1], [2, 0], [0, 1]]), tensor([0, -1, -3])
W2, B2 = tensor([[1, 2, 3], [-1, 0, 4]]), tensor([10, 0])
# z = w1 x + b1 by hand. The third neuron of the second sample is at exactly zero.
Z = tensor([[3, 1, -1], [2, -3, 0]])


def test_forward_by_hand():
    assert_close(pre_activations(X, W1, B1), Z, 0)
    # relu z = (3, 1, 0) and (2, 0, 0).
    assert_close(two_layer_relu(X, W1, B1, W2, B2), tensor([[15, -3], [12, -2]]), 0)
    # Without biases z = (3, 2, 2) and (2, -2, 3).
    assert_close(two_layer_relu(X, W1, None, W2, None), tensor([[13, 5], [11, 10]]), 0)


def test_backward_by_hand():
    df = tensor([[1, 1], [2, -1]])
    dx, dw1, db1, dw2, db2 = two_layer_relu_backward(df, X, W1, B1, W2, Z > 0)
    # df w2 = (0, 2, 7) and (3, 4, 2); the active part of it is dz = (0, 2, 0) and (3, 0, 0).
    assert_close(dx, tensor([[4, 0], [3, 3]]), 0)
    assert_close(dw1, tensor([[-3, 9], [2, 4], [0, 0]]), 0)
    assert_close(db1, tensor([3, 2, 0]), 0)
    # df^T relu z.
    assert_close(dw2, tensor([[7, 1, 0], [1, 1, 0]]), 0)
    assert_close(db2, tensor([3, 0]), 0)


def test_networks_that_share_inputs_add_up_their_gradients_in_them():
    stack = [torch.stack((array, 2 * array)) for array in (W1, B1, W2, B2)]
    # Doubled w1 and b1 double relu z, doubled w2 doubles it again, and b2 doubles.
    want = tensor([[[15, -3], [12, -2]], [[40, -12], [28, -8]]])
    assert_close(two_layer_relu(X, *stack), want, 0)
    df = tensor([[1, 1], [2, -1]]).expand(2, 2, 2)
    active = (Z > 0).expand(2, 2, 3)
    dx, dw1, *_ = two_layer_relu_backward(df, X, *stack[:3], active)
    # The second network's dz is twice the first's, and meets twice its w1.
    assert_close(dx, 5 * tensor([[4, 0], [3, 3]]), 0)
    assert_close(dw1[1], 2 * dw1[0], 0)


def test_sign_words_by_hand():
    # One network, two samples, 66 neurons: 0 and 65 of the first, 63 of the second are active.
    active = torch.zeros(1, 2, 66, dtype=torch.bool)
    active[0, 0, [0, 65]] = True
    active[0, 1, 63] = True
    words = pack_signs(active)
    # Bit 63 is the sign of an int64.
    assert words.tolist() == [[[1, -(2**63)], [2, 0]]]
    assert torch.equal(unpack_signs(words, 66), active)
