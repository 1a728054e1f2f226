# SPDX-License-Identifier: MIT
"""Plain torch's ways of training on samples, squared loss, w2 of ones.

Each function takes what a step needs and the weights w1 (S, m, d), and returns a function that
takes a step on them in place. Buffers are allocated once, masks are not stored, and the update is
part of the last product.
"""

from collections.abc import Callable

import torch
from torch import Tensor

masked = torch.ops.aten.threshold_backward.grad_input


def own_products(x: Tensor, y: Tensor, lr: float, w1: Tensor) -> Callable[[], None]:
    """A product per student: x (S, n, d) and y (S, n, 1) are each student's."""
    S, n, _ = x.shape
    h, f = w1.new_empty(S, n, w1.shape[1]), w1.new_empty(S, n, 1)

    def step() -> None:
        torch.bmm(x, w1.mT, out=h)
        h.relu_()
        torch.sum(h, 2, keepdim=True, out=f)
        f.sub_(y).div_(n)
        masked(f.expand_as(h), h, 0, grad_input=h)
        w1.baddbmm_(h.mT, x, alpha=-lr)

    return step


def one_product(x: Tensor, y: Tensor, lr: float, w1: Tensor) -> Callable[[], None]:
    """All students' neurons in one product: x (n, d) and y (n, 1) are everybody's."""
    (S, m, d), n = w1.shape, len(x)
    neurons = w1.view(S * m, d)
    h, f = w1.new_empty(S, m, n), w1.new_empty(S, 1, n)
    flat, targets = h.view(S * m, n), y.T.contiguous()

    def step() -> None:
        torch.mm(neurons, x.T, out=flat)
        h.relu_()
        torch.sum(h, 1, keepdim=True, out=f)
        f.sub_(targets).div_(n)
        masked(f.expand_as(h), h, 0, grad_input=h)
        neurons.addmm_(flat, x, alpha=-lr)

    return step


def everybodys_products(x: Tensor, y: Tensor, lr: float, w1: Tensor) -> Callable[[], None]:
    """As ``own_products``, but x (n, d) and y (n, 1) are everybody's."""
    return own_products(x.expand(len(w1), -1, -1), y, lr, w1)


def fresh_products(draw: bool, x: Tensor, v1: Tensor, lr: float, w1: Tensor) -> Callable[[], None]:
    """As ``own_products``, on inputs drawn into x for every step and labelled by a teacher (M, d).

    Without ``draw`` the inputs stay what they are.
    """
    (S, n, d), M = x.shape, len(v1)
    z, y = x.new_empty(S * n, M), x.new_empty(S, n, 1)
    descend = own_products(x, y, lr, w1)

    def step() -> None:
        if draw:
            x.normal_()
        torch.mm(x.view(S * n, d), v1.T, out=z)
        z.relu_()
        torch.sum(z.view(S, n, M), 2, keepdim=True, out=y)
        descend()

    return step


def student_loop(w1: Tensor, x: Tensor, y: Tensor, lr: float, steps: int) -> tuple[Tensor, ...]:
    """One student after the other, by autograd; x (n, d) and y (n, 1) are everybody's."""
    finished = []
    for w in w1.clone():
        w.requires_grad_()
        for _ in range(steps):
            loss = ((x @ w.T).relu().sum(1, keepdim=True) - y).square().mean() / 2
            (gradient,) = torch.autograd.grad(loss, w)
            with torch.no_grad():
                w -= lr * gradient
        finished.append(w.detach())
    return (torch.stack(finished),)


def plain(w1: Tensor, x: Tensor, y: Tensor, lr: float, steps: int) -> Tensor:
    """The same steps written down simply: x (n, d) or (S, n, d), y likewise."""
    for _ in range(steps):
        z = x @ w1.mT
        r = (z.relu().sum(2, keepdim=True) - y) / x.shape[-2]
        w1 = w1 - lr * ((z > 0) * r).mT @ x
    return w1
