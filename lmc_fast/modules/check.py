# SPDX-License-Identifier: MIT
"""Checks of modules: two of one architecture, and one that is to compute what another does."""

import copy

import torch
from torch import Tensor, nn

# Largest difference of outputs, as a share of the largest one, is eps to this power: 1e-8 in
# float64. Sums in another order differ by some eps; layers may enlarge that, but a wrong
# permutation changes it all.
_POWER = 0.5


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once, without their gradients."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach() for name, tensor in named}


def check_alike(a: nn.Module, b: nn.Module) -> None:
    """Raise unless b has a's parameters and buffers: names, shapes, dtypes, devices; all finite.

    Raises
    ------
    TypeError, ValueError
        Naming the first tensor that differs.
    """
    for name, module in (("a", a), ("b", b)):
        if not isinstance(module, nn.Module):
            raise TypeError(f"{name} must be an nn.Module; got {type(module).__name__}")
    ours, theirs = tensors_of(a), tensors_of(b)
    odd = sorted(ours.keys() ^ theirs.keys())
    if odd:
        missing = "b" if odd[0] in ours else "a"
        raise ValueError(f"a and b must be of one architecture; {missing} has no tensor '{odd[0]}'")
    for name, tensor in ours.items():
        other = theirs[name]
        want, got = ((tuple(t.shape), t.dtype, str(t.device)) for t in (tensor, other))
        if want != got:
            raise ValueError(
                f"b's '{name}' must be like a's, {want[0]} {want[1]} on {want[2]}; got {got[0]} "
                f"{got[1]} on {got[2]}"
            )
        for side, value in (("a", tensor), ("b", other)):
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"{side}'s '{name}' must be finite; it holds NaN or infinity")


def check_same_function(before: nn.Module, after: nn.Module, x: Tensor, name: str) -> None:
    """Raise RuntimeError unless two modules give the same outputs on a few inputs, in float64.

    Modules that convert to another type themselves, as images to float32, are run in their own.

    Parameters
    ----------
    before, after : nn.Module
        They are left as they are: copies are run, in evaluation mode.
    x : Tensor, shape (n, ...)
    name : str
        What the error calls them.

    Raises
    ------
    RuntimeError
        The outputs differ.
    ValueError
        No output is finite, which proves nothing.
    """
    with torch.no_grad():
        try:
            inputs = x.double() if x.is_floating_point() else x
            wanted, found = (copy.deepcopy(net).double().eval()(inputs) for net in (before, after))
        except RuntimeError:  # of types that do not go together
            wanted, found = (copy.deepcopy(net).eval()(x) for net in (before, after))
    finite = torch.isfinite(wanted)
    if not bool(finite.any()):
        raise ValueError(
            f"{name} must give finite outputs on x, to check that its units were reordered "
            "rightly; all are NaN or infinite"
        )
    most = torch.finfo(wanted.dtype).eps ** _POWER * wanted[finite].abs().max()
    # Written so that NaN is wrong where a number is wanted.
    if bool((finite & ~((wanted - found).abs() <= most)).any()):
        raise RuntimeError(
            f"internal error: {name} computes another function after its units were reordered: its "
            f"outputs differ by up to {float((wanted - found).abs()[finite].max()):.3g}. Its "
            "matching is not to be trusted; please report this"
        )
