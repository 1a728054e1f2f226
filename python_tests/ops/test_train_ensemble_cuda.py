# SPDX-License-Identifier: MIT
"""The trainer's CUDA kernels on the CPU (emulated), against the reference and the CPU's kernels."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from compare import assert_close
from test_train_ensemble import FIELDS, normal, objectives, single, students
from test_train_ensemble_rules import KINDS, TEACHER, problem, rows, same_result, students_of
from torch import Tensor
from training_checks import (
    NAMES,
    float32_stays_near_the_reference,
    follows_the_reference,
    starts_like_the_cpu,
)

import lmc_fast
from lmc_fast import EnsembleResult, _native
from lmc_fast.ensemble import ensemble_problem
from lmc_fast.ops import _cuda
from lmc_fast.ops._train_ensemble import chunks, fused
from lmc_fast.ops._train_ensemble.outputs import Outputs
from lmc_fast.reference.philox import normals, shuffle

sys.path.insert(0, str(Path(__file__).parents[1]))

from cuda_emulation import NativeTraining, Settings

# Shared memory for what a kernel needs itself, and none for students.
SMALL = {"population_gd": 35000, "other": 4096}


def emulated(
    w1: Tensor, w2: Tensor | None = None, *, settings: Settings | None = None, **options: object
) -> EnsembleResult:
    """Train by the kernels, in the launches that the driver makes."""
    native = NativeTraining(settings)
    stand_in = SimpleNamespace(
        train_ensemble_cuda=native.train_ensemble_cuda,
        train_ensemble_cuda_fits=_native.train_ensemble_cuda_fits,
    )
    given = ensemble_problem(w1, w2, **options)
    outputs = Outputs.of(given)
    workspace = torch.empty(1, dtype=torch.int64)

    def run(function: object, arrays: tuple[Tensor | None, ...], *scalars: object) -> None:
        function(*arrays, workspace, *scalars, 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "_native", stand_in)
        patch.setattr(_cuda, "run", run)
        assert fused.fits(given)
        # A clock that stands still: launches of 1, 4, 16, ... steps.
        fused.train_fused(given, outputs, clock=lambda: 0.0)
    w1, w2, loss, trace, steps, diverged = outputs
    return EnsembleResult(w1, w2, loss, trace, given.trace_steps, steps, diverged)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("c", "train_w2"), [(1, False), (1, True), (3, False), (11, True)])
def test_follows_the_reference_step_by_step(name: str, c: int, train_w2: bool) -> None:
    follows_the_reference(emulated, name, c, train_w2)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_hundred_steps_are_those_of_the_cpu(name: str) -> None:
    got = starts_like_the_cpu(emulated, name)
    if name != "sgd fresh":
        assert torch.equal(got.trace[:, -1], got.loss)


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_near_the_reference(name: str) -> None:
    float32_stays_near_the_reference(emulated, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_depend_on_the_student_alone(kind: str, dtype: torch.dtype) -> None:
    arguments = problem(kind, dtype)
    together = emulated(**arguments)
    for chosen in ([2], [4, 0, 3]):
        assert same_result(emulated(**students_of(arguments, chosen)), rows(together, chosen))
    for order in (1, 5):
        again = emulated(**arguments, settings=Settings(thread_order=order))
        assert same_result(again, together)
    small = Settings(shared_memory=SMALL.get(kind, SMALL["other"]))
    assert same_result(emulated(**arguments, settings=small), together)


@pytest.mark.parametrize("kind", KINDS)
def test_a_diverging_student_keeps_its_last_finite_state_and_leaves_the_others_alone(
    kind: str,
) -> None:
    arguments = problem(kind, torch.float64)
    calm = emulated(**arguments)
    assert not calm.diverged.any()
    lr = torch.as_tensor(arguments["lr"]).expand(len(arguments["w1"])).clone()
    lr[1] = 1e6
    wild = emulated(**{**arguments, "lr": lr})
    want = lmc_fast.train_ensemble(**{**arguments, "lr": lr})
    assert wild.diverged.tolist() == want.diverged.tolist()
    assert wild.diverged[1]
    assert wild.steps.tolist() == want.steps.tolist()
    assert torch.isfinite(wild.w1).all()
    kept = [s for s in range(len(lr)) if s != 1]
    assert same_result(rows(wild, kept), rows(calm, kept))
    assert wild.trace.isnan().tolist() == want.trace.isnan().tolist()


def test_students_stop_at_tol_where_the_cpu_stops_them() -> None:
    arguments = problem("population_gd", torch.float64)
    arguments = {**arguments, "tol": 6e-2, "steps": 400, "record_every": 50}
    got, want = emulated(**arguments), lmc_fast.train_ensemble(**arguments)
    assert got.steps.tolist() == want.steps.tolist()
    assert (want.steps < 400).any()
    assert got.trace.isnan().tolist() == want.trace.isnan().tolist()
    assert_close(got.loss, want.loss, 1e-10, "loss")


def test_float32_students_must_stay_finite_as_float32() -> None:
    w1 = torch.full((1, 3, 4), 1e30)
    arguments = {"teacher": TEACHER[:, :4], "lr": 1e10, "steps": 5}
    got, want = emulated(w1, **arguments), lmc_fast.train_ensemble(w1, **arguments)
    assert got.steps.tolist() == want.steps.tolist()
    assert got.diverged.tolist() == want.diverged.tolist() == [True]
    assert torch.equal(got.w1, want.w1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [0, 1])
def test_few_steps(kind: str, steps: int) -> None:
    arguments = {**problem(kind, torch.float64), "steps": steps, "record_every": 1}
    got, want = emulated(**arguments), lmc_fast.train_ensemble(**arguments)
    for field in FIELDS:
        assert_close(getattr(got, field), getattr(want, field), 1e-12, field)
    assert got.steps.tolist() == want.steps.tolist()


# Students whose neurons are dealt to a warp's lanes: around 4, 7 and 8 neurons a lane, and 12 and
# 20 inputs; beyond 128 neurons and 20 inputs (12 in float64) others train them. Tiles of 16
# samples: one for some of the warps, for each, and several, with tails; epochs that end within a
# batch; an x that stays in shared memory and one that does not (n >= 1100); lists of a shuffle
# there and not (n = 9000). m, d, n, batch.
LANES = [
    (1, 1, 5, 5),
    (7, 3, 100, 16),
    (63, 11, 70, 17),
    (64, 12, 500, 130),
    (65, 13, 77, 64),
    (100, 19, 1100, 65),
    (112, 12, 130, 32),
    (113, 20, 4000, 48),
    (128, 20, 200, 64),
    (128, 12, 9000, 64),
    (64, 20, 150, 64),
    (129, 20, 50, 33),
    (40, 21, 50, 33),
]


def lane_problem(number: int, method: str, dtype: torch.dtype, S: int = 2) -> dict[str, object]:
    m, d, n, batch = LANES[number]
    train_w2 = number % 2 == 0
    w1, w2 = students(S, m, d, 1, train_w2, seed=m)
    arguments = {"w1": w1, "w2": w2, "lr": torch.linspace(0.1, 0.3, S) / max(m, 10)}
    arguments |= {"method": method.split()[0], "train_w2": train_w2, "steps": 12, "record_every": 5}
    if "fresh" in method:
        teacher = (normal(3, d, seed=1), normal(1, 3, seed=2).abs())
        arguments |= {"teacher": teacher, "batch_size": batch}
        if number % 4 > 1:
            arguments |= {"inputs": "sphere", "radius": 1.5}
    else:
        shape = (S, n) if number % 3 == 0 else (n,)
        arguments |= {"x": normal(*shape, d, seed=3), "y": normal(*shape, 1, seed=4)}
        if method == "sgd":
            arguments["batch_size"] = batch
    if "sgd" in method:
        arguments["seeds"] = [3 + 2**40 * s for s in range(S)]
    return {k: single(v) if dtype == torch.float32 else v for k, v in arguments.items()}


def double(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(double(v) for v in value)
    return value.double() if isinstance(value, Tensor) else value


@pytest.mark.parametrize("number", range(len(LANES)))
@pytest.mark.parametrize("method", ["gd", "sgd", "sgd fresh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_students(dtype: torch.dtype, method: str, number: int) -> None:
    arguments = lane_problem(number, method, dtype)
    widened = {k: double(v) for k, v in arguments.items()}
    got, want = emulated(**arguments), lmc_fast.train_ensemble(**widened)
    allowed = 1e-12 if dtype == torch.float64 else 4e-6
    for field in FIELDS:
        exact = getattr(want, field)
        size = max(1.0, float(exact.nan_to_num().abs().max()))
        assert_close(getattr(got, field).double(), exact, allowed * size, field)
    assert got.steps.tolist() == want.steps.tolist()


@pytest.mark.parametrize("number", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("method", ["gd", "sgd", "sgd fresh"])
def test_bits_of_small_students_depend_on_them_alone(
    monkeypatch: pytest.MonkeyPatch, method: str, number: int
) -> None:
    arguments = lane_problem(number, method, torch.float32, S=3)
    together = emulated(**arguments)
    for chosen in ([2], [1, 0]):
        assert same_result(emulated(**students_of(arguments, chosen)), rows(together, chosen))
    for order in (1, 5):
        again = emulated(**arguments, settings=Settings(thread_order=order))
        assert same_result(again, together)
    monkeypatch.setattr(chunks, "next_chunk", lambda *_: 1)  # a launch for each step
    assert same_result(emulated(**arguments), together)


@pytest.mark.parametrize("method", ["gd", "sgd"])
def test_small_students_that_diverge_or_have_no_gradient(method: str) -> None:
    arguments = lane_problem(3, method, torch.float64, S=4)
    arguments["lr"] = torch.tensor([1e-3, 1e3, 1e308, 1e-3], dtype=torch.float64)
    if method == "gd":
        arguments["tol"] = 1e-3
        arguments["x"][3] *= 1e-6
    got, want = emulated(**arguments), lmc_fast.train_ensemble(**arguments)
    assert got.steps.tolist() == want.steps.tolist()
    assert got.diverged.tolist() == want.diverged.tolist() == [False, True, True, False]
    assert got.trace.isnan().tolist() == want.trace.isnan().tolist()
    assert torch.isfinite(got.w1).all()
    for field in FIELDS:
        assert_close(getattr(got, field)[[0, 3]], getattr(want, field)[[0, 3]], 1e-11, field)


@pytest.mark.parametrize("c", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 65, 129, 1030, 7000])
def test_shuffles_are_those_of_the_reference(n: int, c: int) -> None:
    # With c = 1 the lists lie in shared memory up to n = 1030, with c = 2 up to 129.
    w1, w2 = students(2, 3, 2, c, True, seed=1)
    seeds = [5, 2**40 + 1]
    options = {"x": normal(n, 2, seed=2), "y": normal(n, c, seed=3), "method": "sgd", "lr": 1e-3}
    given = ensemble_problem(w1, w2, **options, batch_size=n, seeds=seeds, steps=3, train_w2=True)
    call = fused._Call(given, Outputs.of(given))
    call.limits.fill_(float("inf"))
    workspace = torch.empty(1, dtype=torch.int64)
    for epoch in range(3):
        NativeTraining(Settings(thread_order=epoch)).train_ensemble_cuda(
            *call.arrays, workspace, *call.options(epoch + 1, evaluate=False), 0
        )
        orders, epochs = call.arrays[-2:]
        assert epochs.tolist() == [epoch, epoch]
        for order, seed in zip(orders[:, 0], seeds, strict=True):
            assert order.tolist() == shuffle(seed, n, epoch).tolist()


# m, d, c, n, batch: one tile of samples and several, of 16 and of 64; widths beside the fours and
# the tiles; batches across the borders of epochs; orders in shared memory and (n > 2048) not.
SIZES = [
    (1, 1, 1, 5, 5),
    (7, 3, 2, 100, 64),
    (65, 5, 1, 130, 17),
    (130, 2, 1, 70, 65),
    (12, 33, 3, 2100, 130),
]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("method", ["gd", "sgd"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_sizes(sizes: tuple[int, ...], method: str, loss: str) -> None:
    m, d, c, n, batch = sizes
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = torch.randn(n, c, generator=generator, dtype=torch.float64)
    if loss == "cross_entropy":
        y = torch.randint(c, (n,), generator=generator)
    w1, w2 = students(2, m, d, c, True, seed=m)
    arguments = {"x": x, "y": y, "loss": loss, "method": method, "lr": 0.02, "train_w2": True}
    arguments |= {"steps": 12, "seeds": [3, 2**40 + 1], "record_every": 5}
    if method == "sgd":
        arguments["batch_size"] = batch
    got, want = emulated(w1, w2, **arguments), lmc_fast.train_ensemble(w1, w2, **arguments)
    for field in FIELDS:
        assert_close(getattr(got, field), getattr(want, field), 1e-11, field)


@pytest.mark.parametrize("sizes", [(7, 3, 2, 5000, 64), (300, 20, 1, 11000, 9)])
def test_the_full_loss_is_summed_over_ranges(sizes: tuple[int, ...]) -> None:
    # The second has two ranges.
    m, d, c, n, batch = sizes
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) / d**0.5
    y = torch.randn(n, c, generator=generator, dtype=torch.float64)
    w1, w2 = students(2, m, d, c, True, seed=1)
    arguments = {"x": x, "y": y, "method": "sgd", "batch_size": batch, "lr": 0.01, "steps": 2}
    arguments |= {"record_every": 1}
    got, want = emulated(w1, w2, **arguments), lmc_fast.train_ensemble(w1, w2, **arguments)
    for field in FIELDS:
        assert_close(getattr(got, field), getattr(want, field), 1e-11, field)


def test_a_label_out_of_range_ends_in_divergence() -> None:
    # On a GPU the driver cannot look at labels without waiting; the kernels must not read beyond.
    w1, w2 = students(1, 5, 3, 4, True, seed=0)
    x = torch.randn(10, 3, dtype=torch.float64)
    given = {"x": x, "y": torch.zeros(10, dtype=torch.int64), "loss": "cross_entropy"}
    options = {**given, "method": "gd", "lr": 0.1, "steps": 3, "train_w2": True}
    y = given["y"]
    native = NativeTraining()
    checked = ensemble_problem(w1, w2, **options)
    y[3] = 2**40
    outputs = Outputs.of(checked)
    call = fused._Call(checked, outputs)
    call.zero_loss.fill_(1.0)
    native.train_ensemble_cuda(
        *call.arrays, torch.empty(1, dtype=torch.int64), *call.options(3, evaluate=False), 0
    )
    assert call.status.tolist() == [fused.DIVERGED]
    assert torch.equal(outputs.w1, w1)


def test_normals_are_those_of_the_reference() -> None:
    seeds = torch.tensor([0, 7, 2**62 + 5])
    out = torch.full((3, 33), torch.nan, dtype=torch.float64)
    NativeTraining().train_ensemble_normals_cuda(seeds, out, 12345, 0)
    for row, seed in zip(out, seeds.tolist(), strict=True):
        expected = torch.from_numpy(normals(seed, 33, 12345))
        torch.testing.assert_close(row, expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    ("method", "is_float64", "sizes", "expected"),
    [
        # m, d, c, M, n, batch
        ("gd", False, (64, 10, 1, 0, 512, 0), True),
        ("sgd", False, (100, 20, 1, 5, 0, 64), True),
        ("sgd", True, (100, 20, 1, 5, 0, 64), True),
        ("population_gd", True, (512, 100, 1, 5, 0, 0), True),
        ("population_gd", True, (512, 784, 1, 512, 0, 0), False),
        ("population_gd", True, (40, 10, 1, 10**6, 0, 0), False),
        ("population_gd", True, (513, 10, 1, 5, 0, 0), False),
        ("gd", False, (1000, 10, 1, 0, 512, 0), True),
        ("gd", False, (16384, 10, 1, 0, 512, 0), False),
        ("gd", False, (64, 784, 10, 0, 60000, 0), False),
        ("sgd", False, (2**40, 2**20, 1, 0, 100, 10), False),
    ],
)
def test_sizes_alone_decide_who_is_trained_by_one_block(
    method: str, is_float64: bool, sizes: tuple[int, ...], expected: bool
) -> None:
    assert _native.train_ensemble_cuda_fits(method, is_float64, *sizes, False) == expected


# With a GPU


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or not _cuda.compiled("train_ensemble"),
    reason="needs a GPU and a CUDA build",
)
# A block's students in shared memory and (the last one) not; tiles of 32 and 64 neurons.
GPU_SIZES = [(20, 10, 1), (40, 20, 3), (300, 20, 2)]


def compare_with_cpu(sizes: tuple[int, ...], dtype: torch.dtype, name: str, steps: int) -> None:
    m, d, c = sizes
    c = max(c, 2) if "entropy" in name else c
    convert = (lambda t: t) if dtype == torch.float64 else single
    w1, w2 = (convert(w) for w in students(3, m, d, c, True, seed=4))
    data = {key: convert(value) for key, value in objectives(3, d, c, 4)[name].items()}
    arguments = {"lr": 0.1 / m, "steps": steps, "train_w2": True, "record_every": 2, **data}
    want = lmc_fast.train_ensemble(w1, w2, **arguments)
    moved = {k: v.cuda() if isinstance(v, Tensor) and k in "xy" else v for k, v in data.items()}
    got = lmc_fast.train_ensemble(w1.cuda(), w2.cuda(), **{**arguments, **moved})
    allowed = 1e-10 if dtype == torch.float64 else 1e-4
    for field in FIELDS:
        assert_close(getattr(got, field).cpu(), getattr(want, field), allowed, field)
    assert got.steps.tolist() == want.steps.tolist()
    again = lmc_fast.train_ensemble(w1.cuda(), w2.cuda(), **{**arguments, **moved})
    for field in FIELDS:
        assert torch.equal(getattr(got, field), getattr(again, field)), field


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("sizes", GPU_SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", objectives(1, 1, 1, 0))
def test_gpu_first_steps_are_those_of_the_cpu(
    sizes: tuple[int, ...], dtype: torch.dtype, name: str
) -> None:
    compare_with_cpu(sizes, dtype, name, steps=100 if dtype == torch.float64 else 20)


@pytest.mark.gpu
@pytest.mark.sanitize_quick
@needs_gpu
@pytest.mark.parametrize("sizes", [GPU_SIZES[0], GPU_SIZES[2]])
@pytest.mark.parametrize("name", ["population_gd", "sgd", "sgd cross entropy", "sgd fresh sphere"])
def test_gpu_few_steps(sizes: tuple[int, ...], name: str) -> None:
    compare_with_cpu(sizes, torch.float32, name, steps=3)
