# SPDX-License-Identifier: MIT
"""Weight matching of modules of any depth: coordinate descent on the permutation graph."""

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..assignment import assign, assign_factors
from .check import check_alike, check_same_function, tensors_of
from .graph import PermutationGraph, permutation_graph, probes, spread

# Bytes of a cost matrix, above which assignments are solved without one.
_MATRIX = 1 << 31
# A step must raise the objective by this share of |a||b|, so that rounding cannot go in circles.
_PROGRESS = 1e-12


@dataclass(frozen=True)
class ModuleMatching:
    """How the units of one module correspond to those of another; tensors are on the CPU.

    Attributes
    ----------
    permutations : dict of str to int64 Tensor, shape (size,)
        By the name of the module that makes the units: unit i of a is matched with unit
        ``permutations[name][i]`` of b.
    objective : float64 Tensor, shape (passes + 1,)
        Inner product of a's and b's parameters at the start and after each pass; it never falls.
    graph : PermutationGraph
    probe : Tensor, shape (k, ...)
        Inputs on which :meth:`apply` compares functions.
    seconds : float
    """

    permutations: Mapping[str, Tensor]
    objective: Tensor
    graph: PermutationGraph
    probe: Tensor
    seconds: float

    @property
    def moved(self) -> float:
        """Fraction of all units that are matched with another index; 0 without units."""
        moved = [(perm != torch.arange(len(perm))) for perm in self.permutations.values()]
        return float(torch.cat(moved).double().mean()) if moved else 0.0

    def apply(self, b: nn.Module) -> nn.Module:
        """A copy of b with its units reordered to stand opposite a's.

        Both are run on the probe in float64: a RuntimeError says so if their outputs differ by more
        than rounding.
        """
        given = tensors_of(b)
        moved = self.graph.permute(given, self.permutations)
        reordered = copy.deepcopy(b)
        with torch.no_grad():
            for name, tensor in tensors_of(reordered).items():
                tensor.copy_(moved[name])
        check_same_function(b, reordered, self.probe.to(_device(b)), "b")
        return reordered


def match_modules(
    a: nn.Module,
    b: nn.Module,
    x: Tensor,
    *,
    seed: int = 0,
    starts: int = 1,
    max_passes: int = 100,
    graph: PermutationGraph | None = None,
) -> ModuleMatching:
    """Match the units of two modules, layer by layer, by the inner product of their weights.

    Parameters
    ----------
    a, b : nn.Module
        Of one architecture, which :func:`permutation_graph` can follow. Both are left as they are.
    x : Tensor, shape (n, ...)
        Example inputs, such as a batch of data. Weights alone are matched: x gives the shapes, and
        up to four inputs on which the reordered b is compared with b.
    seed : int
        Of the order in which permutations are visited, and of further starts.
    starts : int
        The first is the identity, the others are random; the best result is returned.
    max_passes : int
        Of each start, over all permutations.
    graph : PermutationGraph, optional
        That of a and of b, where it is known: neither is traced then.

    Returns
    -------
    ModuleMatching
        The same for the same arguments.

    Raises
    ------
    TypeError, ValueError
        Modules that differ, hold NaN, cannot be traced or have a layer that is not supported, by
        its name; before anything is matched.

    Notes
    -----
    Weight matching of Ainsworth, Hayase, Srinivasa, Git Re-Basin, ICLR 2023, arXiv 2209.04836,
    Algorithm 1: the inner product of a's parameters with b's reordered ones is raised by one
    permutation at a time, in random order, each by an exact assignment while the others stay, until
    no permutation improves it. Where a permutation reorders both axes of one weight, as in a
    residual block of one layer, the assignment is for the other axis as it stands, and kept only if
    it raises the objective. Running statistics follow their units and have no part in it. The
    result is a local maximum; one hidden layer has a single permutation, and the result is the
    maximum, that of ``match(cost="weights")``.

    Arithmetic is float64, on the CPU. A permutation of m units takes O(m^2) times the number of
    weights of each, and the assignment.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> def network():
    ...     return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(),
    ...                          nn.Linear(6, 2))
    >>> a, b, x = network(), network(), torch.randn(8, 4)
    >>> matching = match_modules(a, b, x)
    >>> {name: len(perm) for name, perm in matching.permutations.items()}
    {'0': 6, '2': 6}
    >>> bool(matching.objective[-1] > matching.objective[0])
    True
    >>> torch.allclose(matching.apply(b)(x), b(x), atol=1e-6)
    True
    """
    begun = time.perf_counter()
    for name, value in (("starts", starts), ("max_passes", max_passes)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    check_alike(a, b)
    if graph is None:
        graph = permutation_graph(a, x)
        if permutation_graph(b, x) != graph:
            raise ValueError(
                "a and b must be of one architecture; their layers are joined differently"
            )
    descent = _Descent(graph, *(_parameters(module, graph) for module in (a, b)))
    best: tuple[dict[str, Tensor], list[float]] | None = None
    for start in range(starts):
        generator = torch.Generator().manual_seed(seed + start)
        found = descent.run(generator, max_passes, shuffled=start > 0)
        if best is None or found[1][-1] > best[1][-1]:
            best = found
    assert best is not None
    matching = ModuleMatching(
        best[0],
        torch.tensor(best[1], dtype=torch.float64),
        graph,
        probes(x).detach().clone(),
        time.perf_counter() - begun,
    )
    matching.apply(b)  # checks it
    return matching


class _Descent:
    """Coordinate ascent of sum over tensors of <a, permuted b>, over one permutation at a time."""

    def __init__(
        self, graph: PermutationGraph, a: Mapping[str, Tensor], b: Mapping[str, Tensor]
    ) -> None:
        self._graph, self._a, self._b = graph, a, b
        self._tensors = {
            name: sorted({axis.tensor for axis in axes if axis.tensor in a})
            for name, axes in graph.axes.items()
        }
        self._axes_of: dict[str, list[tuple[str, int, int]]] = {name: [] for name in a}
        for name, axes in graph.axes.items():
            for tensor, dim, block in axes:
                if tensor in a:
                    self._axes_of[tensor].append((name, dim, block))
        norms = (float(sum(t.square().sum() for t in side.values())) ** 0.5 for side in (a, b))
        self._least = _PROGRESS * next(norms) * next(norms)

    def run(
        self, generator: torch.Generator, max_passes: int, *, shuffled: bool
    ) -> tuple[dict[str, Tensor], list[float]]:
        """Permutations that no single one can improve, and the objective after each pass."""

        def draw(size: int) -> Tensor:
            return torch.randperm(size, generator=generator)

        make: Callable[[int], Tensor] = draw if shuffled else torch.arange
        perms = {name: make(size) for name, size in self._graph.sizes.items()}
        names = list(perms)
        objective = [self._objective(perms, self._a)]
        for _ in range(max_passes):
            improved = [self._improve(perms, names[i]) for i in draw(len(names)).tolist()]
            objective.append(self._objective(perms, self._a))
            if not any(improved):
                break
        return perms, objective

    def _improve(self, perms: dict[str, Tensor], name: str) -> bool:
        """Replace one permutation by the best one while the others stay, if it is better."""
        tensors = self._tensors[name]
        better = perms | {name: self._assigned(perms, name)}
        before, after = (self._objective(each, tensors) for each in (perms, better))
        if after <= before + self._least:
            return False
        perms[name] = better[name]
        return True

    def _assigned(self, perms: Mapping[str, Tensor], name: str) -> Tensor:
        rows: list[Tensor] = []
        columns: list[Tensor] = []
        size = self._graph.sizes[name]
        for axis in self._graph.axes[name]:
            if axis.tensor not in self._a:
                continue  # a running statistic
            a, b = self._a[axis.tensor], self._moved(perms, axis.tensor, (name, axis.dim))
            for found, tensor in ((rows, a), (columns, b)):
                found.append(tensor.movedim(axis.dim, 0).reshape(size, -1))
        u, v = torch.cat(rows, 1), torch.cat(columns, 1)
        if 8 * size * size > _MATRIX:
            return assign_factors(u, v).perm
        return assign(-(u @ v.T)).perm

    def _moved(
        self, perms: Mapping[str, Tensor], tensor: str, but: tuple[str, int] | None = None
    ) -> Tensor:
        """One of b's tensors, reordered along all axes but one."""
        moved = self._b[tensor]
        for name, dim, block in self._axes_of[tensor]:
            if (name, dim) != but:
                moved = moved.index_select(dim, spread(perms[name], block))
        return moved

    def _objective(self, perms: Mapping[str, Tensor], tensors: Iterable[str]) -> float:
        return sum(float((self._a[t] * self._moved(perms, t)).sum()) for t in tensors)


def _parameters(module: nn.Module, graph: PermutationGraph) -> dict[str, Tensor]:
    """Parameters that the graph reorders, in float64 on the CPU."""
    wanted = {axis.tensor for axes in graph.axes.values() for axis in axes}
    return {
        name: parameter.detach().double().cpu()
        for name, parameter in module.named_parameters()
        if name in wanted
    }


def _device(module: nn.Module) -> torch.device:
    first = next(iter(tensors_of(module).values()), torch.empty(0))
    return first.device
