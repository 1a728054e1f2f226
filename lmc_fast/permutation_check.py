# SPDX-License-Identifier: MIT
"""A check at run time that reordering neurons left every function as it was."""

import torch
from torch import Tensor

from .weights import Weights, can_read

# Inputs on which the functions are compared: drawn once and for all, N(0, I).
_PROBES = 4


def check_same_functions(before: Weights, after: Weights, name: str) -> None:
    """Raise RuntimeError unless the two stacks compute the same on a few fixed inputs.

    It takes O(P m (d + c)) operations, in proportion to the copying of the weights. Where values
    cannot be read, because a GPU only records its work, nothing is checked.

    Parameters
    ----------
    before, after : Weights
        P networks each, of one shape; ``after`` may have its neurons in another order.
    name : str
        What the error calls them.

    Notes
    -----
    Both outputs are float64 sums of the same terms in another order. With |w| taken entry by entry,
    the rounding of each is at most (m + d + 2) eps times |w2| (|w1| |x| + |b1|) + |b2| (Higham,
    Accuracy and Stability of Numerical Algorithms, section 3.1, applied to both products), of which
    they may differ by twice as much.
    """
    if not can_read(before.w1):
        return
    _, m, d, _ = before.sizes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBES, d, generator=generator, dtype=torch.float64).to(before.w1.device)
    with torch.no_grad():
        magnitude = _outputs(_absolute(before), x.abs())
        allowed = 2 * (m + d + 2) * torch.finfo(torch.float64).eps * magnitude
        # Numbers that overflow give NaN, which proves nothing.
        wrong = (_outputs(before, x) - _outputs(after, x)).abs() > allowed
    if bool(wrong.any()):
        pair = int(wrong.flatten(1).any(1).nonzero()[0])
        raise RuntimeError(
            f"internal error: {name}, pair {pair}, computes another function after its neurons "
            "were reordered. Its matching is not to be trusted; please report this"
        )


def _absolute(net: Weights) -> Weights:
    b1 = None if net.b1 is None else net.b1.abs()
    b2 = None if net.b2 is None else net.b2.abs()
    return Weights(net.w1.abs(), b1, net.w2.abs(), b2)


def _outputs(net: Weights, x: Tensor) -> Tensor:
    """f(x) in float64: (P, n, c)."""
    z = x @ net.w1.double().mT
    if net.b1 is not None:
        z = z + net.b1.double()[:, None]
    f: Tensor = z.relu() @ net.w2.double().mT
    return f if net.b2 is None else f + net.b2.double()[:, None]
