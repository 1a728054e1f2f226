# SPDX-License-Identifier: MIT
"""Comparison of tensors against a derived tolerance, with a failure message that says enough."""

import torch
from torch import Tensor


def rounding(length, magnitude=1.0, dtype=torch.float64):
    """eps x reduction length x magnitude: what summing ``length`` terms of that size may lose."""
    return torch.finfo(dtype).eps * length * magnitude


def assert_close(got, want, tolerance, what: str = "result") -> None:
    """Fail unless |got - want| <= tolerance everywhere; NaN must meet NaN, infinity its equal.

    Parameters
    ----------
    got, want : Tensor or number, of one shape
    tolerance : float or Tensor
        Absolute, broadcast against ``want``; 0 asks for equality.
    what : str
        What the failure message calls it.
    """
    got, want = (
        # torch would make float32 of a Python number.
        value.detach().cpu().double()
        if isinstance(value, Tensor)
        else torch.as_tensor(value, dtype=torch.float64)
        for value in (got, want)
    )
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    if want.numel() == 0:
        return
    allowed = torch.as_tensor(tolerance, dtype=torch.float64).expand(want.shape)
    same = (got == want) | (got.isnan() & want.isnan())
    error = torch.where(same, 0.0, (got - want).abs().nan_to_num(torch.inf, torch.inf))
    share = torch.where(same, 0.0, error / allowed)  # a tolerance of 0 gives infinity
    worst = int(share.argmax())
    if share.flatten()[worst] <= 1:
        return
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), want.shape))
    scale = torch.linalg.vector_norm(want)
    relative = float(torch.linalg.vector_norm(error) / scale) if scale > 0 else float("inf")
    raise AssertionError(
        f"{what}: worst at {index}: got {got.flatten()[worst].item()!r}, "
        f"want {want.flatten()[worst].item()!r}, {share.flatten()[worst].item():.3g} times "
        f"the tolerance {allowed.flatten()[worst].item():.3g}; "
        f"{int((share > 1).sum())} of {want.numel()} entries fail; "
        f"relative L2 error {relative:.3g}"
    )
