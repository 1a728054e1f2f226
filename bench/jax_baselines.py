# SPDX-License-Identifier: MIT
"""The same computations in JAX, compiled with jit, on the CPU.

XLA chooses its threads itself: all cores. Where the other contestants use fewer, JAX is skipped.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

try:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
except ImportError:
    jax = None

Run = Callable[[], Any]


def why_skipped() -> str | None:
    """Return the reason why JAX takes no part, or None when it does."""
    if jax is None:
        return "jax is not installed: pip install 'lmc_fast[bench]'"
    if torch.get_num_threads() < len(os.sched_getaffinity(0)):
        return "jax always uses all cores"
    return None


def contestant(build: Callable[..., Run], *arguments: Any) -> dict[str, Run]:
    """Return ``{"JAX jit": build(*arguments)}``, or nothing when JAX is skipped."""
    return {"JAX jit": build(*arguments)} if why_skipped() is None else {}


def as_tensor(result: Any) -> Tensor:
    """Read what any contestant returns, JAX or torch."""
    return result if isinstance(result, Tensor) else torch.tensor(np.asarray(result))


def _compiled(function: Callable[..., Any], *tensors: Tensor) -> Run:
    arrays = [jnp.asarray(t.detach().numpy()) for t in tensors]
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*arrays))


def two_layer_relu(x: Tensor, w1: Tensor, w2: Tensor, df: Tensor) -> Run:
    """Return f and the gradients to w1 and w2 of <f, df>."""

    def step(x: Any, w1: Any, w2: Any, df: Any) -> Any:
        f, pull = jax.vjp(lambda w1, w2: jnp.maximum(x @ w1.T, 0) @ w2.T, w1, w2)
        return (f, *pull(df))

    return _compiled(step, x, w1, w2, df)


def path_losses(
    a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], x: Tensor, y: Tensor, alphas: Tensor
) -> Run:
    """Two products, then the squared loss at one alpha after the other (lax.map)."""

    def curve(w1_a: Any, w2_a: Any, w1_b: Any, w2_b: Any, x: Any, y: Any, alphas: Any) -> Any:
        z_a, z_b = x @ w1_a.T, x @ w1_b.T

        def loss(alpha: Any) -> Any:
            h = jnp.maximum((1 - alpha) * z_a + alpha * z_b, 0)
            f = h @ ((1 - alpha) * w2_a + alpha * w2_b).T
            return ((f - y) ** 2).sum(1).mean() / 2

        return jax.lax.map(loss, alphas)

    return _compiled(curve, *a, *b, x, y, alphas.to(x.dtype))


def population_loss(w1: Tensor, v1: Tensor) -> Run:
    """Gradients to w1 (S, m, d) of the closed-form loss against v1 (M, d)."""

    def kernel(u: Any, v: Any) -> Any:
        norms = jnp.linalg.norm(u, axis=-1)[:, None] * jnp.linalg.norm(v, axis=-1)
        cos = jnp.clip(u @ v.T / norms, -1 + 1e-15, 1 - 1e-15)
        sine = jnp.sqrt(1 - cos * cos)
        return norms * (sine + (jnp.pi - jnp.arccos(cos)) * cos) / (2 * jnp.pi)

    def loss(u: Any, v: Any) -> Any:
        return (kernel(u, u).sum() - 2 * kernel(u, v).sum() + kernel(v, v).sum()) / 2

    return _compiled(jax.vmap(jax.grad(loss), in_axes=(0, None)), w1, v1)


def gradient_descent(start: Tensor, x: Tensor, y: Tensor, lr: float, batches: Tensor) -> Run:
    """Return S students (S, m, d) after one step for every row of sample numbers in batches."""

    def loss(w1: Any, xs: Any, ys: Any) -> Any:
        return ((jnp.maximum(xs @ w1.T, 0).sum(1, keepdims=True) - ys) ** 2).mean() / 2

    gradients = jax.vmap(jax.grad(loss), in_axes=(0, None, None))

    def train(w1: Any, x: Any, y: Any, batches: Any) -> Any:
        whole = batches.shape[1] == x.shape[0]

        def step(w1: Any, chosen: Any) -> Any:
            xs, ys = (x, y) if whole else (x[chosen], y[chosen])
            return w1 - lr * gradients(w1, xs, ys), None

        return jax.lax.scan(step, w1, batches)[0]

    return _compiled(train, start, x, y, batches)
