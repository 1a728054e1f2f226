# SPDX-License-Identifier: MIT
import math

import pytest
import torch
from compare import assert_close, rounding

from lmc_fast.inner_kernel import kernel_from_inner, weighted_kernels
from lmc_fast.reference.population_loss import relu_kernel


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("norm_u", "norm_v", "inner", "want"),
    [
        (2.0, 3.0, 6.0, 3.0),  # parallel: |u||v| / 2
        (2.0, 3.0, -6.0, 0.0),  # antiparallel
        (2.0, 3.0, 0.0, 6 / (2 * math.pi)),  # orthogonal
        (1.0, 2.0, 1.0, (math.sqrt(3) / 2 + math.pi / 3) / math.pi),  # 60 degrees
        (1.0, 2.0, -1.0, (math.sqrt(3) / 2 - math.pi / 6) / math.pi),  # 120 degrees
        (0.0, 3.0, 0.0, 0.0),
        (0.0, 0.0, 0.0, 0.0),
        (2.0, 3.0, 6.000001, 3.0),  # what rounding makes of a product of parallel vectors
    ],
)
def test_by_hand(norm_u, norm_v, inner, want):
    got = kernel_from_inner(numbers(norm_u), numbers(norm_v), numbers(inner))
    assert_close(got, numbers(want), rounding(4, norm_u * norm_v))


@pytest.mark.parametrize("apart", [0.0, 1e-300, 1e-12, 1e-8, 1e-4, 1.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_vectors_that_are_nearly_parallel(sign, apart):
    generator = torch.Generator().manual_seed(0)
    u, other = torch.randn(2, 40, 7, generator=generator, dtype=torch.float64)
    v = sign * u + apart * other
    a, b = torch.randn(2, 40, 3, generator=generator, dtype=torch.float64)
    got = weighted_kernels(u, a, v, b)
    norms = [torch.linalg.vector_norm(t, dim=1) for t in (u, v, a, b)]
    size = norms[0][:, None] * norms[1] * norms[2][:, None] * norms[3]
    # The products over d and c, and the few operations of the formula, twice.
    assert_close(got, (a @ b.T) * relu_kernel(u, v), rounding(7 + 3 + 10, size))
