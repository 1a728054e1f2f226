# SPDX-License-Identifier: MIT
"""The loss barrier between two modules on the straight segment between their weights."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..barrier import DEFINITIONS, Barrier, barrier_height
from ..curves import PathLosses, as_alphas
from ..losses import accuracy, check_option, check_targets, mean_loss
from .check import check_alike, tensors_of


def module_barrier(
    a: nn.Module,
    b: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: str = "mse",
    alphas: int | Sequence[float] | Tensor = 25,
    definition: str = "chord",
    statistics_x: Tensor | None = None,
    batch_size: int = 1024,
) -> Barrier:
    """Loss barrier between two modules of one architecture, on samples.

    Parameters
    ----------
    a, b : nn.Module
        From (n, ...) to (n, c). Copies are evaluated, in evaluation mode. To measure it modulo
        permutation, pass ``match_modules(a, b, x).apply(b)`` in place of b.
    x : Tensor, shape (n, ...)
    y : Tensor
        (n, c) for ``"mse"``, int64 labels (n,) for ``"cross_entropy"``.
    loss : {"mse", "cross_entropy"}
        Mean over samples of sum over outputs of (f - y)^2 / 2, or of -log softmax(f)[y] in nats.
    alphas : int or sequence of float
        Points along the segment; see :func:`lmc_fast.path_losses`.
    definition : {"chord", "endpoint_mean", "midpoint"}
        See :func:`lmc_fast.barrier_height`.
    statistics_x : Tensor, shape (k, ...), optional
        Inputs, such as training samples, on which running statistics (of BatchNorm) are estimated
        anew strictly between the ends. Without it they are interpolated like weights.
    batch_size : int
        Samples that are evaluated at once.

    Returns
    -------
    Barrier
        Of P = 1 pair. ``curve.accuracies`` is there for cross entropy.

    Raises
    ------
    TypeError, ValueError
        Naming the argument; before anything is evaluated along the segment.

    Notes
    -----
    Parameters and floating-point buffers are interpolated as (1 - alpha) a + alpha b, which gives
    both ends exactly; other buffers are a's. Statistics of interpolated activations are too small
    in variance, which is part of the barrier of networks with BatchNorm: estimating them anew is
    the "reset" of Jordan, Sedghi, Saukh, Entezari, Neyshabur, REPAIR, ICLR 2023, arXiv 2211.08403.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> a, b = (nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)) for _ in range(2))
    >>> x, y = torch.randn(50, 4), torch.arange(50) % 3
    >>> result = module_barrier(a, b, x, y, loss="cross_entropy", alphas=11)
    >>> result.curve.losses.shape, bool(result.height >= 0)
    (torch.Size([1, 11]), True)
    """
    check_alike(a, b)
    check_option(definition, "definition", DEFINITIONS)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    if not isinstance(x, Tensor) or len(x) == 0:
        raise ValueError("x must be a torch tensor (n, ...) with n >= 1")
    points = as_alphas(alphas)
    network = copy.deepcopy(a).eval()
    with torch.no_grad():
        outputs = network(x[:1])
        if outputs.ndim != 2:
            raise ValueError(
                f"a must map x (n, ...) to outputs (n, c); one sample gives {tuple(outputs.shape)}"
            )
        if isinstance(y, Tensor) and y.is_floating_point():
            y = y.to(outputs.dtype)
        y = check_targets(y, loss, len(x), outputs.shape[1], outputs.dtype, x.device)
        measured = []
        for alpha in points.tolist():
            _interpolate(network, a, b, alpha)
            if statistics_x is not None and 0 < alpha < 1:
                _estimate_statistics(network, statistics_x, batch_size)
            measured.append(_evaluate(network, x, y, loss, batch_size))
    losses, accuracies = torch.tensor(measured, dtype=torch.float64).T[:, None]
    curve = PathLosses(points, losses, accuracies if loss == "cross_entropy" else None)
    return Barrier(*barrier_height(losses, points, definition), curve, definition)


def _interpolate(network: nn.Module, a: nn.Module, b: nn.Module, alpha: float) -> None:
    ours, theirs = tensors_of(a), tensors_of(b)
    for name, tensor in tensors_of(network).items():
        if tensor.is_floating_point():
            tensor.copy_((1 - alpha) * ours[name] + alpha * theirs[name])


def _estimate_statistics(network: nn.Module, x: Tensor, batch_size: int) -> None:
    """Means over batches of the statistics of a batch, in every layer that keeps them."""
    layers = [m for m in network.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
        layer.train()
    # Of nearly equal sizes: a last batch of one sample has no variance, and all count alike.
    for block in torch.tensor_split(x, -(-len(x) // batch_size)):
        network(block)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()


def _evaluate(
    network: nn.Module, x: Tensor, y: Tensor, loss: str, batch_size: int
) -> tuple[float, float]:
    """Mean loss, and accuracy (NaN for squared error), summed over blocks in float64."""
    total = right = 0.0
    for block, targets in zip(torch.split(x, batch_size), torch.split(y, batch_size), strict=True):
        outputs = network(block).double()
        wanted = targets.double() if loss == "mse" else targets
        total += len(block) * float(mean_loss(outputs, wanted, loss))
        hits = accuracy(outputs, targets) if loss == "cross_entropy" else torch.tensor(torch.nan)
        right += len(block) * float(hits)
    return total / len(x), right / len(x)
