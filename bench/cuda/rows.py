# SPDX-License-Identifier: MIT
"""All rows, and which of them are measured."""

import torch

from ..timer import OURS
from .case import Row
from .networks import Network
from .paths import LOOP as ALPHA_LOOP
from .paths import PRODUCTS, Path
from .population import AUTOGRAD, CLOSED, PopulationDescent, PopulationLoss
from .products import LEVEL_1, TF32_OFF, TF32_ON
from .samples import BMM, LOOP, ONE, Samples

ROWS: list[Row] = [
    Network(
        65536,
        65536,
        64,
        level_1=True,
        targets=((TF32_OFF, OURS, 6), (TF32_OFF, LEVEL_1, 2)),
    ),
    Network(16384, 16384, 784, targets=((TF32_OFF, OURS, 3), (TF32_ON, OURS, 1))),
    Network(16384, 16384, 784, c=10),
    Network(4096, 4096, 64, dtype=torch.float64),
    Path(
        16384,
        16384,
        64,
        A=101,
        level_1=True,
        targets=((ALPHA_LOOP, OURS, 60), (PRODUCTS, OURS, 20)),
    ),
    Path(16384, 16384, 784, A=25, targets=((ALPHA_LOOP, OURS, 25),)),
    Path(16384, 16384, 784, c=10, A=25),
    Path(4096, 4096, 64, A=25, dtype=torch.float64),
    Samples(
        S=1024,
        n=512,
        m=64,
        d=10,
        steps=200,
        targets=((BMM, OURS, 5), (ONE, OURS, 5), (LOOP, OURS, 1000)),
    ),
    Samples(
        S=1024,
        n=4096,
        m=100,
        d=20,
        steps=1000,
        batch=64,
        targets=((BMM, OURS, 8), (ONE, OURS, 8)),
    ),
    Samples(S=1024, n=0, m=100, d=20, steps=400, batch=64, M=10, targets=((BMM, OURS, 8),)),
    PopulationLoss(256, 256, 8, 16, targets=((CLOSED, OURS, 5), (AUTOGRAD, OURS, 5))),
    PopulationDescent(256, 256, 8, 16, steps=100, targets=((CLOSED, OURS, 5), (AUTOGRAD, OURS, 5))),
]


def chosen_rows(quick: bool, only: str = "") -> list[Row]:
    """Those whose op and size have the text; smaller and without targets if quick."""
    rows = [row.quick() for row in ROWS] if quick else ROWS
    return [row for row in rows if only in f"{row.op} {row}"]
