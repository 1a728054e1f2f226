# SPDX-License-Identifier: MIT
"""The loss barrier modulo permutation of two-layer ReLU networks, fast and exact."""

from .assignment import Assignment, assign, assign_factors
from .backend import Backend, backend
from .backend import version as _version
from .barrier import Barrier, barrier, barrier_height
from .best_matching import best_matching
from .canonical import canonicalize
from .data import Dataset, digits, mnist, sample_inputs, teacher
from .matching import Matching, match
from .modules import (
    ModuleMatching,
    PermutationGraph,
    match_modules,
    module_barrier,
    permutation_graph,
)
from .nets import TwoLayerReLU, init_students
from .ops.path_losses import PathLosses, path_losses
from .ops.population_loss import population_loss
from .ops.population_path_losses import population_path_losses
from .ops.train_ensemble import EnsembleResult, train_ensemble
from .ops.two_layer_relu import two_layer_relu
from .refine import Refinement, refine
from .sharpness import sharpness
from .sparsity import alive_count, alive_fraction, hoyer, neuron_strengths, participation_ratio
from .theory import Certificate, neuron_types, sample_global_minima, zero_barrier_certificate
from .trained_certificate import TrainedCertificate, trained_certificate
from .training import train
from .weights import Weights, as_weights

__all__ = [
    "Assignment",
    "Backend",
    "Barrier",
    "Certificate",
    "Dataset",
    "EnsembleResult",
    "Matching",
    "ModuleMatching",
    "PathLosses",
    "PermutationGraph",
    "Refinement",
    "TrainedCertificate",
    "TwoLayerReLU",
    "Weights",
    "alive_count",
    "alive_fraction",
    "as_weights",
    "assign",
    "assign_factors",
    "backend",
    "barrier",
    "barrier_height",
    "best_matching",
    "canonicalize",
    "digits",
    "hoyer",
    "init_students",
    "match",
    "match_modules",
    "mnist",
    "module_barrier",
    "neuron_strengths",
    "neuron_types",
    "participation_ratio",
    "path_losses",
    "permutation_graph",
    "population_loss",
    "population_path_losses",
    "refine",
    "sample_global_minima",
    "sample_inputs",
    "sharpness",
    "teacher",
    "train",
    "train_ensemble",
    "trained_certificate",
    "two_layer_relu",
    "zero_barrier_certificate",
]

__version__ = _version()
