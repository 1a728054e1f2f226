# SPDX-License-Identifier: MIT
"""What every way to train an ensemble is held to: the reference, and the CPU's kernels."""

from collections.abc import Callable

import torch
from compare import assert_close, rounding
from test_train_ensemble import FIELDS, SHAPES, STEPS, N, objectives, single, students

import lmc_fast
from lmc_fast import EnsembleResult
from lmc_fast.reference.train_ensemble import train_ensemble as reference

Train = Callable[..., EnsembleResult]
NAMES = list(objectives(1, 1, 1, 0))


def follows_the_reference(train: Train, name: str, c: int, train_w2: bool) -> None:
    m, d = SHAPES[(NAMES.index(name) + c) % len(SHAPES)]
    c = max(c, 2) if "entropy" in name else c  # one class has no gradient
    w1, w2 = students(2, m, d, c, train_w2, seed=m)
    options = {"lr": torch.tensor([0.1, 0.3]) / max(m, 10), "steps": STEPS, "train_w2": train_w2}
    arguments = {**options, "record_every": 7, **objectives(2, d, c, m)[name]}
    got, want = train(w1, w2, **arguments), reference(w1, w2, **arguments)
    assert got.steps.tolist() == want.steps.tolist() == [STEPS, STEPS]
    assert got.diverged.tolist() == want.diverged.tolist() == [False, False]
    shortest = min(1.0, float(want.w1.norm(dim=2).min())) if "population" in name else 1.0
    for field in FIELDS:
        size = max(1.0, float(getattr(want, field).abs().max()))
        tolerance = rounding(STEPS * (N + m + d), size / shortest)
        assert_close(getattr(got, field), getattr(want, field), tolerance, field)


def starts_like_the_cpu(train: Train, name: str) -> EnsembleResult:
    """The first hundred steps in float64."""
    w1, w2 = students(3, 33, 12, 3, True, seed=4)
    options = {"lr": 0.01, "steps": 100, "train_w2": True, "record_every": 10}
    arguments = {**options, **objectives(3, 12, 3, 4)[name]}
    got, want = train(w1, w2, **arguments), lmc_fast.train_ensemble(w1, w2, **arguments)
    for field in FIELDS:
        assert_close(getattr(got, field), getattr(want, field), 1e-10, field)
    assert torch.equal(got.steps, want.steps)
    return got


def float32_stays_near_the_reference(train: Train, name: str) -> None:
    w1, w2 = (single(w) for w in students(2, 37, 9, 5, True, seed=5))
    options = {"lr": 0.3 / 37, "steps": 20, "train_w2": True, "record_every": 10}
    data = {key: single(value) for key, value in objectives(2, 9, 5, 5)[name].items()}
    got, want = train(w1, w2, **options, **data), reference(w1, w2, **options, **data)
    for field in FIELDS:
        ours, exact = getattr(got, field), getattr(want, field).double()
        assert ours.dtype == (torch.float32 if field in ("w1", "w2") else torch.float64)
        error = float((ours.double() - exact).norm() / exact.norm())
        assert error <= 20 * 10 * torch.finfo(torch.float32).eps, f"{field}: {error:.1e}"
