# SPDX-License-Identifier: MIT
"""A check at run time that reordering neurons left every function as it was."""

import torch
from torch import Tensor

from .weights import Weights, can_read

# Inputs on which the functions are compared: drawn once and for all, N(0, I).
_PROBES = 4


def reorder(net: Weights, perm: Tensor, name: str) -> Weights:
    """``net.permuted(perm)``, checked by :func:`check_same_functions`."""
    moved = net.permuted(perm)
    check_same_functions(net, moved, name)
    return moved


def check_reordering(net: Weights, perm: Tensor, name: str) -> None:
    """Raise RuntimeError unless the networks compute the same with their neurons in another order.

    The reordered weights are not made: neurons are moved after their activations on the same few
    inputs were computed, once for both orders, in O(P m (d + c)) operations.

    Parameters
    ----------
    net : Weights
        P networks.
    perm : int64 Tensor, shape (P, m)
        Neuron ``perm[p, i]`` moves to place i.
    name : str
        What the error calls them.

    Notes
    -----
    Only the sums over neurons differ, by at most 2 m eps |w2| relu(w1 x + b1).
    """
    if not can_read(net.w1):
        return
    pairs, m, _, c = net.sizes
    order = perm.to(net.w1.device)[:, None]
    with torch.no_grad():
        active, out = _activations(net, _probes(net)), net.w2.double()
        moved = active.gather(2, order.expand(pairs, _PROBES, m))
        out_moved = out.gather(2, order.expand(pairs, c, m))
        allowed = 2 * m * torch.finfo(torch.float64).eps * (active @ out.abs().mT)
        wrong = (active @ out.mT - moved @ out_moved.mT).abs() > allowed
    _judge(wrong, name)


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
    x = _probes(before)
    with torch.no_grad():
        magnitude = _outputs(_absolute(before), x.abs())
        allowed = 2 * (m + d + 2) * torch.finfo(torch.float64).eps * magnitude
        # Numbers that overflow give NaN, which proves nothing.
        wrong = (_outputs(before, x) - _outputs(after, x)).abs() > allowed
    _judge(wrong, name)


def _probes(net: Weights) -> Tensor:
    """Inputs (n, d) in float64, on the network's device."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_PROBES, net.sizes[2], generator=generator, dtype=torch.float64)
    return x.to(net.w1.device)


def _judge(wrong: Tensor, name: str) -> None:
    """Raise RuntimeError for the first pair of which anything is wrong: (P, n, c)."""
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


def _activations(net: Weights, x: Tensor) -> Tensor:
    """relu(w1 x + b1) in float64: (P, n, m)."""
    z = x @ net.w1.double().mT
    return (z if net.b1 is None else z + net.b1.double()[:, None]).relu()


def _outputs(net: Weights, x: Tensor) -> Tensor:
    """f(x) in float64: (P, n, c)."""
    f: Tensor = _activations(net, x) @ net.w2.double().mT
    return f if net.b2 is None else f + net.b2.double()[:, None]
