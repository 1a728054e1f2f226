# SPDX-License-Identifier: MIT
"""The two losses on samples, written once: halved squared error, and cross entropy in nats."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .weights import all_finite, can_read

LOSSES = ("mse", "cross_entropy")


def check_option(value: object, name: str, options: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``options``."""
    if value not in options:
        wanted = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name} must be one of {wanted}; got {value!r}")


def check_inputs(x: object, d: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """x as a finite, non-empty (n, d) tensor of the networks' dtype and device."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch tensor (n, d); got {type(x).__name__}")
    if x.ndim != 2 or x.shape[1] != d or x.shape[0] == 0:
        raise ValueError(
            f"x must be (n, d) = (*, {d}) with n >= 1 to match w1; got {tuple(x.shape)}"
        )
    if x.dtype != dtype:
        raise TypeError(
            f"x must have the dtype of w1, {dtype}; got {x.dtype}. Convert it with x.to(dtype)"
        )
    if x.device != device:
        raise ValueError(
            f"x must be on the device of w1, {device}; got {x.device}. Move it with x.to(device)"
        )
    if not all_finite(x):
        raise ValueError("x must be finite; it holds NaN or infinity")
    return x


def check_targets(
    y: object, loss: str, n: int, c: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """y in the form ``loss`` takes: (n, c) of the networks' dtype, or int64 labels (n,).

    Labels for "mse" come back as (n, c), 1 for the class and 0 elsewhere.
    """
    check_option(loss, "loss", LOSSES)
    if not isinstance(y, Tensor):
        raise TypeError(f"y must be a torch tensor; got {type(y).__name__}")
    if y.device != device:
        raise ValueError(
            f"y must be on the device of x, {device}; got {y.device}. Move it with y.to(device)"
        )
    if loss == "cross_entropy":
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise TypeError(
                f"y must hold int64 class labels for cross_entropy; got {y.dtype}. "
                "Convert it with y.long()"
            )
        if tuple(y.shape) != (n,):
            raise ValueError(
                f"y must be (n,) = ({n},) labels for cross_entropy; got {tuple(y.shape)}"
            )
        return _in_range(y, c)
    if tuple(y.shape) == (n,) and are_labels(y, c):
        return one_hot(_in_range(y, c), c).to(dtype)
    if tuple(y.shape) == (n,) and c == 1:
        y = y[:, None]
    if tuple(y.shape) != (n, c):
        raise ValueError(f"y must be (n, c) = ({n}, {c}) for mse; got {tuple(y.shape)}")
    if y.dtype != dtype:
        raise TypeError(
            f"y must have the dtype of w1, {dtype}; got {y.dtype}. Convert it with y.to(dtype)"
        )
    if not all_finite(y):
        raise ValueError("y must be finite; it holds NaN or infinity")
    return y


def are_labels(y: Tensor, c: int) -> bool:
    """Whether ``y`` holds class labels for networks of c outputs: integers, of several classes."""
    numbers = y.is_floating_point() or y.is_complex() or y.dtype == torch.bool
    return y.ndim == 1 and c > 1 and not numbers


def _in_range(y: Tensor, c: int) -> Tensor:
    low, high = (int(y.min()), int(y.max())) if can_read(y) else (0, 0)
    if low < 0 or high >= c:
        raise ValueError(f"y must hold labels in 0..{c - 1}, one per output; got {low} to {high}")
    return y.long()


def mean_loss(outputs: Tensor, y: Tensor, loss: str) -> Tensor:
    """Mean over samples; leading dimensions of ``outputs`` are kept.

    Parameters
    ----------
    outputs : Tensor, shape (..., n, c)
    y : Tensor
        (n, c) for ``"mse"``: sum over outputs of (f - y)^2 / 2. int64 labels (n,) for
        ``"cross_entropy"``: -log softmax(f)[y], in nats.
    """
    if loss == "mse":
        return ((outputs - y) ** 2).sum(-1).mean(-1) / 2
    log_probability = outputs.log_softmax(-1)
    labels = y.expand(outputs.shape[:-1])[..., None]
    return -log_probability.gather(-1, labels)[..., 0].mean(-1)


def accuracy(outputs: Tensor, y: Tensor) -> Tensor:
    """Share of samples whose largest output is the label's: (..., n, c), (n,) -> (...), float64.

    The first of equal outputs counts as the largest.
    """
    # argmax leaves the order of ties open; the first index that attains the maximum is fixed.
    first = (outputs == outputs.amax(-1, keepdim=True)).to(torch.int8).argmax(-1)
    return (first == y).double().mean(-1)
