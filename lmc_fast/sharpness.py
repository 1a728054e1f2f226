# SPDX-License-Identifier: MIT
"""Sharpness: the largest Hessian eigenvalue of the population loss, which bounds the step size.

Gradient descent with step lr is stable around a minimum while lr < 2 / sharpness.
"""

import torch
from torch import Tensor

from .ops.population_loss import population_loss
from .weights import as_weights

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

    Power iteration for all students together, improved to the largest Ritz value over all its
    iterates (Lanczos with full reorthogonalisation), so that a negative eigenvalue of larger
    size does not mislead it. A Hessian-vector product is a central difference of the closed-form
    gradient.

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
        Neurons that are exactly zero are left out, since the loss has a kink there and gradient
        descent does not move them; 0 for a network of zeros.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1; got {iterations}")
    weights = as_weights(w1 if w2 is None else (w1, w2), "student")
    w1, w2 = weights.w1.detach().double(), weights.w2.detach().double()
    students, m, d, _ = weights.sizes
    norms: Tensor = torch.linalg.vector_norm(w1, dim=2, keepdim=True)
    alive = norms > 0
    smallest = torch.where(alive, norms, torch.inf).amin(1, keepdim=True)
    longest = torch.minimum(_STEP * norms.amax(1, keepdim=True), _STEP_PER_NEURON * smallest)
    step: Tensor = torch.where(alive.any(1, keepdim=True), longest, 1.0)

    def gradient(at: Tensor) -> Tensor:
        at = at.requires_grad_()
        loss = population_loss(at, w2, teacher, inputs, radius)
        result: Tensor = torch.autograd.grad(loss.sum(), at)[0]
        return result

    def hessian_times(q: Tensor) -> Tensor:
        move = step * q.reshape(students, m, d)
        change = gradient(w1 + move) - gradient(w1 - move)
        return (alive * change / (2 * step)).reshape(students, -1)

    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(m, d, generator=generator, dtype=torch.float64).to(w1.device)
    q = (alive * start).reshape(students, -1)
    q = q / torch.linalg.vector_norm(q, dim=1, keepdim=True).clamp_min(1e-300)
    basis: list[Tensor] = []
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    while True:
        basis.append(q)
        product = hessian_times(q)
        along = (q * product).sum(1)
        # Where the space is exhausted q is zero; the first Rayleigh quotient, which the largest
        # eigenvalue is never below, then fills the place without effect.
        diagonal.append(torch.where(q.any(1), along, diagonal[0]) if diagonal else along)
        previous = torch.stack(basis, dim=1)
        for _ in range(2):  # twice is enough for orthogonality to rounding
            product = product - ((previous @ product[:, :, None]).mT @ previous)[:, 0]
        size = torch.linalg.vector_norm(product, dim=1)
        value, weight = _largest_ritz(diagonal, beside)
        residual = size * weight
        if len(basis) == min(iterations, m * d) or bool((residual <= tol * value.abs()).all()):
            return value
        # Below the noise of the differences there is no new direction left.
        fresh = size > 1e-9 * value.abs()
        q = torch.where(fresh[:, None], product / size.clamp_min(1e-300)[:, None], 0.0)
        beside.append(torch.where(fresh, size, 0.0))


def _largest_ritz(diagonal: list[Tensor], beside: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Largest eigenvalue of each tridiagonal matrix, and |last entry| of its eigenvector: (S,)."""
    matrix = torch.diag_embed(torch.stack(diagonal, dim=1))
    if beside:
        off = torch.stack(beside, dim=1)
        matrix = matrix + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return values[:, -1], vectors[:, -1, -1].abs()
