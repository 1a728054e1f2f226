# SPDX-License-Identifier: MIT
r"""The midpoint deficit of every pair of neurons, measured on samples.

Neurons with outputs a relu(z) and b relu(z') interpolate to e relu((z + z') / 2) half way, with
e = (a + b) / 2. What is missing there is

    D = (a relu(z) + b relu(z')) / 2 - e relu((z + z') / 2) = (e s + f t) / 2,

    f = (a - b) / 2,  t = relu(z) - relu(z'),  s = relu(z) + relu(z') - relu(z + z'),

because a = e + f, b = e - f. If z and z' have one sign s is zero, else it is min(|z|, |z'|): with
relu(-z) for the negative part,

    s = min(relu(z), relu(-z')) + min(relu(-z), relu(z')),

of which one summand is zero. So the mean over samples of |D|^2 over c outputs is

    (|e|^2 mean s^2 + 2 e.f mean s t + |f|^2 mean t^2) / 4,

and no output is looked at for a pair and a sample. Where s is the first summand t = relu(z), where
it is the second t = -relu(z'), which gives s t. The three sums over samples are a native kernel on
the CPU (``csrc/sampled_deficits``), and elsewhere :mod:`lmc_fast.reference.sampled_deficits`.
"""

import torch
from torch import Tensor

from . import _native
from .deficit_cost import row_blocks
from .reference.sampled_deficits import sampled_deficits
from .weights import Weights

# Samples of a block. The sums are read and written once a block, which takes as long as a few dozen
# samples.
_SAMPLES = 1024


def sampled_deficit_cost(a: Weights, b: Weights, p: int, x: Tensor) -> Tensor:
    """Root mean square midpoint deficit on samples of every pair of neurons of pair p of networks.

    See the module for the formula. It takes O(m^2 (n + c) + m n d) operations, and O(m^2 + m d)
    memory whatever n is.

    Parameters
    ----------
    a, b : Weights
        With or without biases; that of the output is of no importance.
    p : int
    x : Tensor, shape (n, d)

    Returns
    -------
    float64 Tensor, shape (m, m)
        Exactly zero for two neurons of equal z, and for two of equal w2 which are active on the
        same samples, or of which one has z = 0 on all. Elsewhere its square is good to rounding in
        |e|^2 mean s^2 + |f|^2 mean t^2.
    """
    a, b = a.alone(p), b.alone(p)
    squares, mixed, turned = _sums(a, b, x)
    outputs, outputs_other = a.w2.double(), b.w2.double()
    cost = torch.empty_like(squares)
    for rows in row_blocks(len(cost), x.device):
        ee, ef, ff = _output_products(outputs[:, rows], outputs_other)
        total = ee * squares[rows] + 2 * ef * mixed[rows] + ff * turned[rows]
        cost[rows] = (total.clamp_min(0) / (4 * len(x))).sqrt()
    return cost


def _sums(a: Weights, b: Weights, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sums over samples of s^2, s t and t^2 for every pair of neurons: (m, m) each."""
    m = len(a.w1)
    squares, mixed, turned = (x.new_zeros(m, m, dtype=torch.float64) for _ in range(3))
    # Written again by every block: fresh memory takes longer than such a product does.
    space = x.new_empty(2, min(len(x), _SAMPLES), m, dtype=torch.float64)
    layers = [_layer(a), _layer(b)]
    for block in torch.split(x, _SAMPLES):
        z, z_other = (
            torch.addmm(bias, block.double(), weights, out=out[: len(block)])
            for (weights, bias), out in zip(layers, space, strict=True)
        )
        if x.device.type == "cpu":
            threads = torch.get_num_threads()
            _native.sampled_deficits(z, z_other, squares, mixed, turned, threads)
        else:
            more = sampled_deficits(z, z_other)
            squares, mixed, turned = squares + more[0], mixed + more[1], turned + more[2]
    return squares, mixed, turned


def _layer(net: Weights) -> tuple[Tensor, Tensor]:
    """Weights (d, m) and biases (m,) of one network's neurons in float64."""
    bias = net.w1.new_zeros(len(net.w1)) if net.b1 is None else net.b1
    return net.w1.double().T, bias.double()


def _output_products(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|e|^2, e.f, |f|^2 of all pairs of columns of a (c, k) and b (c, m): (k, m) each.

    Output by output, so that f is exactly zero for equal columns.
    """
    ee, ef, ff = (a.new_zeros(a.shape[1], b.shape[1]) for _ in range(3))
    for row_a, row_b in zip(a, b, strict=True):
        e, f = (row_a[:, None] + row_b) / 2, (row_a[:, None] - row_b) / 2
        ee += e * e
        ef += e * f
        ff += f * f
    return ee, ef, ff
