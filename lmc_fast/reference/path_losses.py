# SPDX-License-Identifier: MIT
"""Losses along the segment between two networks: interpolate, run forward, take the loss."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..curves import PathLosses, as_alphas
from ..losses import accuracy, are_labels, check_inputs, check_targets, mean_loss
from ..weights import as_weights, check_same_architecture
from .two_layer_relu import two_layer_relu


def path_losses(
    a: object,
    b: object,
    x: Tensor,
    y: Tensor,
    alphas: int | Sequence[float] | Tensor = 25,
    loss: str = "mse",
) -> PathLosses:
    """Losses of P segments on n samples; parameters as in :func:`lmc_fast.path_losses`.

    Outputs are computed in the networks' dtype, losses of them in float64.
    """
    a, b = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(a, b)
    _, _, d, c = a.sizes
    dtype, device = a.w1.dtype, a.w1.device
    x = check_inputs(x, d, dtype, device)
    targets = check_targets(y, loss, len(x), c, dtype, device)
    labels = y if loss == "cross_entropy" or are_labels(y, c) else None
    points = as_alphas(alphas)
    losses, accuracies = [], []
    for alpha in points.tolist():
        outputs = two_layer_relu(x, *a.at(b, alpha)).double()
        losses.append(mean_loss(outputs, targets, loss))
        if labels is not None:
            accuracies.append(accuracy(outputs, labels))
    return PathLosses(
        points, torch.stack(losses, dim=-1), torch.stack(accuracies, dim=-1) if accuracies else None
    )
