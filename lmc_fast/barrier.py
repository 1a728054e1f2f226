# SPDX-License-Identifier: MIT
"""The loss barrier between networks, before and after matching their neurons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from .curves import PathLosses, as_alphas
from .losses import check_inputs, check_option
from .matching import Matching, measured_on_inputs
from .matching import match as match_neurons
from .ops.path_losses import path_losses
from .ops.population_path_losses import population_path_losses
from .weights import Weights, as_teacher, as_weights, check_same_architecture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEFINITIONS = ("chord", "endpoint_mean", "midpoint")


@dataclass(frozen=True)
class Barrier:
    """Loss barriers of P pairs.

    Attributes
    ----------
    height : float64 Tensor, shape (P,)
    alpha : float64 Tensor, shape (P,)
        Where along the segment it is attained.
    curve : PathLosses
        The losses it was taken from.
    definition : str
    matching : Matching or None
        How b was reordered first; None if it was not.
    naive : Barrier or None
        With a matching, the barrier of the same pairs without it.
    """

    height: Tensor
    alpha: Tensor
    curve: PathLosses
    definition: str
    matching: Matching | None = None
    naive: "Barrier | None" = None

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw loss against alpha: each pair thin, their mean bold, the naive mean dashed.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Drawn into; a new figure without it.

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError(
                "plot needs matplotlib, which is not installed; pip install 'lmc_fast[studies]'"
            ) from error
        if ax is None:
            _, ax = pyplot.subplots()
        alphas = self.curve.alphas.numpy()
        losses = self.curve.losses.detach().cpu()
        if len(losses) > 1:
            ax.plot(alphas, losses.T.numpy(), color="tab:blue", alpha=0.25, linewidth=0.7)
        label = "as given" if self.matching is None else f"matched ({self.matching.method})"
        ax.plot(alphas, losses.mean(0).numpy(), color="tab:blue", linewidth=2, label=label)
        if self.naive is not None:
            naive = self.naive.curve.losses.detach().cpu().mean(0).numpy()
            ax.plot(alphas, naive, color="tab:orange", linestyle="--", label="not matched")
        ax.set_xlabel("alpha")
        ax.set_ylabel("loss")
        ax.legend()
        return ax


def barrier_height(
    losses: Tensor, alphas: Tensor, definition: str = "chord"
) -> tuple[Tensor, Tensor]:
    """Barrier of loss curves, and the alpha at which it is attained.

    Parameters
    ----------
    losses : Tensor, shape (P, A)
    alphas : Tensor, shape (A,)
        Sorted, from 0 to 1.
    definition : {"chord", "endpoint_mean", "midpoint"}
        max over alpha of L(alpha) - [(1 - alpha) L(0) + alpha L(1)]; max over alpha of
        L(alpha) - [L(0) + L(1)] / 2; or L(1/2) - [L(0) + L(1)] / 2.

    Returns
    -------
    height, alpha : Tensor, shape (P,)
        The chord's height is never negative, since the ends themselves are on it.

    Notes
    -----
    "chord" is the barrier of Entezari, Sedghi, Saukh, Neyshabur, ICLR 2022, arXiv 2110.06296;
    "endpoint_mean" is the instability of Frankle, Dziugaite, Roy, Carbin, ICML 2020, arXiv
    1912.05671; "midpoint" is the latter at alpha = 1/2 alone, for which two losses and a third are
    enough. For ends of equal loss the first two are the same.
    """
    check_option(definition, "definition", DEFINITIONS)
    if losses.ndim != 2 or tuple(alphas.shape) != (losses.shape[1],):
        raise ValueError(
            "losses must be (P, A) and alphas (A,); got "
            f"{tuple(losses.shape)} and {tuple(alphas.shape)}"
        )
    if float(alphas[0]) != 0.0 or float(alphas[-1]) != 1.0:
        raise ValueError(
            "alphas must start at 0 and end at 1, the two networks a barrier is "
            f"measured against; got {float(alphas[0])} to {float(alphas[-1])}"
        )
    alphas = alphas.to(losses)
    start, end = losses[:, :1], losses[:, -1:]
    if definition == "chord":
        excess = losses - ((1 - alphas) * start + alphas * end)
    else:
        excess = losses - (start + end) / 2
    if definition == "midpoint":
        middle = (alphas == 0.5).nonzero().flatten()
        if len(middle) == 0:
            raise ValueError(
                "alphas must contain 0.5 for definition='midpoint'; pass an odd number of them"
            )
        excess, alphas = excess[:, middle[:1]], alphas[middle[:1]]
    height, index = excess.max(dim=1)
    return height, alphas[index]


def barrier(
    a: object,
    b: object,
    *,
    teacher: object = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
    loss: str = "mse",
    alphas: int | Sequence[float] | Tensor = 25,
    definition: str = "chord",
    match: str | Matching | None = None,
    inputs: str = "gaussian",
    radius: float = 1.0,
    seed: int = 0,
    precision: str = "float32",
) -> Barrier:
    """Loss barrier of P pairs of networks, optionally after matching their neurons.

    Parameters
    ----------
    a, b : network
        Anything :func:`lmc_fast.as_weights` reads; P networks each, of one shape, dtype, device.
    teacher : network, optional
        Without x, the loss is the exact population loss against it; with x, it gives the targets.
    x : Tensor, shape (n, d), optional
        Samples on which the loss is taken.
    y : Tensor, optional
        Their targets: (n, c), or int64 labels (n,); see :func:`lmc_fast.path_losses`.
    loss : {"mse", "cross_entropy"}
    alphas : int or sequence of float
        See :func:`lmc_fast.path_losses`; from 0 to 1.
    definition : {"chord", "endpoint_mean", "midpoint"}
        See :func:`barrier_height`.
    match : {"gap", "weights", "activations", "none", "random"} or Matching, optional
        Reorder b first; ``"activations"`` uses x, and so does ``"gap"`` for networks with biases
        (for others it is the closed form, with x too). The result then has the barrier without it
        as ``naive``.
    inputs, radius
        Distribution of the population loss; see :func:`lmc_fast.population_loss`.
    seed : int
        Of ``match="random"``.
    precision : {"float32", "tf32", "bf16"}
        Of the products on a GPU, with x; see :func:`lmc_fast.two_layer_relu`.

    Returns
    -------
    Barrier
    """
    a, b = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(a, b)
    check_option(definition, "definition", DEFINITIONS)
    points = as_alphas(alphas)
    if x is None:
        if teacher is None or y is not None or loss != "mse":
            raise ValueError(
                "pass either samples x with their targets y, or a teacher for the "
                "exact population loss (loss='mse', no y)"
            )
    elif teacher is not None:
        if y is not None or loss != "mse":
            raise ValueError(
                "with x, the targets come from y or from a teacher (loss='mse'), not both; drop one"
            )
        x = check_inputs(x, a.sizes[2], a.w1.dtype, a.w1.device)
        y = as_teacher(teacher, a.sizes[2], a.sizes[3]).targets(x)
    elif y is None:
        raise ValueError("x needs its targets y, or a teacher that gives them")

    def measure(other: Weights) -> tuple[Tensor, Tensor, PathLosses]:
        if x is None:
            curve = population_path_losses(a, other, teacher, points, inputs, radius)
        else:
            assert y is not None
            curve = path_losses(a, other, x, y, points, loss, precision)
        return *barrier_height(curve.losses, curve.alphas, definition), curve

    naive = Barrier(*measure(b), definition)
    if match is None:
        return naive
    if isinstance(match, Matching):
        matching = match
    else:
        measured = measured_on_inputs(match, a, b)
        matching = match_neurons(a, b, match, x if measured else None, seed)
    return Barrier(*measure(matching.apply(b)), definition, matching, naive)
