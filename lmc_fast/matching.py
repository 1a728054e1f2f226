# SPDX-License-Identifier: MIT
"""Which neuron of one network corresponds to which of another: an assignment problem per pair."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .assignment import assign, assign_factors
from .canonical import canonicalize
from .deficit_cost import deficit_cost, gap_cost
from .host_copies import on_host
from .losses import check_inputs, check_option
from .permutation_check import check_reordering, reorder
from .sampled_cost import sampled_deficit_cost
from .weights import Weights, as_weights, check_no_biases, check_same_architecture, has_biases

COSTS = ("gap", "weights", "activations", "none", "random")
_WITH_X = ("gap", "activations")

# Samples per block of the activation cost, so that (n, m) activations never exist at once.
_BLOCK = 4096

# Bytes of cost matrices that are kept to be assigned side by side, on the threads.
_MATRICES = 1 << 28

# Inner products of so few numbers take less time than it takes to write and read so wide a matrix.
_LEAST_WIDE, _MOST_FACTORS = 2048, 24


@dataclass(frozen=True)
class Matching:
    """P matchings of m neurons; its tensors are on the CPU, wherever the networks are.

    Attributes
    ----------
    perm : int64 Tensor, shape (P, m)
        Neuron i of a is matched with neuron ``perm[p, i]`` of b.
    cost : float64 Tensor, shape (P,)
        Sum of the assigned entries of the cost matrix; NaN for ``"none"``, ``"random"`` and
        refined matchings, which have none.
    seconds : float
        Time taken for all pairs, cost matrices included.
    method : str
    """

    perm: Tensor
    cost: Tensor
    seconds: float
    method: str

    @property
    def moved(self) -> Tensor:
        """Fraction of neurons that are matched with another index: float64 (P,)."""
        in_place = torch.arange(self.perm.shape[1], device=self.perm.device)
        return (self.perm != in_place).double().mean(1)

    def apply(self, b: object) -> Weights:
        """b with its neurons reordered to stand opposite a's; it stays on its device.

        A few inputs are run through both, and a RuntimeError names the pair if their outputs differ
        by more than rounding.
        """
        return reorder(as_weights(b, "b"), self.perm, "b")


def match(
    a: object,
    b: object,
    cost: str = "gap",
    x: Tensor | None = None,
    seed: int = 0,
    *,
    canonical: bool = False,
) -> Matching:
    """Match the neurons of P pairs of networks, exactly, by :func:`lmc_fast.assign`.

    Parameters
    ----------
    a, b : network
        Anything :func:`lmc_fast.as_weights` reads; P networks each, of one shape, dtype, device.
    cost : {"gap", "weights", "activations", "none", "random"}
        What the matching minimises, see Notes.
    x : Tensor, shape (n, d), optional
        Inputs, needed for ``"activations"``. With them ``"gap"`` is measured on them instead of
        taken in closed form; networks with biases need that.
    seed : int
        For ``"random"`` only. Pair p's permutation depends on (seed, p) alone.
    canonical : bool
        Take the costs of :func:`lmc_fast.canonicalize` of a and b, which do not depend on how each
        neuron is scaled. The permutation is for a and b as they are. For ``"weights"`` and
        ``"activations"`` it compares neurons of unlike scales fairly. A ``"gap"`` of canonical
        networks is what it costs to interpolate *those*: take it when the barrier is between the
        canonical networks too. It changes nothing for ``"none"`` and ``"random"``.

    Returns
    -------
    Matching

    Raises
    ------
    TypeError, ValueError
        Networks that differ in shape, dtype or device, hold NaN or infinity; ``"gap"`` with biases
        and without x; ``"activations"`` without x, and other costs with it.

    Notes
    -----
    A pair is matched alone: the others in the stack do not change its costs. Pairs whose matrices
    fit into 256 MiB together are assigned side by side, on the threads. Networks on a GPU have
    their costs computed there, and assigned on the CPU: one group's while the next pair's costs are
    computed. Every permutation is checked: a RuntimeError names a pair whose b would compute
    something else on a few inputs.

    gap : for w2 = 1, |u_i| + |v_j| - |u_i + v_j|: for rotation-invariant inputs the mean of
        (relu(u.x) + relu(v.x)) / 2 - relu((u + v).x / 2) is proportional to it. It is zero when
        the two are parallel or one is dead, the two cases in which interpolating them is free. For
        other w2 (columns a, b), the root mean square over x ~ N(0, I) of (a relu(u.x) + b
        relu(v.x)) / 2 - (a + b) relu((u + v).x / 2) / 2. See :func:`gap_cost` and
        :func:`deficit_cost`, where both are derived. With x, the root mean square over those
        samples, biases included, in O(m^2 n) operations; see :mod:`lmc_fast.sampled_cost`.
    weights : minus the inner product of all weights of the two neurons (incoming, bias, outgoing;
        a constant w2 adds a constant): weight matching of Ainsworth, Hayase, Srinivasa, Git
        Re-Basin, ICLR 2023, arXiv 2209.04836, exact for one hidden layer. For m >= 2048 neurons of
        at most 24 weights there is no (m, m) matrix, see :func:`lmc_fast.assign_factors`.
    activations : minus the mean over x of the product of the two activations: their activation
        matching.
    none, random : the identity, and a uniformly random permutation.
    """
    check_option(cost, "cost", COSTS)
    a, b = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(a, b)
    pairs, m, d, c = a.sizes
    if (x is None and cost == "activations") or (x is not None and cost not in _WITH_X):
        raise ValueError(
            "x (n, d) goes with cost='activations', which needs it, and with 'gap', and with no "
            f"other; got cost={cost!r} {'without' if x is None else 'with'} x"
        )
    if x is not None:
        x = check_inputs(x, d, a.w1.dtype, a.w1.device)
    started = time.perf_counter()
    if canonical:
        a, b = canonicalize(a), canonicalize(b)
    if cost in ("none", "random"):
        perm = torch.arange(m).repeat(pairs, 1)
        if cost == "random":
            for p in range(pairs):
                generator = np.random.default_rng((seed, p))
                perm[p] = torch.from_numpy(generator.permutation(m))
        costs = torch.full((pairs,), torch.nan, dtype=torch.float64)
    elif cost == "weights" and m >= _LEAST_WIDE and d + c + _biased(a, b) <= _MOST_FACTORS:
        perm, costs = _assign_neurons(a, b)
    else:
        with torch.no_grad():
            matrices = on_host(pairs, _cost_matrix(a, b, cost, x), a.w1.device)
            perm, costs = _assign_all(matrices, pairs, m)
    check_reordering(b, perm, "b")
    return Matching(perm, costs, time.perf_counter() - started, cost)


def measured_on_inputs(cost: str, a: Weights, b: Weights) -> bool:
    """Whether a cost of these networks is a mean over inputs x, and has no closed form."""
    return cost == "activations" or (cost == "gap" and (has_biases(a) or has_biases(b)))


def _assign_all(matrices: Iterable[Tensor], pairs: int, m: int) -> tuple[Tensor, Tensor]:
    """Permutations (P, m) and costs (P,) of matrices each of which is good until the next."""
    perm = torch.empty(pairs, m, dtype=torch.int64)
    costs = torch.empty(pairs, dtype=torch.float64)
    together = max(1, min(pairs, _MATRICES // (8 * m * m)))
    group = torch.empty(together if together > 1 else 0, m, m, dtype=torch.float64)
    for p, matrix in enumerate(matrices):
        if together > 1:
            group[p % together] = matrix
        count = p % together + 1
        if count == together or p == pairs - 1:
            solved = assign(group[:count] if together > 1 else matrix[None])
            perm[p + 1 - count : p + 1] = solved.perm
            costs[p + 1 - count : p + 1] = solved.objective
    return perm, costs


def _assign_neurons(a: Weights, b: Weights) -> tuple[Tensor, Tensor]:
    """Permutations (P, m) and costs (P,) of ``"weights"``, without the matrices."""
    with torch.no_grad():
        pairs = [_neurons(a, b, p) for p in range(len(a.w1))]
        ours, theirs = (torch.stack(side).cpu() for side in zip(*pairs, strict=True))
    solved = assign_factors(ours, theirs)
    return solved.perm, solved.objective


def _cost_matrix(a: Weights, b: Weights, cost: str, x: Tensor | None) -> Callable[[int], Tensor]:
    """The function p -> (m, m) float64 cost matrix of pair p (one at a time: they can be big)."""
    if cost == "weights":
        return lambda p: _weights_cost(a, b, p)
    if cost == "activations":
        assert x is not None
        return lambda p: _activations_cost(a, b, p, x)
    if x is not None:
        return lambda p: sampled_deficit_cost(a, b, p, x)
    for name, weights in (("a", a), ("b", b)):
        remedy = "The closed form of cost='gap' has none: pass x, on which to measure it"
        check_no_biases(weights, name, remedy)
    # Of every pair at once: it waits for the device.
    ones = ((a.w2 == 1) & (b.w2 == 1)).flatten(1).all(1).tolist()

    def gap_cost_of_pair(p: int) -> Tensor:
        if ones[p] and a.w2.shape[1] == 1:
            return gap_cost(a.w1[p], b.w1[p])
        return deficit_cost(a.w1[p], a.w2[p], b.w1[p], b.w2[p])

    return gap_cost_of_pair


def _weights_cost(a: Weights, b: Weights, p: int) -> Tensor:
    ours, theirs = _neurons(a, b, p)
    return -(ours @ theirs.T)


def _biased(a: Weights, b: Weights) -> bool:
    """Whether biases have products: absent ones are zero."""
    return a.b1 is not None and b.b1 is not None


def _neurons(a: Weights, b: Weights, p: int) -> tuple[Tensor, Tensor]:
    """All weights of each neuron of pair p, in float64: twice (m, d + c), with biases one more."""
    biased = _biased(a, b)

    def rows(net: Weights) -> Tensor:
        parts = [net.w1, net.w2.T, *([net.b1[:, None]] if biased and net.b1 is not None else [])]
        return torch.cat([part.double() for part in parts], 1)

    return rows(a.alone(p)), rows(b.alone(p))


def _activations_cost(a: Weights, b: Weights, p: int, x: Tensor) -> Tensor:
    a, b = a.alone(p), b.alone(p)
    m = len(a.w1)
    inner = torch.zeros(m, m, dtype=torch.float64, device=x.device)
    for block in torch.split(x, _BLOCK):
        active_a, active_b = (
            (block @ net.w1.T + (0 if net.b1 is None else net.b1)).relu().double() for net in (a, b)
        )
        inner += active_a.T @ active_b
    return -inner / len(x)
