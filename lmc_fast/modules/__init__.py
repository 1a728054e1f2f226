# SPDX-License-Identifier: MIT
"""Plain feed-forward torch modules of any depth: their permutations, matching and barrier."""

from .barrier import module_barrier
from .graph import Axis, PermutationGraph, permutation_graph
from .matching import ModuleMatching, match_modules

__all__ = [
    "Axis",
    "ModuleMatching",
    "PermutationGraph",
    "match_modules",
    "module_barrier",
    "permutation_graph",
]
