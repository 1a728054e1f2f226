# SPDX-License-Identifier: MIT
"""Sharpness: the largest Hessian eigenvalue of the population loss, which bounds the step size.

Gradient descent with step lr is stable around a minimum while lr < 2 / sharpness, the edge of
stability (Cohen et al., "Gradient descent on neural networks typically occurs at the edge of
stability", ICLR 2021, arXiv 2103.00065).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .ops.population_loss import OP as POPULATION_LOSS
from .reference.population_loss import input_scale
from .weights import as_teacher, as_weights

# Balances the h^2 of a central difference against eps / h.
_STEP = 6e-6
# A step must stay small against every living neuron: the curvature of one grows as 1 / |u|.
_STEP_PER_NEURON = 1e-3


def sharpness(
    w1: Tensor,
    w2: Tensor | None,
    teacher: object,
    inputs: str = "gaussian",
    radius: float = 1.0,
    *,
    iterations: int = 200,
    tol: float = 1e-6,
    seed: int = 0,
) -> Tensor:
    """Largest eigenvalue of the Hessian of the population loss in w1, for S students.

    Power iteration, improved to the largest Ritz value over all its iterates (Lanczos with full
    reorthogonalisation; Golub and Van Loan, Matrix Computations, section 10.1), so that a negative
    eigenvalue of larger size does not mislead it. A Hessian-vector product is a central difference
    of the closed-form gradient. A student's value does not depend on the other students, to the
    last bit.

    Parameters
    ----------
    w1 : Tensor, shape (S, m, d) or (m, d)
    w2 : Tensor, shape (S, c, m) or (c, m), or None
        None means one output of ones.
    teacher, inputs, radius
        As for :func:`lmc_fast.population_loss`.
    iterations : int
        Most Hessian-vector products, two gradients each.
    tol : float
        Stop once the residual |H q - value q| is at most this times the value, which bounds its
        error.
    seed : int
        Of the start vector.

    Returns
    -------
    float64 Tensor, shape (S,)
        On the students' device. Neurons that are exactly zero are left out, since the loss has a
        kink there and gradient descent does not move them; 0 for a network of zeros.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1; got {iterations}")
    weights = as_weights(w1 if w2 is None else (w1, w2), "student")
    w1, w2 = weights.w1.detach().double(), weights.w2.detach().double()
    _, m, d, c = weights.sizes
    v1, v2 = (t.to(w1.device) for t in as_teacher(teacher, d, c))
    scale = input_scale(inputs, radius, d)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(m, d, generator=generator, dtype=torch.float64).to(w1.device)

    def largest(neurons: Tensor, outputs: Tensor) -> Tensor:
        outputs = outputs.expand(2, c, m)

        def gradients(pair: Tensor) -> Tensor:
            # The op itself: what was checked above is not checked again in every iteration.
            args = (pair, outputs, v1, v2, scale, [True, False])
            return POPULATION_LOSS(*args)[1]  # type: ignore[no-any-return]

        return _largest_eigenvalue(neurons, gradients, start, iterations, tol)

    # One by one: sums over a batch, and when it stops, would depend on who else is in it.
    return torch.stack([largest(*student) for student in zip(w1, w2, strict=True)])


def _largest_eigenvalue(
    w1: Tensor, gradients: Callable[[Tensor], Tensor], start: Tensor, iterations: int, tol: float
) -> Tensor:
    """Of the Hessian at w1 (m, d), where ``gradients`` maps (2, m, d) to (2, m, d)."""
    norms: Tensor = torch.linalg.vector_norm(w1, dim=1, keepdim=True)
    alive = norms > 0
    if not bool(alive.any()):
        return w1.new_zeros(())
    step = min(_STEP * float(norms.max()), _STEP_PER_NEURON * float(norms[alive].min()))
    q = (alive * start).flatten()
    q = q / torch.linalg.vector_norm(q)
    basis = q[None]
    # The tridiagonal matrix is on the host, for any device: it is tiny and decides what comes next.
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        move = step * q.view_as(w1)
        above, below = gradients(torch.stack([w1 + move, w1 - move]))
        product = (alive * (above - below) / (2 * step)).flatten()
        diagonal.append(float(q @ product))
        for _ in range(2):  # twice is enough for orthogonality to rounding
            product = product - (basis @ product) @ basis
        size = float(torch.linalg.vector_norm(product))
        value, weight = _largest_ritz(diagonal, beside)
        # A size below the noise of the differences leaves no new direction.
        exhausted = len(diagonal) == min(iterations, w1.numel()) or size <= 1e-9 * abs(value)
        if exhausted or size * weight <= tol * abs(value):
            return w1.new_tensor(value)
        q = product / size
        basis = torch.cat([basis, q[None]])
        beside.append(size)


def _largest_ritz(diagonal: list[float], beside: list[float]) -> tuple[float, float]:
    """Largest eigenvalue of a tridiagonal matrix, and |last entry| of its eigenvector."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if beside:
        off = torch.tensor(beside, dtype=torch.float64)
        matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return float(values[-1]), abs(float(vectors[-1, -1]))
