# SPDX-License-Identifier: MIT
"""Sharpness: the largest Hessian eigenvalue of the population loss, which bounds the step size.

Gradient descent with step lr is stable around a minimum while lr < 2 / sharpness, the edge of
stability (Cohen et al., "Gradient descent on neural networks typically occurs at the edge of
stability", ICLR 2021, arXiv 2103.00065).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .losses import check_inputs
from .ops.population_loss import OP as POPULATION_LOSS
from .reference.population_loss import input_scale
from .weights import as_teacher, as_weights

_Product = Callable[[Tensor], Tensor]
_Products = Callable[[Tensor, Tensor], _Product]

# Balances the h^2 of a central difference against eps / h.
_STEP = 6e-6
# A step must stay small against every living neuron: the curvature of one grows as 1 / |u|.
_STEP_PER_NEURON = 1e-3


def sharpness(
    w1: Tensor,
    w2: Tensor | None,
    teacher: object = None,
    inputs: str = "gaussian",
    radius: float = 1.0,
    *,
    x: Tensor | None = None,
    iterations: int = 200,
    tol: float = 1e-6,
    seed: int = 0,
) -> Tensor:
    """Largest eigenvalue of the Hessian in w1 of the population's or the samples' squared loss.

    Power iteration, improved to the largest Ritz value over all its iterates (Lanczos with full
    reorthogonalisation; Golub and Van Loan, Matrix Computations, section 10.1), so that a negative
    eigenvalue of larger size does not mislead it. A Hessian-vector product is a central difference
    of the closed-form gradient; on n samples it is J^T J / n times the vector, J being the outputs'
    derivative, since a ReLU network is piecewise linear in w1. A student's value does not depend on
    the other students, to the last bit.

    Parameters
    ----------
    w1 : Tensor, shape (S, m, d) or (m, d)
    w2 : Tensor, shape (S, c, m) or (c, m), or None
        None means one output of ones.
    teacher, inputs, radius
        As for :func:`lmc_fast.population_loss`; the teacher is needed without x.
    x : Tensor, shape (n, d), optional
        Samples, instead of the population. Their targets do not matter.
    iterations : int
        Most Hessian-vector products, two gradients or two passes over the samples each.
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

    Raises
    ------
    ValueError
        Neither or both of teacher and x, or what does not fit the students.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1; got {iterations}")
    weights = as_weights(w1 if w2 is None else (w1, w2), "student")
    w1, w2 = weights.w1.detach().double(), weights.w2.detach().double()
    _, m, d, c = weights.sizes
    if (teacher is None) == (x is None):
        raise ValueError(
            "sharpness needs a teacher, for the population's loss, or samples x (n, d); "
            f"got {'neither' if x is None else 'both'}"
        )
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(m, d, generator=generator, dtype=torch.float64).to(w1.device)
    if x is not None:
        x = x.double() if isinstance(x, Tensor) else x
        samples = check_inputs(x, d, w1.dtype, w1.device).detach()
        products = _sample_products(samples)
    else:
        v1, v2 = (t.to(w1.device) for t in as_teacher(teacher, d, c))
        products = _population_products(v1, v2, input_scale(inputs, radius, d))

    def largest(neurons: Tensor, outputs: Tensor) -> Tensor:
        return _largest_eigenvalue(neurons, products(neurons, outputs), start, iterations, tol)

    # One by one: sums over a batch, and when it stops, would depend on who else is in it. And
    # copies, since a matrix product may sum differently from another address.
    pairs = zip(w1, w2, strict=True)
    return torch.stack([largest(*(w.clone() for w in student)) for student in pairs])


def _population_products(v1: Tensor, v2: Tensor, scale: float) -> _Products:
    """Hessian-vector products of the population loss, by central differences."""

    def at(neurons: Tensor, outputs: Tensor) -> _Product:
        norms: Tensor = torch.linalg.vector_norm(neurons, dim=1)
        alive = norms[norms > 0]
        if len(alive) == 0:
            return torch.zeros_like
        step = min(_STEP * float(alive.max()), _STEP_PER_NEURON * float(alive.min()))
        pair = outputs.expand(2, *outputs.shape)

        def product(direction: Tensor) -> Tensor:
            move = step * direction
            # The op itself: what was checked above is not checked again in every iteration.
            args = (torch.stack([neurons + move, neurons - move]), pair, v1, v2, scale)
            above, below = POPULATION_LOSS(*args, [True, False])[1]
            return (above - below) / (2 * step)  # type: ignore[no-any-return]

        return product

    return at


def _sample_products(x: Tensor) -> _Products:
    """Hessian-vector products of the squared loss on x (n, d)."""

    def at(neurons: Tensor, outputs: Tensor) -> _Product:
        active = (x @ neurons.T > 0).double()

        def product(direction: Tensor) -> Tensor:
            moved = (active * (x @ direction.T)) @ outputs.T  # (n, c)
            return (active * (moved @ outputs)).T @ x / len(x)

        return product

    return at


def _largest_eigenvalue(
    w1: Tensor, hessian: _Product, start: Tensor, iterations: int, tol: float
) -> Tensor:
    """Of the Hessian at w1 (m, d), which ``hessian`` multiplies with a direction (m, d)."""
    alive = torch.linalg.vector_norm(w1, dim=1, keepdim=True) > 0
    if not bool(alive.any()):
        return w1.new_zeros(())
    q = (alive * start).flatten()
    q = q / torch.linalg.vector_norm(q)
    basis = q[None]
    # The tridiagonal matrix is on the host, for any device: it is tiny and decides what comes next.
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        product = (alive * hessian(q.view_as(w1))).flatten()
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
