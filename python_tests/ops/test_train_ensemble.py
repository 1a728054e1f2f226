# SPDX-License-Identifier: MIT
"""train_ensemble's trajectories against the float64 reference's."""

import itertools

import pytest
import torch
from compare import assert_close, rounding
from torch import Tensor

import lmc_fast
from lmc_fast.reference.train_ensemble import train_ensemble as reference

FIELDS = ("w1", "w2", "loss", "trace")
N, M = 110, 4  # more samples than one block of 96, and teacher neurons
STEPS = 50


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objectives(S: int, d: int, c: int, seed: int) -> dict[str, dict[str, object]]:
    """Every method with every kind of data."""
    teacher = (normal(M, d, seed=seed), normal(c, M, seed=seed + 1).abs())
    x, own_x = normal(N, d, seed=seed + 2), normal(S, N, d, seed=seed + 3)
    y, own_y = normal(N, c, seed=seed + 4), normal(S, N, c, seed=seed + 5)
    labels = torch.arange(N) % c
    own_labels = torch.stack([labels.roll(s) for s in range(S)])
    sgd = {"method": "sgd", "batch_size": 17, "seeds": [2**40 + s for s in range(S)]}
    return {
        "population_gd": {"teacher": teacher},
        "population_gd sphere": {"teacher": teacher, "inputs": "sphere", "radius": 1.5},
        "gd": {"method": "gd", "x": x, "y": y},
        "gd own x": {"method": "gd", "x": own_x, "teacher": teacher},
        "gd cross entropy": {"method": "gd", "x": x, "y": own_labels, "loss": "cross_entropy"},
        "sgd": {**sgd, "x": x, "y": own_y},
        "sgd whole epochs": {**sgd, "batch_size": N, "x": own_x, "y": y},
        "sgd cross entropy": {**sgd, "x": own_x, "y": labels, "loss": "cross_entropy"},
        "sgd fresh": {**sgd, "teacher": teacher},
        "sgd fresh sphere": {**sgd, "teacher": teacher, "inputs": "sphere", "radius": 1.5},
    }


def students(S: int, m: int, d: int, c: int, train_w2: bool, seed: int) -> tuple[Tensor, ...]:
    w1 = normal(S, m, d, seed=seed + 6) / d**0.5
    return w1, normal(S, c, m, seed=seed + 7) / m**0.5 if c > 1 or train_w2 else None


# Around the vector lengths (2 to 16 lanes), panels (4 to 32) and tile heights (1 to 12).
SHAPES = [(1, 1), (2, 13), (5, 4), (15, 3), (17, 5), (33, 12), (40, 25)]


@pytest.mark.parametrize("name", objectives(1, 1, 1, 0))
@pytest.mark.parametrize(("c", "train_w2"), [(1, False), (1, True), (3, False), (11, True)])
def test_follows_the_reference_step_by_step(name: str, c: int, train_w2: bool) -> None:
    # A few of the shapes each, all of them together.
    start = (list(objectives(1, 1, 1, 0)).index(name) + 2 * c) % len(SHAPES)
    for number in range(2):
        m, d = SHAPES[(start + 3 * number) % len(SHAPES)]
        c = max(c, 2) if "entropy" in name else c  # one class has no gradient
        w1, w2 = students(2, m, d, c, train_w2, seed=m)
        # Steps well below the edge of stability, where rounding errors add up and do not grow.
        options = {
            "lr": torch.tensor([0.1, 0.3]) / max(m, 10),
            "steps": STEPS,
            "train_w2": train_w2,
        }
        arguments = {**options, "record_every": 7, **objectives(2, d, c, m)[name]}
        got, want = (f(w1, w2, **arguments) for f in (lmc_fast.train_ensemble, reference))
        assert got.steps.tolist() == want.steps.tolist() == [STEPS, STEPS]
        assert got.diverged.tolist() == want.diverged.tolist() == [False, False]
        assert got.trace_steps.tolist() == want.trace_steps.tolist()
        # A rounding error turns the direction of a short neuron more than that of a long one.
        shortest = min(1.0, float(want.w1.norm(dim=2).min())) if "population" in name else 1.0
        for field in FIELDS:
            size = max(1.0, float(getattr(want, field).abs().max()))
            tolerance = rounding(STEPS * (N + m + d), size / shortest)
            assert_close(
                getattr(got, field), getattr(want, field), tolerance, f"{field}, m={m} d={d}"
            )


def single(value: object) -> object:
    """Floating-point tensors as float32."""
    if isinstance(value, tuple):
        return tuple(single(v) for v in value)
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    return value


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("name", objectives(1, 1, 1, 0))
@pytest.mark.parametrize(("c", "train_w2"), [(2, False), (5, True)])
def test_float32_stays_near_the_reference(name: str, c: int, train_w2: bool) -> None:
    m, d = 37, 9
    w1, w2 = (single(w) for w in students(2, m, d, c, train_w2, seed=5))
    options = {"lr": 0.3 / m, "steps": 20, "train_w2": train_w2, "record_every": 10}
    data = {key: single(value) for key, value in objectives(2, d, c, 5)[name].items()}
    got = lmc_fast.train_ensemble(w1, w2, **options, **data)
    # The reference computes in float64, from the same rounded numbers.
    want = reference(w1, w2, **options, **data)
    for field in FIELDS:
        ours, exact = getattr(got, field), getattr(want, field).double()
        assert ours.dtype == (torch.float32 if field in ("w1", "w2") else torch.float64)
        # 20 steps, each with a sum of more than a hundred rounded terms of random sign.
        error = float((ours.double() - exact).norm() / exact.norm())
        assert error <= 20 * 10 * torch.finfo(torch.float32).eps, f"{field}: {error:.1e}"


def test_float32_population_gd_keeps_its_state_in_float64() -> None:
    w1 = lmc_fast.init_students([0, 1], 12, 6, dtype=torch.float32).w1
    options = {"teacher": torch.eye(6, dtype=torch.float64)[:3], "lr": 0.1, "steps": 300}
    wide = lmc_fast.train_ensemble(w1.double(), **options)
    narrow = lmc_fast.train_ensemble(w1, **options)
    assert torch.equal(narrow.w1, wide.w1.float())
    assert torch.equal(narrow.loss, wide.loss)


def test_learns_the_teacher() -> None:
    # m = M: the minimum is the teacher itself, reached to rounding.
    w1 = lmc_fast.init_students(range(4), 3, 5).w1
    result = lmc_fast.train_ensemble(
        w1, teacher=torch.eye(5, dtype=torch.float64)[:3], lr=1.0, steps=4000
    )
    assert result.loss.abs().max() < 1e-14
    biggest = result.w1.amax(dim=2)
    assert_close(biggest, torch.ones(4, 3), 1e-6)


@pytest.mark.parametrize("method", ["population_gd", "sgd"])
def test_trace_and_loss_are_the_public_losses_at_those_weights(method: str) -> None:
    d, c = 6, 2
    teacher = (normal(M, d, seed=1), normal(c, M, seed=2))
    w1, w2 = students(3, 9, d, c, True, seed=3)
    options = {"method": method, "lr": 0.02, "teacher": teacher, "train_w2": True}
    if method == "sgd":
        options["batch_size"] = 8
    traced = lmc_fast.train_ensemble(w1, w2, steps=20, record_every=5, **options)
    for slot, step in enumerate(traced.trace_steps.tolist()):
        reached = lmc_fast.train_ensemble(w1, w2, steps=step, **options)
        loss = lmc_fast.population_loss(reached.w1, reached.w2, teacher)
        assert_close(traced.trace[:, slot], loss, rounding(50, float(loss.max())))
        assert_close(reached.loss, loss, rounding(50, float(loss.max())))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("method", ["gd", "sgd"])
def test_losses_on_samples_are_means_over_all_of_them(method: str, loss: str) -> None:
    d, c = 6, 4
    x, y = normal(N, d, seed=1), normal(N, c, seed=2)
    y = torch.arange(N) % c if loss == "cross_entropy" else y
    w1, w2 = students(3, 9, d, c, True, seed=3)
    options = {"method": method, "lr": 0.02, "x": x, "y": y, "loss": loss}
    if method == "sgd":
        options["batch_size"] = 8
    traced = lmc_fast.train_ensemble(w1, w2, steps=20, record_every=5, **options)
    for slot, step in enumerate(traced.trace_steps.tolist()):
        reached = lmc_fast.train_ensemble(w1, w2, steps=step, **options)
        f = lmc_fast.two_layer_relu(x, reached.w1, None, reached.w2, None)
        for s in range(3):
            if loss == "mse":
                want = (f[s] - y).square().sum() / (2 * N)
            else:
                want = torch.nn.functional.cross_entropy(f[s], y)
            assert_close(traced.trace[s, slot], want, rounding(N, float(want)))
            assert_close(reached.loss[s], want, rounding(N, float(want)))


@pytest.mark.parametrize("name", ["population_gd", "gd", "sgd cross entropy", "sgd fresh"])
def test_opcheck(name: str) -> None:
    data = {**{"method": "population_gd", "loss": "mse"}, **objectives(2, 3, 2, 0)[name]}
    w1, w2 = students(2, 5, 3, 2, True, seed=0)
    v1, v2 = data.get("teacher", (None, None))
    for record_every, grad in itertools.product((0, 2), (False, True)):
        arguments = (
            w1.clone().requires_grad_(grad), w2, torch.tensor([0.1, 0.2]).double(),
            torch.tensor([3, 4]), data.get("x"), data.get("y"), v1, v2, data["method"],
            data["loss"], True, 3, data.get("batch_size", 0), 0.0, record_every, "gaussian", 1.0, 1,
        )  # fmt: skip
        torch.library.opcheck(
            torch.ops.lmc_fast.train_ensemble, arguments,
            test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
        )  # fmt: skip


def test_is_detached_from_autograd() -> None:
    w1 = lmc_fast.init_students([0], 3, 4).w1.requires_grad_()
    x, y = normal(5, 4, seed=0).requires_grad_(), normal(5, 1, seed=1).requires_grad_()
    result = lmc_fast.train_ensemble(w1, method="gd", x=x, y=y, lr=0.1, steps=2)
    assert not any(t.requires_grad for t in result)
    plain = lmc_fast.train_ensemble(
        w1.detach(), method="gd", x=x.detach(), y=y.detach(), lr=0.1, steps=2
    )
    assert torch.equal(result.w1, plain.w1)


def test_strided_arguments_are_accepted() -> None:
    x, y = normal(6, 20, seed=0).T, normal(2, 20, seed=1).T
    w1 = normal(2, 6, 7, seed=2).mT
    assert not any(t.is_contiguous() for t in (x, y, w1))
    w2 = torch.ones(2, 7, dtype=torch.float64)  # one for all students
    options = {"method": "gd", "lr": 0.01, "steps": 5}
    ours = lmc_fast.train_ensemble(w1, w2, x=x, y=y, **options)
    same = lmc_fast.train_ensemble(
        w1.contiguous(), w2.expand(2, 2, 7).contiguous(), x=x.contiguous(), y=y.contiguous(),
        **options,
    )  # fmt: skip
    assert torch.equal(ours.w1, same.w1)
