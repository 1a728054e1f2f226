# SPDX-License-Identifier: MIT
# Arrays are any object with __dlpack__ (torch, numpy, cupy). Outputs are written in place.
from typing import Any

version: str
compiler: str

def cpu_target() -> str: ...
def use_cpu_target(name: str) -> None: ...
def supported_cpu_targets() -> list[str]: ...
def cuda_kernels() -> list[str]: ...

# two_layer_relu
def two_layer_relu_forward(
    x: Any,
    w1: Any,
    b1: Any | None,
    w2: Any,
    b2: Any | None,
    f: Any,
    signs: Any | None,
    threads: int,
) -> None: ...
def two_layer_relu_backward(
    df: Any,
    x: Any,
    w1: Any,
    b1: Any | None,
    w2: Any,
    signs: Any,
    dx: Any | None,
    dw1: Any | None,
    db1: Any | None,
    dw2: Any | None,
    db2: Any | None,
    threads: int,
) -> None: ...
def two_layer_relu_forward_cuda(
    x: Any,
    w1: Any,
    b1: Any | None,
    w2: Any,
    b2: Any | None,
    f: Any,
    signs: Any | None,
    workspace: Any | None,
    terms: int,
    stream: int,
) -> int: ...
def two_layer_relu_backward_cuda(
    df: Any,
    x: Any,
    w1: Any,
    b1: Any | None,
    w2: Any,
    signs: Any,
    dx: Any | None,
    dw1: Any | None,
    db1: Any | None,
    dw2: Any | None,
    db2: Any | None,
    workspace: Any | None,
    terms: int,
    stream: int,
) -> int: ...

# ceiling
def ceiling_multiply_add(sink: Any, rounds: int, threads: int) -> int: ...
def ceiling_copy(source: Any, target: Any, threads: int) -> None: ...

# vector_math
def vector_math(name: str, x: Any, out: Any) -> None: ...

# population_loss
def population_loss(
    w1: Any,
    w2: Any,
    v1: Any,
    v2: Any,
    scale: float,
    loss: Any,
    dw1: Any | None,
    dw2: Any | None,
    threads: int,
) -> None: ...
def population_loss_cuda(
    w1: Any,
    w2: Any,
    v1: Any,
    v2: Any,
    loss: Any,
    dw1: Any | None,
    dw2: Any | None,
    workspace: Any | None,
    scale: float,
    stream: int,
) -> int: ...
def population_path_losses(
    a1: Any,
    a2: Any,
    b1: Any,
    b2: Any,
    v1: Any,
    v2: Any,
    alphas: Any,
    scale: float,
    losses: Any,
    threads: int,
) -> None: ...
def population_path_losses_backward(
    dlosses: Any,
    a1: Any,
    a2: Any,
    b1: Any,
    b2: Any,
    v1: Any,
    v2: Any,
    alphas: Any,
    scale: float,
    da1: Any,
    da2: Any,
    db1: Any,
    db2: Any,
    threads: int,
) -> None: ...

# path_losses: with accuracies the losses are cross entropies and y holds labels
def path_losses(
    w1_a: Any,
    b1_a: Any | None,
    w2_a: Any,
    b2_a: Any | None,
    w1_b: Any,
    b1_b: Any | None,
    w2_b: Any,
    b2_b: Any | None,
    x: Any,
    y: Any,
    alphas: Any,
    losses: Any,
    accuracies: Any | None,
    threads: int,
) -> None: ...
def path_losses_cuda(
    w1_a: Any,
    b1_a: Any | None,
    w2_a: Any,
    b2_a: Any | None,
    w1_b: Any,
    b1_b: Any | None,
    w2_b: Any,
    b2_b: Any | None,
    x: Any,
    y: Any,
    alphas: Any,
    losses: Any,
    accuracies: Any | None,
    workspace: Any | None,
    terms: int,
    stream: int,
) -> int: ...

# assignment: linear assignment of P problems; results are overwritten
def assignment(
    cost: Any,
    start: Any | None,
    perm: Any,
    objective: Any,
    u: Any,
    v: Any,
    gap: Any,
    violation: Any,
    threads: int,
) -> None: ...
def assignment_factors(
    a: Any,
    b: Any,
    start: Any | None,
    perm: Any,
    objective: Any,
    u: Any,
    v: Any,
    gap: Any,
    violation: Any,
    threads: int,
) -> None: ...

# sampled_deficits: adds to squares, mixed and turned
def sampled_deficits(
    z: Any,
    z_other: Any,
    squares: Any,
    mixed: Any,
    turned: Any,
    threads: int,
) -> None: ...

# train_ensemble
def train_ensemble(
    w1: Any,
    w2: Any,
    lr: Any,
    seeds: Any,
    x: Any | None,
    y: Any | None,
    v1: Any | None,
    v2: Any | None,
    method: str,
    loss: str,
    train_w2: bool,
    steps: int,
    batch_size: int,
    tol: float,
    record_every: int,
    input_scale: float,
    radius: float,
    w1_out: Any,
    w2_out: Any,
    loss_out: Any,
    trace: Any,
    steps_out: Any,
    diverged: Any,
    threads: int,
) -> None: ...
def train_ensemble_cuda(
    w1: Any,
    w2: Any,
    lr: Any,
    seeds: Any,
    x: Any | None,
    y: Any | None,
    v1: Any | None,
    v2: Any | None,
    zero_loss: Any,
    limits: Any,
    loss_out: Any,
    trace: Any,
    steps_out: Any,
    status: Any,
    orders: Any | None,
    epochs: Any | None,
    workspace: Any | None,
    method: str,
    loss: str,
    train_w2: bool,
    steps: int,
    batch_size: int,
    tol: float,
    record_every: int,
    input_scale: float,
    radius: float,
    until: int,
    evaluate: bool,
    round_to_float32: bool,
    stream: int,
) -> int: ...
def train_ensemble_cuda_fits(
    method: str,
    is_float64: bool,
    m: int,
    d: int,
    c: int,
    M: int,
    n: int,
    batch_size: int,
    train_w2: bool,
) -> bool: ...
def train_ensemble_normals_cuda(seeds: Any, out: Any, step: int, stream: int) -> None: ...
def train_ensemble_philox(
    seed: int, index: int, step: int, stream: int
) -> tuple[int, int, int, int]: ...
def train_ensemble_normals(seed: int, step: int, out: Any) -> None: ...
def train_ensemble_shuffle(seed: int, epoch: int, out: Any) -> None: ...
