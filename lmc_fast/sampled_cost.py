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
it is the second t = -relu(z'), which gives mean s t; mean t^2 is a matrix product.
"""

import torch
from torch import Tensor

from .weights import Weights

# Samples, and numbers, of a block: small enough for a processor's cache.
_SAMPLES = 256
_NUMBERS = 2**18


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
        Exactly zero for two neurons of equal w2 which are active on the same samples, or of which
        one has z = 0 on all. Elsewhere good to rounding in mean t^2, of which it is a root.
    """
    a, b = a.alone(p), b.alone(p)
    m = len(a.w1)
    squares, mixed, turned = (x.new_zeros(m, m, dtype=torch.float64) for _ in range(3))
    rows = max(1, _NUMBERS // (m * _SAMPLES))
    for block in torch.split(x, _SAMPLES):
        z, z_other = _pre_activations(a, block), _pre_activations(b, block)
        on, off = z.relu(), (-z).relu()
        on_other, off_other = z_other.relu(), (-z_other).relu()
        turned += on.square().sum(1)[:, None] + on_other.square().sum(1) - 2 * on @ on_other.T
        for first in range(0, m, rows):
            part = slice(first, first + rows)
            lost_from_a = torch.minimum(on[part, None], off_other)
            lost_from_b = torch.minimum(off[part, None], on_other)
            squares[part] += lost_from_a.square().sum(2) + lost_from_b.square().sum(2)
            mixed[part] += (lost_from_a @ on[part, :, None])[..., 0]
            mixed[part] -= (lost_from_b * on_other).sum(2)
    ee, ef, ff = _output_products(a.w2.double(), b.w2.double())
    total = ee * squares + 2 * ef * mixed + ff * turned.clamp_min(0)
    return (total.clamp_min(0) / (4 * len(x))).sqrt()


def _pre_activations(net: Weights, x: Tensor) -> Tensor:
    """z = w1 x + b1 of one network in float64, neurons first: (m, n)."""
    z = net.w1.double() @ x.double().T
    return z if net.b1 is None else z + net.b1.double()[:, None]


def _output_products(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|e|^2, e.f, |f|^2 of all pairs of columns of a and b (c, m): (m, m) each.

    Output by output, so that f is exactly zero for equal columns.
    """
    m = a.shape[1]
    ee, ef, ff = (a.new_zeros(m, m) for _ in range(3))
    for row_a, row_b in zip(a, b, strict=True):
        e, f = (row_a[:, None] + row_b) / 2, (row_a[:, None] - row_b) / 2
        ee += e * e
        ef += e * f
        ff += f * f
    return ee, ef, ff
