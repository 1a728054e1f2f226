# SPDX-License-Identifier: MIT
"""When students stop, what they keep, and that they do not notice each other."""

import pytest
import torch
from compare import assert_close
from torch import Tensor

import lmc_fast
from lmc_fast import EnsembleResult, train_ensemble
from lmc_fast.reference.train_ensemble import train_ensemble as reference

TEACHER = torch.eye(6, dtype=torch.float64)[:3]


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(-7.0), b.nan_to_num(-7.0))


def same_result(a: EnsembleResult, b: EnsembleResult) -> bool:
    return all(same_bits(p, q) for p, q in zip(a, b, strict=True))


def rows(result: EnsembleResult, chosen: list[int]) -> EnsembleResult:
    parts = result._asdict()
    steps = parts.pop("trace_steps")
    return EnsembleResult(**{k: v[chosen] for k, v in parts.items()}, trace_steps=steps)


def problem(kind: str, dtype: torch.dtype, S: int = 5) -> dict[str, object]:
    """Arguments with something of its own for every student."""
    generator = torch.Generator().manual_seed(1)
    start = lmc_fast.init_students(range(S), 37, 6, c=2, scale=1.0, dtype=dtype)
    x = torch.randn(S, 200, 6, generator=generator, dtype=torch.float64).to(dtype)
    teacher = (TEACHER, torch.ones(2, 3, dtype=torch.float64))
    arguments = {
        "w1": start.w1, "w2": start.w2, "lr": torch.linspace(0.01, 0.05, S), "steps": 40,
        "train_w2": True, "record_every": 9,
    }  # fmt: skip
    arguments |= {
        "population_gd": {"teacher": teacher},
        "gd": {"method": "gd", "x": x, "teacher": teacher},
        "gd shared x": {"method": "gd", "x": x[0], "teacher": teacher},
        "sgd": {"method": "sgd", "x": x, "teacher": teacher, "batch_size": 33},
        "sgd fresh": {"method": "sgd", "teacher": teacher, "batch_size": 33},
    }[kind]
    if kind.startswith("sgd"):
        arguments["seeds"] = [10 * s for s in range(S)]
    return arguments


def students_of(arguments: dict[str, object], chosen: list[int]) -> dict[str, object]:
    """The same problem for some of its students."""
    S = arguments["w1"].shape[0]
    part = {}
    for key, value in arguments.items():
        own = isinstance(value, (Tensor, list)) and len(value) == S
        part[key] = (
            ([value[s] for s in chosen] if isinstance(value, list) else value[chosen])
            if own else value
        )  # fmt: skip
    return part


KINDS = ["population_gd", "gd", "gd shared x", "sgd", "sgd fresh"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_depend_on_the_student_alone(kind: str, dtype: torch.dtype) -> None:
    arguments = problem(kind, dtype)
    together = train_ensemble(**arguments, threads=2)
    assert same_result(train_ensemble(**arguments, threads=2), together)
    for threads in (1, 3, 8):
        assert same_result(train_ensemble(**arguments, threads=threads), together)
    for chosen in ([2], [4, 0, 3]):
        some = train_ensemble(**students_of(arguments, chosen))
        assert same_result(some, rows(together, chosen))


@pytest.mark.parametrize("kind", KINDS)
def test_a_diverging_student_leaves_the_others_alone(kind: str) -> None:
    arguments = problem(kind, torch.float64)
    calm = train_ensemble(**arguments)
    assert not calm.diverged.any()
    arguments["lr"] = arguments["lr"].clone()
    arguments["lr"][1] = 50.0
    wild = train_ensemble(**arguments)
    assert wild.diverged.tolist() == [False, True, False, False, False]
    others = [0, 2, 3, 4]
    assert same_result(rows(wild, others), rows(calm, others))
    # What it keeps is what it had after the steps that it reports.
    step = int(wild.steps[1])
    assert 0 < step < 40
    assert wild.w1.isfinite().all()
    assert wild.w2.isfinite().all()
    alone = students_of(arguments, [1])
    alone["steps"] = step
    kept = train_ensemble(**alone)
    assert same_bits(kept.w1[0], wild.w1[1])
    assert same_bits(kept.loss[0], wild.loss[1])
    # The trace holds what was reached, then NaN.
    reached = wild.trace_steps <= step
    assert not wild.trace[1, reached].isnan().any()
    assert wild.trace[1, ~reached].isnan().all()
    want = reference(**students_of(arguments, [1]))
    assert want.steps.tolist() == [step]
    assert want.diverged.tolist() == [True]


def test_an_infinite_weight_is_divergence() -> None:
    w1 = torch.tensor([0.5, 0.5], dtype=torch.float64)[:, None, None]
    teacher = torch.ones(1, 1, dtype=torch.float64)
    lr = torch.tensor([1e308, 0.1], dtype=torch.float64)
    result = train_ensemble(w1, teacher=teacher, lr=lr, steps=5)
    assert result.diverged.tolist() == [True, False]
    assert result.w1.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_overflow_in_the_forward_pass_is_divergence(dtype: torch.dtype) -> None:
    big = torch.finfo(dtype).max / 2
    w1 = torch.full((2, 2, 3), big, dtype=dtype)
    w1[1] = 0.1
    x, y = torch.ones(4, 3, dtype=dtype), torch.ones(4, 1, dtype=dtype)
    for method, size in (("gd", None), ("sgd", 2)):
        result = train_ensemble(w1, method=method, x=x, y=y, batch_size=size, lr=0.01, steps=3)
        assert result.diverged.tolist() == [True, False]
        assert result.steps.tolist() == [0, 3]
        assert torch.equal(result.w1[0], w1[0])


@pytest.mark.parametrize("method", ["population_gd", "gd"])
def test_tolerance_stops_each_student_at_its_own_step(method: str) -> None:
    w1 = lmc_fast.init_students(range(3), 5, 6).w1
    data = {"teacher": TEACHER}
    if method == "gd":
        data["x"] = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()
    options = {"method": method, "lr": torch.tensor([0.1, 0.2, 0.4]), **data}
    result = train_ensemble(w1, steps=5000, tol=0.02, **options)
    want = reference(w1, steps=5000, tol=0.02, **options)
    assert result.steps.tolist() == want.steps.tolist()
    assert 0 < int(result.steps.min()) < int(result.steps.max()) < 5000
    assert not result.diverged.any()
    assert_close(result.w1, want.w1, 1e-10)


def test_an_exactly_zero_gradient_stops_without_a_tolerance() -> None:
    w1 = torch.zeros(1, 3, 6, dtype=torch.float64)  # dead neurons
    result = train_ensemble(w1, teacher=TEACHER, lr=0.1, steps=9)
    assert result.steps.tolist() == [0]
    assert not result.diverged.any()
    # A gradient whose square is below the smallest float32 is not zero.
    w1 = torch.ones(1, 1, 1)
    x, y = torch.full((2, 1), 1e-15), torch.zeros(2, 1)
    result = train_ensemble(w1, method="gd", x=x, y=y, lr=0.1, steps=9)
    assert result.steps.tolist() == [9]


@pytest.mark.parametrize("kind", KINDS)
def test_no_students_no_neurons_and_no_steps_are_legal(kind: str) -> None:
    arguments = problem(kind, torch.float64)
    none = train_ensemble(**students_of(arguments, []))
    assert [tuple(t.shape) for t in none] == [
        (0, 37, 6), (0, 2, 37), (0,), (0, 5), (5,), (0,), (0,),
    ]  # fmt: skip
    at_rest = train_ensemble(**{**arguments, "steps": 0})
    assert torch.equal(at_rest.w1, arguments["w1"])
    assert torch.equal(at_rest.w2, arguments["w2"])
    assert torch.equal(at_rest.trace[:, 0], at_rest.loss)
    narrow = {**arguments, "w1": arguments["w1"][:, :0], "w2": arguments["w2"][:, :, :0]}
    empty = train_ensemble(**narrow)
    assert tuple(empty.w1.shape) == (5, 0, 6)
    zero = train_ensemble(**{**arguments, "w1": 0 * arguments["w1"], "w2": 0 * arguments["w2"]})
    assert_close(empty.loss, zero.loss, 1e-13)


def test_untrained_output_weights_stay_as_they_were() -> None:
    for kind in KINDS:
        arguments = {**problem(kind, torch.float32), "train_w2": False}
        result = train_ensemble(**arguments)
        assert torch.equal(result.w2, arguments["w2"])
        assert not torch.equal(result.w1, arguments["w1"])


def test_the_arguments_are_not_written_to() -> None:
    for kind in KINDS:
        arguments = problem(kind, torch.float64)
        before = {k: v.clone() for k, v in arguments.items() if isinstance(v, Tensor)}
        train_ensemble(**arguments)
        assert all(torch.equal(arguments[k], v) for k, v in before.items())


def test_default_seeds_count_from_zero() -> None:
    arguments = problem("sgd fresh", torch.float64)
    arguments.pop("seeds")
    counted = train_ensemble(**arguments, seeds=[0, 1, 2, 3, 4])
    assert same_result(train_ensemble(**arguments), counted)


def test_weights_that_float32_cannot_hold_are_divergence() -> None:
    # population_gd computes in float64, in which the step is finite.
    start = torch.full((1, 3, 2), 0.5)
    arguments = {"lr": 1e60, "steps": 3, "teacher": torch.eye(2, dtype=torch.float64)}
    result = train_ensemble(start, **arguments)
    assert result.diverged.tolist() == reference(start, **arguments).diverged.tolist()
    assert result.diverged.tolist() == [True]
    assert torch.equal(result.w1, start)
