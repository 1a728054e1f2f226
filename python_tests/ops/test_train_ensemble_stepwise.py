# SPDX-License-Identifier: MIT
"""Training by whole-ensemble calls, on CPU tensors, against the reference and the CPU's kernels."""

import itertools
from unittest import mock

import pytest
import torch
from compare import assert_close
from test_train_ensemble import N, objectives, students
from test_train_ensemble_rules import KINDS, TEACHER, problem, rows, same_result, students_of
from torch import Tensor
from training_checks import (
    NAMES,
    float32_stays_near_the_reference,
    follows_the_reference,
    starts_like_the_cpu,
)

import lmc_fast
from lmc_fast import EnsembleResult
from lmc_fast.ensemble import ensemble_problem
from lmc_fast.ops._train_ensemble import memory
from lmc_fast.ops._train_ensemble import objectives as losses
from lmc_fast.ops._train_ensemble.outputs import Outputs
from lmc_fast.ops._train_ensemble.stepwise import train_stepwise
from lmc_fast.reference.philox import normals
from lmc_fast.reference.train_ensemble import train_ensemble as reference


def stepwise(w1: Tensor, w2: Tensor | None = None, **options: object) -> EnsembleResult:
    given = ensemble_problem(w1, w2, **options)
    outputs = Outputs.of(given)
    train_stepwise(given, outputs)
    w1, w2, loss, trace, steps, diverged = outputs
    return EnsembleResult(w1, w2, loss, trace, given.trace_steps, steps, diverged)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("c", "train_w2"), [(1, False), (1, True), (3, False), (11, True)])
def test_follows_the_reference_step_by_step(name: str, c: int, train_w2: bool) -> None:
    follows_the_reference(stepwise, name, c, train_w2)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_hundred_steps_are_those_of_the_cpu(name: str) -> None:
    starts_like_the_cpu(stepwise, name)


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_near_the_reference(name: str) -> None:
    float32_stays_near_the_reference(stepwise, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_depend_on_the_student_alone(kind: str, dtype: torch.dtype) -> None:
    arguments = problem(kind, dtype)
    together = stepwise(**arguments)
    assert same_result(stepwise(**arguments), together)
    for chosen in ([2], [4, 0, 3]):
        assert same_result(stepwise(**students_of(arguments, chosen)), rows(together, chosen))


def test_bits_of_cross_entropy_depend_on_the_student_alone() -> None:
    data = objectives(5, 6, 7, 0)["sgd cross entropy"]
    w1, w2 = students(5, 20, 6, 7, True, seed=0)
    arguments = {"w1": w1, "w2": w2, "lr": 0.05, "steps": 20, "record_every": 5, **data}
    together = stepwise(**arguments)
    for chosen in ([2], [4, 0, 3]):
        assert same_result(stepwise(**students_of(arguments, chosen)), rows(together, chosen))


@pytest.mark.parametrize("kind", KINDS)
def test_a_diverging_student_keeps_its_last_finite_state_and_leaves_the_others_alone(
    kind: str,
) -> None:
    arguments = problem(kind, torch.float64)
    calm = stepwise(**arguments)
    assert not calm.diverged.any()
    arguments["lr"] = arguments["lr"].clone()
    arguments["lr"][1] = 50.0
    wild = stepwise(**arguments)
    want = reference(**arguments)
    assert wild.diverged.tolist() == want.diverged.tolist() == [False, True, False, False, False]
    assert wild.steps.tolist() == want.steps.tolist()
    others = [0, 2, 3, 4]
    assert same_result(rows(wild, others), rows(calm, others))
    step = int(wild.steps[1])
    # The last of as many steps throws it out: it is flagged without another.
    kept = stepwise(**{**students_of(arguments, [1]), "steps": step})
    assert same_result(
        rows(wild, [1])._replace(trace=kept.trace, trace_steps=kept.trace_steps), kept
    )
    assert torch.equal(wild.trace.isnan(), want.trace.isnan())
    assert wild.trace[1].isnan().any()


@pytest.mark.parametrize("kind", ["sgd", "gd", "population_gd"])
def test_leaving_stopped_students_behind_changes_no_bits(kind: str) -> None:
    arguments = problem(kind, torch.float64)
    arguments["lr"] = torch.tensor([0.02, 50.0, 60.0, 0.03, 70.0])  # three of five diverge
    kept = []
    original = lmc_fast.ensemble.EnsembleProblem.of_students

    def counted(self: object, chosen: Tensor) -> object:
        kept.append(chosen.tolist())
        return original(self, chosen)

    with mock.patch.object(lmc_fast.ensemble.EnsembleProblem, "of_students", counted):
        together = stepwise(**arguments)
    assert kept[-1] == [0, 3]
    for s in range(5):
        assert same_result(stepwise(**students_of(arguments, [s])), rows(together, [s]))


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_change_no_bits(kind: str) -> None:
    arguments = problem(kind, torch.float64)
    whole = stepwise(**arguments)
    given = ensemble_problem(**arguments)
    for seconds in (0.0, 1.0, 0.03):  # ever larger chunks; single steps; a few at a time
        outputs = Outputs.of(given)
        ticks = itertools.count()
        train_stepwise(given, outputs, clock=lambda t=ticks, s=seconds: next(t) * s)
        for got, want in zip(outputs, (*whole[:4], *whole[5:]), strict=True):
            assert torch.equal(got.nan_to_num(-7.0), want.nan_to_num(-7.0))


def test_blocks_of_samples_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("gd", "gd own x", "gd cross entropy", "sgd", "sgd cross entropy")
    w1, w2 = students(2, 9, 4, 3, True, seed=1)
    for name in names:
        arguments = {"lr": 0.02, "steps": 5, "train_w2": True, **objectives(2, 4, 3, 1)[name]}
        whole = stepwise(w1, w2, **arguments)
        with monkeypatch.context() as patch:
            patch.setattr(memory, "BLOCK_BYTES", 5000)  # a block holds some ten samples
            assert 1 < memory.block_of_samples(N, 9, 4, 3, 8) < 20
            cut = stepwise(w1, w2, **arguments)
        assert_close(cut.w1, whole.w1, 1e-13, name)
        assert_close(cut.loss, whole.loss, 1e-13, name)


@pytest.mark.parametrize("method", ["population_gd", "gd"])
def test_tolerance_stops_each_student_at_its_own_step(method: str) -> None:
    w1 = lmc_fast.init_students(range(3), 5, 6).w1
    options = {"method": method, "lr": torch.tensor([0.1, 0.2, 0.4]), "teacher": TEACHER}
    if method == "gd":
        options["x"] = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()
    got = stepwise(w1, steps=5000, tol=0.02, record_every=50, **options)
    want = reference(w1, steps=5000, tol=0.02, record_every=50, **options)
    assert got.steps.tolist() == want.steps.tolist()
    assert 0 < int(got.steps.min()) < int(got.steps.max()) < 5000
    assert not got.diverged.any()
    assert_close(got.w1, want.w1, 1e-10)
    assert_close(got.loss, want.loss, 1e-10)
    assert_close(got.trace, want.trace, 1e-10)  # NaN where the reference has NaN


def test_overflow_is_divergence() -> None:
    for dtype in (torch.float32, torch.float64):
        w1 = torch.full((2, 2, 3), torch.finfo(dtype).max / 2, dtype=dtype)
        w1[1] = 0.1
        x, y = torch.ones(4, 3, dtype=dtype), torch.ones(4, 1, dtype=dtype)
        for method, size in (("gd", None), ("sgd", 2)):
            result = stepwise(w1, method=method, x=x, y=y, batch_size=size, lr=0.01, steps=3)
            assert result.diverged.tolist() == [True, False]
            assert result.steps.tolist() == [0, 3]
            assert torch.equal(result.w1[0], w1[0])
    # A loss that overflows while every step is finite.
    w1 = torch.full((1, 2, 3), 1e200, dtype=torch.float64)
    arguments = {"method": "gd", "x": x, "y": y, "lr": 1e-300, "steps": 3}
    for train in (stepwise, lmc_fast.train_ensemble):
        result = train(w1, **arguments)
        assert result.diverged.tolist() == [True]
        assert result.steps.tolist() == [0]
    # A step that only float64, the state of population_gd, can hold.
    start = torch.full((1, 3, 2), 0.5)
    result = stepwise(start, lr=1e60, steps=3, teacher=torch.eye(2, dtype=torch.float64))
    assert result.diverged.tolist() == [True]
    assert torch.equal(result.w1, start)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_that_starts_far_out_has_not_diverged(kind: str) -> None:
    arguments = problem(kind, torch.float64)
    arguments |= {
        "w1": 1000 * arguments["w1"],
        "lr": 1e-9,
    }  # a loss of 1e6 times the zero network's
    got, want = stepwise(**arguments), reference(**arguments)
    assert got.diverged.tolist() == want.diverged.tolist() == [False] * 5
    assert got.steps.tolist() == [40] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_no_students_no_neurons_and_no_steps_are_legal(kind: str) -> None:
    arguments = problem(kind, torch.float64)
    none = stepwise(**students_of(arguments, []))
    assert [tuple(t.shape) for t in none] == [
        (0, 37, 6), (0, 2, 37), (0,), (0, 5), (5,), (0,), (0,),
    ]  # fmt: skip
    at_rest = stepwise(**{**arguments, "steps": 0})
    assert torch.equal(at_rest.w1, arguments["w1"])
    assert torch.equal(at_rest.trace[:, 0], at_rest.loss)
    assert at_rest.steps.tolist() == [0] * 5
    narrow = {**arguments, "w1": arguments["w1"][:, :0], "w2": arguments["w2"][:, :, :0]}
    empty, want = stepwise(**narrow), reference(**narrow)
    assert tuple(empty.w1.shape) == (5, 0, 6)
    assert torch.equal(empty.steps, want.steps)
    assert_close(empty.loss, want.loss, 1e-13)


def test_untrained_weights_and_the_arguments_stay_as_they_were() -> None:
    for kind in KINDS:
        arguments = {**problem(kind, torch.float32), "train_w2": False}
        before = {k: v.clone() for k, v in arguments.items() if isinstance(v, Tensor)}
        result = stepwise(**arguments)
        assert torch.equal(result.w2, arguments["w2"])
        assert not torch.equal(result.w1, arguments["w1"])
        assert all(torch.equal(arguments[k], v) for k, v in before.items())


def test_strided_arguments_are_accepted() -> None:
    x, y = torch.randn(6, 20).double().T, torch.randn(2, 20).double().T
    w1 = torch.randn(2, 6, 7).double().mT
    w2 = torch.ones(2, 7, dtype=torch.float64)  # one for all students
    options = {"method": "sgd", "batch_size": 3, "lr": 0.01, "steps": 5}
    ours = stepwise(w1, w2, x=x, y=y, **options)
    same = stepwise(w1.contiguous(), w2.expand(2, 2, 7).clone(), x=x.contiguous(), y=y, **options)
    assert torch.equal(ours.w1, same.w1)
    assert ours.w1.is_contiguous()


def test_fresh_samples_are_the_cpus() -> None:
    seeds = torch.tensor([3, 2**40])
    found = losses.normals(seeds, 9, 5)
    for row, seed in zip(found, seeds.tolist(), strict=True):
        assert_close(row, torch.from_numpy(normals(seed, 9, 5)), 1e-14)
