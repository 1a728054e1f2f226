# SPDX-License-Identifier: MIT
"""A plain torch training loop for one model and any optimizer."""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from .losses import check_targets, mean_loss
from .weights import all_finite

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    loss: str = "mse",
    optimizer: torch.optim.Optimizer | OptimizerFactory,
    steps: int,
    batch_size: int | None = None,
    seed: int = 0,
    callback: Callable[[int, float], bool | None] | None = None,
) -> Tensor:
    """Train ``model`` in place on samples.

    Parameters
    ----------
    model : nn.Module
        Maps (n, d) to (n, c): a TwoLayerReLU or anything else.
    x : Tensor, shape (n, d)
    y : Tensor
        int64 labels (n,), or for ``"mse"`` any targets (n, c); it takes labels as one-hot targets.
    loss : {"mse", "cross_entropy"}
        Mean over samples of sum over outputs of (f - y)^2 / 2, or of -log softmax(f)[y] in nats.
    optimizer : torch.optim.Optimizer, or a function from parameters to one
        E.g. ``functools.partial(torch.optim.Adam, lr=1e-3)``. Those that evaluate the loss several
        times a step, such as LBFGS, do so on the samples of that step.
    steps : int
    batch_size : int, optional
        All n samples if None; else shuffled epochs, batches running across their borders.
    seed : int
        Of the shuffles.
    callback : function (step, loss) -> bool or None, optional
        Called after every step with the loss that step was taken on; training stops when it returns
        True.

    Returns
    -------
    float64 Tensor, shape (steps taken,)
        The loss of each step, before its update, on the samples of that step.

    Raises
    ------
    FloatingPointError
        When a loss is not finite: training diverged. The model keeps the weights that gave it.
    """
    n = len(x)
    if n == 0:
        raise ValueError(f"x must hold at least one sample; got {tuple(x.shape)}")
    if steps < 0:
        raise ValueError(f"steps must be at least 0; got {steps}")
    if batch_size is not None and not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must be None or in 1..n = 1..{n}; got {batch_size}")
    if not all_finite(x):
        raise ValueError("x must be finite; it holds NaN or infinity")
    rule = optimizer
    if not isinstance(rule, torch.optim.Optimizer):
        rule = rule(model.parameters())
    batches = _batches(n, batch_size or n, seed)
    chosen: slice | Tensor = slice(None)
    losses: list[float] = []

    def evaluate() -> float:
        """Loss on the chosen samples, with its gradients; the first of a step is recorded."""
        nonlocal y
        outputs = model(x[chosen])
        if not losses:
            y = check_targets(y, loss, n, outputs.shape[-1], outputs.dtype, x.device)
        value = mean_loss(outputs, y[chosen], loss)
        if len(losses) == step:
            losses.append(float(value.detach()))
            if not math.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss became {losses[-1]} at step {step}: training "
                    "diverged; use a smaller learning rate"
                )
        rule.zero_grad()
        torch.autograd.backward(value)
        return float(value.detach())

    for step in range(steps):
        if batch_size is not None:
            chosen = next(batches).to(x.device)
        rule.step(evaluate)
        if callback is not None and callback(step, losses[-1]):
            break
    return torch.tensor(losses, dtype=torch.float64)


def _batches(n: int, size: int, seed: int) -> Iterator[Tensor]:
    """Endless mini-batches from consecutive shuffles."""
    generator = torch.Generator().manual_seed(seed)
    waiting = torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < size:
            waiting = torch.cat((waiting, torch.randperm(n, generator=generator)))
        yield waiting[:size]
        waiting = waiting[size:]
