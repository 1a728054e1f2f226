# SPDX-License-Identifier: MIT
"""Wrong arguments of train_ensemble: one clear error each, before anything runs."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import lmc_fast
from lmc_fast import _native

X, Y = torch.ones(5, 4).double(), torch.ones(5, 1).double()
TEACHER = torch.eye(4).double()[:2]
GD = {"method": "gd", "teacher": None, "x": X, "y": Y}
LABELS = {**GD, "loss": "cross_entropy", "w2": torch.ones(2, 3, 3).double()}
NAN = torch.nan


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"w1": [[0.0]]}, ValueError, r"w1 must be a tensor \(S, m, d\); got list"),
        ({"w1": torch.ones(2, 3, 0).double()}, ValueError, r"\(2, 3, 0\)"),
        ({"w1": torch.ones(2, 3, 4).half()}, TypeError, "float32 or float64; got torch.float16"),
        ({"w1": torch.full((2, 3, 4), NAN)}, ValueError, "w1 must be finite"),
        ({"w2": torch.full((2, 1, 3), NAN).double()}, ValueError, "w2 must be finite"),
        ({"w2": torch.ones(2, 1, 4).double()}, ValueError, r"w2 must be .* got \(2, 1, 4\)"),
        ({"w2": torch.ones(2, 1, 3)}, TypeError, "w2 must have the dtype of .*w1"),
        ({"method": "lbfgs"}, ValueError, "method must be one of .* 'sgd', 'adam'; got 'lbfgs'"),
        ({"method": "adam"}, ValueError, "batch_size must be an integer of at least 1 for adam"),
        ({"loss": "hinge"}, ValueError, "loss must be one of 'mse', 'cross_entropy'; got 'hinge'"),
        ({"lr": 0.0}, ValueError, "lr must be finite and above 0 for every student; got 0.0"),
        ({"lr": -1.0}, ValueError, "lr must be finite and above 0"),
        ({"lr": [0.1, NAN]}, ValueError, "above 0 for every student; got nan"),
        ({"lr": [0.1, 0.2, 0.3]}, ValueError, r"lr must be a number or \(S,\) = \(2,\)"),
        ({"steps": -1}, ValueError, "steps must be an integer of at least 0; got -1"),
        ({"steps": True}, ValueError, "steps must be an integer"),
        ({"steps": 2**70}, ValueError, "steps must be an integer"),
        ({"threads": 1.5}, ValueError, "threads must be an integer of at least 1; got 1.5"),
        ({"train_w2": "no"}, TypeError, "train_w2 must be True or False"),
        ({"record_every": -2}, ValueError, "record_every must be an integer of at least 0"),
        ({"tol": -1e-9}, ValueError, "tol must be at least 0"),
        ({"threads": 0}, ValueError, "threads must be an integer of at least 1; got 0"),
        ({"seeds": [1, 2, 3]}, ValueError, r"seeds must be \(S,\) = \(2,\)"),
        ({"seeds": [1, -2]}, ValueError, "seeds must be at least 0; got -2"),
        ({"seeds": [1, 2**64]}, ValueError, "seeds must be integers below 2.63"),
        ({"seeds": [1.0, 2.0]}, TypeError, "seeds must be integers"),
        ({"teacher": None}, ValueError, "needs a teacher"),
        ({"teacher": torch.eye(5).double()}, ValueError, "dimension d = 4; got 5"),
        ({"teacher": (TEACHER, torch.ones(3, 2).double())}, ValueError, "c = 1 outputs"),
        ({"x": X}, ValueError, "population_gd takes no samples"),
        ({"batch_size": 3}, ValueError, "batch_size is for method='sgd'"),
        ({"method": "gd"}, ValueError, "gd needs the samples"),
        ({**GD, "y": None}, ValueError, "x needs its targets y"),
        ({**GD, "teacher": TEACHER}, ValueError, "without a teacher"),
        ({**GD, "x": X[:, :3]}, ValueError, r"x must be \(n, d\) = \(\*, 4\)"),
        ({**GD, "x": X[:0], "y": Y[:0]}, ValueError, "n >= 1"),
        ({**GD, "x": X.float()}, TypeError, "x must have the dtype of w1"),
        ({**GD, "x": X * NAN}, ValueError, "x must be finite"),
        ({**GD, "x": X.expand(3, 5, 4)}, ValueError, r"x must be .* S = 2 .* got \(3, 5, 4\)"),
        ({**GD, "y": Y[:4]}, ValueError, r"y must be \(n, c\) = \(5, 1\)"),
        ({**GD, "y": Y.float()}, TypeError, "y must have the dtype of w1"),
        ({**GD, "y": Y * NAN}, ValueError, "y must be finite"),
        ({**GD, "y": Y.expand(3, 5, 1)}, ValueError, r"stacked as \(S, n\) = \(2, 5\)"),
        ({**GD, "y": Y.expand(2, 5, 2)}, ValueError, "y must be"),
        ({**GD, "batch_size": 2}, ValueError, "batch_size is for .* 'adam'; got 2 with 'gd'"),
        ({**LABELS, "y": torch.tensor([0, 1, 2, 3, 0])}, ValueError, r"labels in 0..2"),
        ({**LABELS, "y": torch.tensor([0, 1, 2, -1, 0])}, ValueError, r"labels in 0..2"),
        ({**LABELS, "y": torch.ones(5)}, TypeError, "int64 class labels"),
        ({**LABELS, "y": torch.zeros(2, 4).long()}, ValueError, r"stacked as \(S, n\)"),
        ({"method": "sgd"}, ValueError, "batch_size must be an integer of at least 1 for sgd"),
        ({**GD, "method": "sgd", "batch_size": 6}, ValueError, "at most n = 5 for sgd; got 6"),
        ({"method": "sgd", "batch_size": 2, "tol": 0.1}, ValueError, "tol is for population_gd"),
        ({"method": "sgd", "batch_size": 2, "steps": 2**32}, ValueError, "steps must be below"),
        ({"loss": "cross_entropy"}, ValueError, "'mse' when a teacher"),
        ({"inputs": "cube"}, ValueError, "inputs must be one of"),
        ({"radius": 0.0}, ValueError, "radius must be finite and above 0"),
    ],
)
def test_wrong_arguments(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    good = {"w1": torch.ones(2, 3, 4).double(), "lr": 0.1, "steps": 2, "teacher": TEACHER}
    lmc_fast.train_ensemble(**good)
    with pytest.raises(error, match=message):
        lmc_fast.train_ensemble(**{**good, **arguments})


def test_other_devices_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmc_fast.ops.train_ensemble import _check_device

    with pytest.raises(ValueError, match=r"CUDA device .* got it on meta. Move .* with .cpu\(\)"):
        _check_device(torch.ones(2, 3, 4, device="meta"))
    monkeypatch.setattr(_native, "cuda_kernels", list)
    with FakeTensorMode():
        w1 = torch.empty(2, 3, 4, device="cuda")
    with pytest.raises(ValueError, match=r"w1 must be on the CPU, .* got it on cuda:0. Move"):
        _check_device(w1)
    monkeypatch.setattr(_native, "cuda_kernels", lambda: ["train_ensemble.float32"])
    _check_device(w1)


NATIVE = {
    "w1": X.new_ones(2, 3, 4), "w2": X.new_ones(2, 1, 3), "lr": X.new_ones(2),
    "seeds": torch.arange(2), "x": X, "y": Y, "v1": None, "v2": None, "method": "gd", "loss": "mse",
    "train_w2": False, "steps": 1, "batch_size": 0, "tol": 0.0, "record_every": 0,
    "input_scale": 1.0, "radius": 0.0, "w1_out": X.new_ones(2, 3, 4), "w2_out": X.new_ones(2, 1, 3),
    "loss_out": X.new_ones(2), "trace": X.new_ones(2, 0), "steps_out": torch.arange(2),
    "diverged": torch.ones(2, dtype=torch.bool), "threads": 1,
}  # fmt: skip


@pytest.mark.sanitize_quick
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"w1": X}, ValueError, r"w1 must be \(S, m, d\)"),
        ({"w2": X.new_ones(2, 1, 2)}, ValueError, r"w2 must have shape \(2, 1, 3\)"),
        ({"w2": X.new_ones(2, 0, 3)}, ValueError, "w2 must have at least one output"),
        ({"lr": X.new_ones(3)}, ValueError, r"lr must have shape \(2,\)"),
        ({"x": X[:0]}, ValueError, "x must hold at least one sample"),
        ({"x": X.float()}, TypeError, "x must be float64; got float32"),
        ({"y": Y[:4]}, ValueError, "y must have shape"),
        ({"x": None, "y": None}, ValueError, "x or v1 must be given"),
        ({"method": "newton"}, ValueError, "method must be"),
        ({"loss": "hinge"}, ValueError, "loss must be"),
        ({"loss": "cross_entropy", "y": torch.arange(5)}, ValueError, "labels in 0..0"),
        ({"method": "population_gd"}, ValueError, "v1 must be given"),
        ({"method": "sgd", "batch_size": 6}, ValueError, "batch_size must be at least 1"),
        ({"record_every": 1}, ValueError, r"trace must have shape \(2, 2\)"),
        ({"steps": -1}, ValueError, "steps must be at least 0"),
        ({"threads": 0}, ValueError, "threads must be at least 1"),
        ({"w1_out": X.new_ones(2, 4, 3).mT}, ValueError, "w1_out must be contiguous"),
    ],
)
def test_the_binding_checks_for_itself(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    _native.train_ensemble(**NATIVE)
    with pytest.raises(error, match=message):
        _native.train_ensemble(**{**NATIVE, **arguments})
