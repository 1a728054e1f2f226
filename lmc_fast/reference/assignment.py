# SPDX-License-Identifier: MIT
"""Linear assignment in plain numpy: the solution by shortest augmenting paths, and its proof."""

import numpy as np
from numpy.typing import NDArray


def assign(cost: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Permutation (m,) and prices v (m,) of one matrix (m, m).

    Rows in order; each takes the nearest free column, at distances over the reduced costs
    c_ij - u_i - v_j, and shifts the assignments on the way there (Crouse 2016, section III).
    """
    m = len(cost)
    u, v = np.zeros(m), np.zeros(m)
    column_of, row_of = np.full(m, -1), np.full(m, -1)
    for root in range(m):
        distance, before = np.full(m, np.inf), np.full(m, -1)
        settled = np.zeros(m, bool)
        i, reached = root, 0.0
        while i >= 0:
            through = reached + cost[i] - u[i] - v
            nearer = ~settled & (through < distance)
            distance[nearer], before[nearer] = through[nearer], i
            column = int(np.where(settled, np.inf, distance).argmin())
            reached, settled[column] = distance[column], True
            i = row_of[column]
        u[root] += reached
        on_tree = settled & (row_of >= 0)
        u[row_of[on_tree]] += reached - distance[on_tree]
        v[settled] -= reached - distance[settled]
        while i != root:
            i = before[column]
            row_of[column] = i
            column_of[i], column = column, column_of[i]
    return column_of, v


def certificate(
    cost: NDArray[np.float64], perm: NDArray[np.int64], v: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float]:
    """u (m,), duality gap and largest violation of u_i + v_j <= c_ij, for any perm and v.

    u_i = min_j (c_ij - v_j) is the best for given v. By weak duality sum(u) + sum(v) is a lower
    bound on every permutation's cost.
    """
    u = (cost - v).min(1)
    gap = cost[np.arange(len(cost)), perm].sum() - u.sum() - v.sum()
    return u, float(gap), float(max(0.0, (u[:, None] + v - cost).max()))
