# SPDX-License-Identifier: MIT
"""Linear assignment problems, solved exactly and with a proof."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import _native
from .weights import check_float_dtype


@dataclass(frozen=True)
class Assignment:
    """P assignments of m rows to m columns, and the dual solutions that prove them the best.

    All tensors are on the CPU; those of a single problem, given without its P, lack the P too.

    Attributes
    ----------
    perm : int64 Tensor, shape (P, m)
        Row i has column ``perm[p, i]``.
    objective : float64 Tensor, shape (P,)
        Sum of the assigned costs, over rows in order.
    u, v : float64 Tensor, shape (P, m)
        Dual variables of rows and columns: ``u[i] + v[j] <= cost[i, j]``. A good ``start`` for a
        similar problem is its ``v``.
    gap : float64 Tensor, shape (P,)
        ``objective - u.sum() - v.sum()``, as the sum of the assigned entries' ``cost - u - v``. No
        permutation can be better than this one by more, the violation aside: it is zero but for
        rounding.
    violation : float64 Tensor, shape (P,)
        The largest ``u[i] + v[j] - cost[i, j]``, or zero: rounding too. No permutation costs less
        than ``objective - gap - m * violation``. The differences in it and in ``gap`` are taken as
        if exactly, so that this holds however large u and v are.
    """

    perm: Tensor
    objective: Tensor
    u: Tensor
    v: Tensor
    gap: Tensor
    violation: Tensor


def assign(cost: Tensor, start: Tensor | None = None, threads: int | None = None) -> Assignment:
    """The permutation of least cost of each of P matrices.

    Parameters
    ----------
    cost : float32 or float64 Tensor, shape (P, m, m) or (m, m)
        On the CPU; finite, at most 1e300 in size. It is read as it is; arithmetic is float64. P = 0
        and m = 0 are legal.
    start : float64 Tensor, shape (P, m) or (m,), optional
        Dual variables of the columns to start from, such as those of a similar problem. Any values
        up to 1e300 are legal: they change how long it takes, and which of several best permutations
        is found. One so large that costs are lost in its rounding is left out.
    threads : int, optional
        Default: torch's number. Problems are solved side by side, a problem by one thread.

    Returns
    -------
    Assignment
        The same bits for any number of threads and whatever the other problems are.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was wanted, and what to pass instead; before anything is solved.

    Notes
    -----
    Three rounds of the auction algorithm [1]_ find good dual variables, from which shortest
    augmenting paths [2]_ [3]_ find the best permutation. Both look at short lists of a row's
    cheapest columns, which stay correct because v only falls, and read a whole row only when its
    list does not settle the question: some four times in all. Columns with the same cost in all
    rows, and rows with the same cost in all columns (dead neurons), are treated together. Up to
    m = 256 an augmenting row reduction [2]_ stands for the auction, and whole rows for lists.

    Pairs may be forbidden by huge costs such as 1e18. Where ``gap + m * violation`` exceeds 1e-9 of
    the assigned costs' sizes, because such costs have come into u and v, the problem is solved
    again from v = 0 and without the auction, which keeps them out unless they must be paid.

    Memory is the matrix and at most 2 KiB per row and thread. Ctrl-C stops it.

    Costs of rank one, such as inner products of neurons of a single input, are a slow case: one
    thread took 2.7 s at m = 2000, where inner products in ten dimensions take 0.04 s. (SciPy's
    solver takes two to five times as long.)

    References
    ----------
    .. [1] Bertsekas, The auction algorithm: a distributed relaxation method for the assignment
       problem, Annals of Operations Research 14, 1988.
    .. [2] Jonker and Volgenant, A shortest augmenting path algorithm for dense and sparse linear
       assignment problems, Computing 38, 1987.
    .. [3] Crouse, On implementing 2D rectangular assignment algorithms, IEEE Transactions on
       Aerospace and Electronic Systems 52, 2016.

    Examples
    --------
    >>> best = assign(torch.tensor([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]]))
    >>> best.perm, best.objective, best.gap
    (tensor([1, 0, 2]), tensor(5., dtype=torch.float64), tensor(0., dtype=torch.float64))
    """
    single = _check(cost, "cost", "(P, m, m) or (m, m)", 2)
    if cost.shape[-1] != cost.shape[-2]:
        raise ValueError(
            f"cost must be square, (P, m, m) or (m, m); got {tuple(cost.shape)}. Pad it with rows "
            "or columns of zeros"
        )
    return _run(_native.assignment, (cost,), single, start, threads)


def assign_factors(
    a: Tensor, b: Tensor, start: Tensor | None = None, threads: int | None = None
) -> Assignment:
    """The permutation that maximises the sum of a_i . b_perm(i), without the (m, m) matrix.

    The same as ``assign(-a @ b.mT)`` in memory of a few KiB per row: for m at which the matrix has
    no place. A row of costs takes m d multiplications each time it is read, so that for small m and
    large d the matrix is faster.

    Parameters
    ----------
    a, b : Tensor, shape (P, m, d) or (m, d)
        On the CPU, of one shape and dtype, float32 or float64; finite, at most sqrt(1e300 / d).
    start, threads
        As for :func:`assign`.

    Returns
    -------
    Assignment
        Costs are -a_i . b_j, summed in float64 over d in order.
    """
    single = _check(a, "a", "(P, m, d) or (m, d)", 2)
    _check(b, "b", "(P, m, d) or (m, d)", 2)
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(
            "b must have a's shape and dtype, "
            f"{tuple(a.shape)} {a.dtype}; got {tuple(b.shape)} {b.dtype}. Pad the smaller one with "
            "zeros, convert one with .to(dtype)"
        )
    return _run(_native.assignment_factors, (a, b), single, start, threads)


def _check(array: Tensor, name: str, letters: str, single: int, dtype: bool = True) -> bool:
    """Raise unless ``array`` is a CPU tensor of ``single`` dimensions, or one more: whether one."""
    if not isinstance(array, Tensor):
        raise TypeError(
            f"{name} must be a Tensor; got {type(array).__name__}. Convert an array with "
            "torch.as_tensor"
        )
    if dtype:
        check_float_dtype(array, name)
    if array.device.type != "cpu":
        raise ValueError(
            f"{name} must be on the CPU; got {array.device}. Move it with {name}.cpu()"
        )
    if array.ndim not in (single, single + 1):
        raise ValueError(
            f"{name} must have shape {letters}; got {tuple(array.shape)}. Add or remove dimensions "
            "with reshape"
        )
    return array.ndim == single


def _run(
    solve: Callable[..., None],
    given: tuple[Tensor, ...],
    single: bool,
    start: Tensor | None,
    threads: int | None,
) -> Assignment:
    if single:
        given = tuple(t[None] for t in given)
    pairs, m = given[0].shape[:2]
    if start is not None:
        _check(start, "start", "(P, m) or (m,)", 1, dtype=False)
        start = start.double()
        want = (m,) if single else (pairs, m)
        if start.shape != want:
            raise ValueError(
                f"start must have shape {want}, a number for each column; got {tuple(start.shape)}"
            )
        start = start.reshape(pairs, m)

    def new(*shape: int, **kind: Any) -> Tensor:
        return torch.empty(shape, **({"dtype": torch.float64} | kind))

    results = Assignment(
        new(pairs, m, dtype=torch.int64),
        new(pairs),
        new(pairs, m),
        new(pairs, m),
        new(pairs),
        new(pairs),
    )
    solve(
        *(t.detach() for t in given),
        None if start is None else start.detach(),
        *vars(results).values(),
        torch.get_num_threads() if threads is None else threads,
    )
    return Assignment(*(t[0] for t in vars(results).values())) if single else results
