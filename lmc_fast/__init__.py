# SPDX-License-Identifier: MIT
"""The loss barrier modulo permutation of two-layer ReLU networks, fast and exact."""

from .backend import Backend, backend
from .backend import version as _version
from .barrier import Barrier, barrier, barrier_height
from .data import Dataset, digits, mnist, sample_inputs, teacher
from .matching import Matching, match
from .nets import TwoLayerReLU, init_students
from .ops.path_losses import PathLosses, path_losses
from .ops.population_loss import population_loss, population_path_losses
from .ops.train_ensemble import EnsembleResult, train_ensemble
from .ops.two_layer_relu import two_layer_relu
from .sparsity import alive_count, alive_fraction, hoyer, neuron_strengths, participation_ratio
from .weights import Weights, as_weights

__all__ = [
    "Backend",
    "Barrier",
    "Dataset",
    "EnsembleResult",
    "Matching",
    "PathLosses",
    "TwoLayerReLU",
    "Weights",
    "alive_count",
    "alive_fraction",
    "as_weights",
    "backend",
    "barrier",
    "barrier_height",
    "digits",
    "hoyer",
    "init_students",
    "match",
    "mnist",
    "neuron_strengths",
    "participation_ratio",
    "path_losses",
    "population_loss",
    "population_path_losses",
    "sample_inputs",
    "teacher",
    "train_ensemble",
    "two_layer_relu",
]

__version__ = _version()
