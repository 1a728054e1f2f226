# SPDX-License-Identifier: MIT
"""What an evaluation along a segment takes and gives: alphas, and losses at them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class PathLosses(NamedTuple):
    """Losses of P segments at A points.

    Attributes
    ----------
    alphas : float64 Tensor, shape (A,)
    losses : float64 Tensor, shape (P, A)
    accuracies : float64 Tensor, shape (P, A), or None
        Fraction of samples classified correctly; None where targets are not labels.
    """

    alphas: Tensor
    losses: Tensor
    accuracies: Tensor | None


def as_alphas(alphas: int | Sequence[float] | Tensor) -> Tensor:
    """The points of a segment as a float64 tensor (A,) on the CPU.

    Parameters
    ----------
    alphas : int or sequence of float
        A number A >= 2 of equally spaced points from 0 to 1, or the points themselves, sorted, in
        [0, 1].
    """
    if isinstance(alphas, bool):
        raise TypeError("alphas must be a number of points or the points; got a bool")
    if isinstance(alphas, int | np.integer):
        alphas = int(alphas)
        if alphas < 2:
            raise ValueError(f"alphas must be at least 2 points, the two ends; got {alphas}")
        # Not linspace: k/(A-1) correctly rounded holds 1/2 exactly for every odd A.
        return torch.arange(alphas, dtype=torch.float64) / (alphas - 1)
    points = torch.as_tensor(alphas, dtype=torch.float64, device="cpu").detach().clone()
    if points.ndim != 1 or points.numel() == 0:
        raise ValueError(f"alphas must be 1-d and not empty; got shape {tuple(points.shape)}")
    if not bool(((points >= 0) & (points <= 1)).all()):  # NaN fails this too
        raise ValueError(
            "alphas must lie in [0, 1]; got values from "
            f"{points.min().item()} to {points.max().item()}"
        )
    if bool((points.diff() < 0).any()):
        raise ValueError("alphas must be sorted in ascending order; pass sorted(alphas)")
    return points
