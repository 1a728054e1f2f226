# SPDX-License-Identifier: MIT
"""The permutation graph of a module: which axes of its tensors share one permutation."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from ..nets import TwoLayerReLU
from .rules import SUPPORTED, layout_of
from .ties import FIXED, Ties
from .walk import UnsupportedError, Walk

# Inputs on which shapes are found, and functions compared. Two at least, so that the dimension of
# the batch is not taken for one that a reshape may drop.
_PROBES = 4


class Axis(NamedTuple):
    """One dimension of a parameter or buffer.

    Attributes
    ----------
    tensor : str
        Its name in ``state_dict``.
    dim : int
    block : int
        Consecutive entries that each unit has along it.
    """

    tensor: str
    dim: int
    block: int


@dataclass(frozen=True)
class PermutationGraph:
    """The permutations under which a module computes the same function.

    Attributes
    ----------
    sizes : dict of str to int
        Units of each permutation, by the name of the first module that makes these units.
    axes : dict of str to tuple of Axis
        What each permutation reorders.
    """

    sizes: Mapping[str, int]
    axes: Mapping[str, tuple[Axis, ...]]

    def permute(
        self, tensors: Mapping[str, Tensor], permutations: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Tensors with their axes reordered: unit i is the given one's ``perm[i]``.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            Those that are not in the graph are returned as they are.
        permutations : mapping of str to int64 Tensor, shape (size,)
        """
        moved = dict(tensors)
        for name, perm in permutations.items():
            for tensor, dim, block in self.axes[name]:
                if tensor in moved:
                    value = moved[tensor]
                    moved[tensor] = value.index_select(dim, spread(perm, block).to(value.device))
        return moved


def spread(perm: Tensor, block: int) -> Tensor:
    """A permutation of units as one of their entries: (m,) to (m * block,)."""
    within = torch.arange(block)
    return (perm[:, None] * block + within).flatten()


def permutation_graph(module: nn.Module, x: Tensor) -> PermutationGraph:
    """Find which axes of which parameters and buffers share one permutation.

    Parameters
    ----------
    module : nn.Module
        A plain feed-forward network from one tensor to one tensor that torch.fx can trace. It is
        left as it is.
    x : Tensor, shape (n, ...)
        Example inputs: shapes are found by running up to four of them through a copy.

    Returns
    -------
    PermutationGraph
        The network's inputs and outputs are never permuted.

    Raises
    ------
    TypeError
        ``module`` is no module, or ``x`` no tensor.
    ValueError
        A module or function that is not supported, by its path and type with what is; or a module
        that torch.fx cannot trace.

    Notes
    -----
    Linear and convolutional layers make new units, one for each output feature or channel, and
    take those of their input. Normalisation, activations and pooling keep units in place.
    Flattening turns a channel into a block of features. Adding or multiplying two tensors ties
    their units, and so does using a module twice.

    While torch.fx traces it replaces ``nn.Module.__call__``: no other thread may run a module.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    >>> graph = permutation_graph(net, torch.zeros(2, 1, 8, 8))
    >>> for axis in graph.axes["0"]:
    ...     print(axis)
    Axis(tensor='0.weight', dim=0, block=1)
    Axis(tensor='0.bias', dim=0, block=1)
    Axis(tensor='3.weight', dim=1, block=36)
    """
    network, traced = _trace(module, x)
    walk = Walk(traced, _names(network))
    for node in traced.graph.nodes:
        try:
            walk.layouts[node] = layout_of(walk, node)
        except (UnsupportedError, ValueError) as error:
            raise ValueError(
                f"{walk.describe(node)} of the network cannot be permuted: {error}. "
                f"Supported are {SUPPORTED}"
            ) from None
    return _collect(walk.ties)


def probes(x: Tensor) -> Tensor:
    """Up to four of the inputs; a single one twice."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch tensor of inputs (n, ...); got {type(x).__name__}")
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(
            "x must hold inputs (n, ...) with n >= 1, as the network takes them; got "
            f"{tuple(x.shape)}"
        )
    return x[:_PROBES] if len(x) > 1 else torch.cat((x, x))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, TwoLayerReLU) or super().is_leaf_module(m, module_qualified_name)


def _trace(module: nn.Module, x: Tensor) -> tuple[nn.Module, fx.GraphModule]:
    """A copy of the module, and its graph, whose nodes know their shapes."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"the network must be an nn.Module; got {type(module).__name__}")
    x = probes(x)
    try:
        # Running statistics must not move, and nothing be dropped.
        network = copy.deepcopy(module).eval()
    except Exception as error:  # weights that hooks compute, say
        raise ValueError(f"{type(module).__name__} cannot be copied: {_line(error)}") from error
    try:
        tracer = _Tracer()
        # A single layer is a node of its own only below another module.
        root = nn.Sequential(network) if tracer.is_leaf_module(network, "") else network
        traced = fx.GraphModule(root, tracer.trace(root))
    except Exception as error:  # the module's own code runs, and may raise anything
        raise ValueError(
            f"torch.fx cannot trace {type(module).__name__}: {_line(error)}. A plain feed-forward "
            "network is needed, without branches or loops that depend on values or shapes"
        ) from error
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ValueError(
            f"{type(module).__name__}.forward must take one tensor; it takes {len(inputs)}: wrap "
            "it in a module that fixes the others"
        )
    with torch.no_grad():
        try:
            network(x)  # first, for ShapeProp writes of errors at length
        except Exception as error:
            raise ValueError(
                f"{type(module).__name__} cannot be run on x {tuple(x.shape)} {x.dtype}: "
                f"{_line(error)}. Pass inputs as it takes them"
            ) from error
        ShapeProp(traced).propagate(x)
    return network, traced


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _names(module: nn.Module) -> dict[int, str]:
    """Names of parameters and buffers by identity; of tied ones the first."""
    names: dict[int, str] = {}
    given: list[Any] = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in given:
        names.setdefault(id(tensor), name)
    return names


def _collect(ties: Ties) -> PermutationGraph:
    sizes: dict[str, int] = {}
    axes: dict[str, list[Axis]] = {}
    for (tensor, dim), layout in ties.axes.items():
        key = ties.find(layout.key)
        if key == FIXED.key:
            continue
        sizes[ties.names[key]] = ties.sizes[key]
        axes.setdefault(ties.names[key], []).append(Axis(tensor, dim, layout.block))
    return PermutationGraph(sizes, {name: tuple(found) for name, found in axes.items()})
