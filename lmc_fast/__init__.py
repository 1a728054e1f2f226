# SPDX-License-Identifier: MIT
"""The loss barrier modulo permutation of two-layer ReLU networks, fast and exact."""

from .backend import Backend, backend
from .backend import version as _version
from .nets import TwoLayerReLU, init_students
from .ops.path_losses import PathLosses, path_losses
from .ops.population_loss import population_loss, population_path_losses
from .ops.train_ensemble import EnsembleResult, train_ensemble
from .ops.two_layer_relu import two_layer_relu
from .weights import Weights, as_weights

__all__ = [
    "Backend",
    "EnsembleResult",
    "PathLosses",
    "TwoLayerReLU",
    "Weights",
    "as_weights",
    "backend",
    "init_students",
    "path_losses",
    "population_loss",
    "population_path_losses",
    "train_ensemble",
    "two_layer_relu",
]

__version__ = _version()
