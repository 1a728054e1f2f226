# SPDX-License-Identifier: MIT
"""Local search over matchings by the barrier itself, which assignment costs only stand in for."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .barrier import barrier
from .curves import as_alphas
from .losses import check_inputs, check_targets
from .matching import Matching
from .permutation_check import reorder
from .reference.population_loss import input_scale
from .segment_moves import Moves, PopulationMoves, SampledMoves
from .weights import Weights, as_permutation, as_teacher, as_weights, check_same_architecture

# A gain below this share of the zero network's loss may be rounding.
_GAIN = 1e-12


@dataclass(frozen=True)
class Refinement(Matching):
    """A matching that :func:`refine` found; ``cost`` is NaN, since no cost matrix chose it.

    Attributes
    ----------
    before, after : float64 Tensor, shape (P,)
        Barrier (``"chord"``, at 25 alphas) of the matching it began with, and its own.
    """

    before: Tensor
    after: Tensor


def refine(
    a: object,
    b: object,
    matching: Matching,
    *,
    teacher: object = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
    loss: str = "mse",
    alphas: int | Sequence[float] | Tensor = 5,
    rounds: int = 100,
    three_cycles: int = 20_000,
    inputs: str = "gaussian",
    radius: float = 1.0,
    seed: int = 0,
) -> Refinement:
    """Improve a matching by moves of two and three neurons that lower the barrier.

    Parameters
    ----------
    a, b : network
        Anything :func:`lmc_fast.as_weights` reads; P networks each, of one shape, dtype, device.
    matching : Matching
        Where the search begins, such as ``match(a, b)``.
    teacher, x, y, loss, inputs, radius
        What the barrier is taken of, as for :func:`lmc_fast.barrier`.
    alphas : int or sequence of float
        Where the search looks at the loss; with more of them it is slower in proportion. See
        :func:`lmc_fast.path_losses`; the two ends, which no permutation changes, are left out.
    rounds : int
        At most as many passes over all pairs of neurons.
    three_cycles : int
        At most as many cycles of three neurons are tried in a pass: all if there are no more (for
        m = 40 there are 19,760), else some drawn at random. 0 tries pairs alone.
    seed : int
        Of the order in which moves are tried. A pair's result does not depend on its place among
        the P.

    Returns
    -------
    Refinement
        ``method`` is that of ``matching`` with ``"+refine"``. Its barrier ``after`` is never above
        ``before``.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead.

    Notes
    -----
    What is lowered is the largest excess of the loss over the chord at ``alphas``. A pass goes
    through all pairs of neurons in a random order, m pairs at a time, and makes the best swap of
    each m if it lowers that; a pass without a swap is followed by one over cycles of three; the
    search ends when neither finds anything. (Gains below 1e-12 of the loss of the zero network do
    not count, and the excess is computed anew after each move.) Since the loss may be larger
    between the alphas, the result is measured once more by :func:`lmc_fast.barrier` at 25, and a
    pair for which that is not lower than before keeps the matching it came with.

    A move is looked at first at the alpha where the excess is largest, and elsewhere only if it
    lowers it there. In closed form a move takes O(A) kernels, the first pass O(A m^2 (m + M)) more,
    and a move that is made O(A m^2); on samples a move takes O(A n c) operations. See
    :mod:`lmc_fast.segment_moves`.

    In closed form and for mse the loss at one alpha is a sum over pairs of interpolated neurons, so
    that its minimum is a quadratic assignment problem (Koopmans and Beckmann, Econometrica 25,
    1957): no matrix of costs is exact, and a local search is what is left for m > 8 (below, see
    :func:`lmc_fast.best_matching`).
    """
    a, b = as_weights(a, "a"), as_weights(b, "b")
    check_same_architecture(a, b)
    if not isinstance(matching, Matching):
        raise TypeError(
            f"matching must be a Matching, such as match(a, b); got {type(matching).__name__}"
        )
    for name, value in (("rounds", rounds), ("three_cycles", three_cycles)):
        if value < 0:
            raise ValueError(f"{name} must be at least 0; got {value}")
    points = as_alphas(alphas)
    points = points[(points > 0) & (points < 1)]
    if len(points) == 0:
        raise ValueError("alphas must have a point between 0 and 1, such as alphas=3; got none")
    started = time.perf_counter()

    def judge(perm: Tensor) -> tuple[Tensor, Tensor]:
        other = reorder(b, perm, "b")
        found = barrier(
            a, other, teacher=teacher, x=x, y=y, loss=loss, inputs=inputs, radius=radius
        )
        return found.height.cpu(), found.curve.losses[:, [0, -1]].cpu()

    with torch.no_grad():
        given = as_permutation(matching.perm.cpu(), a.sizes[0], a.sizes[1])
        before, ends = judge(given)
        make = _moves_of_pair(a, b, teacher, x, y, loss, points, inputs, radius)
        perm = given.clone()
        for p, (start, end) in enumerate(ends.tolist()):
            chord = ((1 - points) * start + points * end).to(a.w1.device)
            random = np.random.default_rng(seed)
            first = perm[p].to(a.w1.device)
            perm[p] = _search(make(p), first, chord, rounds, three_cycles, random).cpu()
        after, _ = judge(perm)
        lower = after < before
        perm = torch.where(lower[:, None], perm, given)
        after = torch.where(lower, after, before)
    seconds = matching.seconds + time.perf_counter() - started
    costs = torch.full((len(perm),), torch.nan, dtype=torch.float64)
    return Refinement(perm, costs, seconds, f"{matching.method}+refine", before, after)


def _moves_of_pair(
    a: Weights, b: Weights, teacher: object, x: Tensor | None, y: Tensor | None, loss: str,
    alphas: Tensor, inputs: str, radius: float,
) -> Callable[[int], Moves]:  # fmt: skip
    """The function p -> Moves of pair p; :func:`lmc_fast.barrier` has checked the arguments."""
    _, _, d, c = a.sizes
    if x is None:
        target = as_teacher(teacher, d, c)
        scale = input_scale(inputs, radius, d)
        return lambda p: PopulationMoves(a, b, p, target, alphas, scale)
    x = check_inputs(x, d, a.w1.dtype, a.w1.device)
    if teacher is not None:
        y = as_teacher(teacher, d, c).targets(x)
    y = check_targets(y, loss, len(x), c, x.dtype, x.device)
    return lambda p: SampledMoves(a, b, p, x, y, loss, alphas)


def _search(
    moves: Moves, perm: Tensor, chord: Tensor, rounds: int, three_cycles: int,
    random: np.random.Generator,
) -> Tensor:  # fmt: skip
    """``perm`` (m,) after the search that :func:`refine` describes, chord (A,)."""
    m = len(perm)
    least = _GAIN * moves.zero_loss
    excess = moves.start(perm) - chord
    value = _height(excess)

    def try_all(candidates: Iterator[Tensor]) -> bool:
        nonlocal perm, excess, value
        improved = False
        for block in candidates:
            chosen = _best(moves, block.to(perm.device), chord, excess, value - least)
            if chosen is None:
                continue
            trial = perm.clone()
            trial[chosen] = perm[chosen.roll(-1)]
            found = moves.start(trial) - chord
            if bool(_height(found) < value - least):
                perm, excess, value, improved = trial, found, _height(found), True
            else:
                moves.start(perm)
        return improved

    for _ in range(rounds):
        if bool(value <= 0):
            break
        if try_all(_blocks(_swaps(m, random), min(m, moves.together(2)))):
            continue
        if not try_all(_blocks(_cycles(m, three_cycles, random), moves.together(3))):
            break
    return perm


def _best(
    moves: Moves, block: Tensor, chord: Tensor, excess: Tensor, below: Tensor
) -> Tensor | None:
    """The move of least height among ``block`` (C, L), or None if no height is ``below``.

    The excess (A,) is that of now. Most moves raise it where it is largest, so that this alpha
    comes first; only those that stay below are looked at at the next.
    """
    heights = block.new_zeros(len(block), dtype=torch.float64)
    for point in excess.argsort(descending=True).tolist():
        heights = torch.maximum(heights, moves.after(block, point) - chord[point])
        keep = heights < below
        block, heights = block[keep], heights[keep]
        if len(block) == 0:
            return None
    return block[heights.argmin()]


def _height(excess: Tensor) -> Tensor:
    """Largest excess over the chord, at least 0: (A,) -> ()."""
    return excess.amax().clamp_min(0)


def _swaps(m: int, random: np.random.Generator) -> np.ndarray:
    """All pairs of neurons, in a random order: (m (m - 1) / 2, 2)."""
    return random.permutation(np.stack(np.triu_indices(m, 1), axis=1))


def _cycles(m: int, limit: int, random: np.random.Generator) -> np.ndarray:
    """All cycles of three neurons in a random order, or ``limit`` drawn ones: (C, 3)."""
    if m < 3 or limit == 0:
        return np.empty((0, 3), dtype=np.int64)
    if m * (m - 1) * (m - 2) // 3 <= limit:
        i, k, last = np.indices((m, m, m)).reshape(3, -1)
        # Each cycle is written once, from its smallest neuron on.
        first = (i < k) & (i < last) & (k != last)
        return random.permutation(np.stack([i, k, last], axis=1)[first])
    i = random.integers(m, size=limit)
    k = random.integers(m - 1, size=limit)
    k += k >= i
    last = random.integers(m - 2, size=limit)
    last += last >= np.minimum(i, k)
    last += last >= np.maximum(i, k)
    return np.stack([i, k, last], axis=1)


def _blocks(moves: np.ndarray, size: int) -> Iterator[Tensor]:
    return iter(torch.split(torch.from_numpy(moves), size)) if len(moves) else iter(())
