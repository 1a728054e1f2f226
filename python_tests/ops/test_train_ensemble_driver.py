# SPDX-License-Identifier: MIT
"""How an ensemble on a GPU is cut into groups and launches, with the reference for a GPU."""

import itertools
import signal
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from compare import assert_close
from test_train_ensemble_rules import KINDS, problem, same_bits, same_result, students_of
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import lmc_fast
from lmc_fast import EnsembleResult, _native
from lmc_fast.ensemble import EnsembleProblem, ensemble_problem
from lmc_fast.ops import _cuda
from lmc_fast.ops._train_ensemble import driver, fused, memory
from lmc_fast.ops._train_ensemble.chunks import in_chunks, next_chunk
from lmc_fast.ops._train_ensemble.memory import Bytes, group_size
from lmc_fast.reference import train_ensemble as module
from lmc_fast.weights import Teacher

RUNNING, STOPPED, DIVERGED = fused.RUNNING, fused.STOPPED, fused.DIVERGED


class Device:
    """The kernels' side of a launch, by the reference; float64 state."""

    def __init__(self) -> None:
        self.launches: list[tuple[int, int]] = []  # students and `until`
        self.interrupt_at = -1
        self.fits = True

    def train(self, *given: object) -> int:
        w1, w2, lr, seeds, x, y, v1, v2, zero_loss, *rest = given
        limits, loss_out, trace, steps_out, status, orders, epochs, workspace, *rest = rest
        method, loss, train_w2, steps, batch_size, tol, record_every, *rest = rest
        scale, radius, until, evaluate, round_to_float32, _ = rest
        need = 40 + 24 * len(w1)
        if workspace is None:
            return need
        assert workspace.numel() * 8 >= need
        assert all(t is None or t.is_contiguous() for t in given[:16])
        if method == "sgd" and x is not None:
            assert orders.shape == (len(w1), 2, x.shape[-2])
            assert epochs.shape == (len(w1),)
        assert w1.dtype == torch.float64
        if not evaluate:
            self.launches.append((len(w1), until))
            if len(self.launches) == self.interrupt_at:
                signal.raise_signal(signal.SIGINT)
        dtype = torch.float32 if round_to_float32 else torch.float64
        problem = EnsembleProblem(
            w1=w1.to(dtype), w2=w2.to(dtype), method=method, lr=lr, steps=steps,
            teacher=None if v1 is None else Teacher(v1, v2), x=x, y=y, batch_size=batch_size,
            loss=loss, train_w2=train_w2, seeds=seeds, tol=tol, record_every=record_every,
            inputs="sphere" if radius else "gaussian", radius=radius or 1.0,
        )  # fmt: skip
        assert scale == (radius**2 / w1.shape[-1] if radius else 1.0)
        for s in range(len(w1)):
            run = module._Run(problem, s)
            run.w1, run.w2, run.step = w1[s].clone(), w2[s].clone(), int(steps_out[s])
            if evaluate:
                loss_out[s] = run.objective(run.w1, run.w2)
            elif status[s] == RUNNING:
                if method != "sgd" and run.step == 0:
                    full = float(run.objective(run.w1, run.w2))
                    limits[s] = 1e3 * max(float(zero_loss[s]), full)
                run.limit = float(limits[s])
                status[s] = self._advance(run, until, trace[s])
                loss_out[s] = run.objective(run.w1, run.w2)
                w1[s], w2[s], steps_out[s] = run.w1, run.w2, run.step
        return need

    def _advance(self, run: module._Run, until: int, trace: Tensor) -> int:
        """The reference's own loop, step by step to `until`."""
        problem, steps, every = run.problem, run.problem.steps, run.problem.record_every
        exact = problem.method != "sgd"
        while run.step < until:
            if exact and every and run.step % every == 0:
                trace[run.step // every] = run.objective(run.w1, run.w2)
            before, run.diverged = run.step, False
            run.problem = _with(problem, steps=before + 1, record_every=0)
            with torch.enable_grad():
                run.train(trace)
            run.problem = problem
            if run.step == before:
                return DIVERGED if run.diverged else STOPPED
        if run.step < steps or not exact:
            return RUNNING
        full = run.objective(run.w1, run.w2)
        if every and steps % every == 0:
            trace[steps // every] = full
        return STOPPED if full <= run.limit else DIVERGED


def _with(problem: EnsembleProblem, **changes: object) -> EnsembleProblem:
    return EnsembleProblem(**{**vars(problem), **changes})


def run_here(function: Callable[..., int], arrays: tuple[Tensor | None, ...], *options) -> None:
    """What _cuda.run does, without a stream."""
    size = function(*arrays, None, *options, 0)
    workspace = torch.empty((size + 7) // 8, dtype=torch.int64)
    assert function(*arrays, workspace, *options, 0) == size


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Let the driver work on CPU tensors."""
    found = Device()
    set_native = {
        "train_ensemble_cuda": found.train,
        "train_ensemble_cuda_fits": lambda *_: found.fits,
    }
    for name, function in set_native.items():
        monkeypatch.setattr(_native, name, function, raising=False)
    monkeypatch.setattr(_cuda, "run", run_here)
    monkeypatch.setattr(_cuda, "in_a_launch", lambda *_: 2**31)
    monkeypatch.setattr(driver, "usable_bytes", lambda _: 2**40)
    return found


def train(w1: Tensor, w2: Tensor | None = None, **options: object) -> EnsembleResult:
    given = ensemble_problem(w1, w2, **options)
    w1, w2, loss, trace, steps, diverged = driver.train_on_cuda(given)
    return EnsembleResult(w1, w2, loss, trace, given.trace_steps, steps, diverged)


def small(kind: str) -> dict[str, object]:
    """A problem, one of whose students diverges."""
    arguments = problem(kind, torch.float64)
    arguments |= {"w1": arguments["w1"][:, :8], "w2": arguments["w2"][:, :, :8], "steps": 20}
    arguments["lr"] = arguments["lr"].clone() * 0.1
    arguments["lr"][1] = 500.0
    return arguments


def same_but_for_rounding(got: EnsembleResult, want: EnsembleResult) -> None:
    assert torch.equal(got.steps, want.steps)
    assert torch.equal(got.diverged, want.diverged)
    for field in ("w1", "w2", "loss", "trace"):
        exact = getattr(want, field)
        assert_close(getattr(got, field), exact, 1e-12 * float(exact.nan_to_num().norm()), field)


# Pace


def test_chunks_grow_towards_a_tenth_of_a_second() -> None:
    assert next_chunk(1, 1, 1e-6) == 4
    assert next_chunk(16, 16, 0.0) == 64
    assert next_chunk(16, 16, 0.05) == 32
    assert next_chunk(16, 16, 0.4) == 4
    assert next_chunk(16, 16, 1000.0) == 1
    assert next_chunk(16, 2, 0.02) == 10  # a chunk that a pause cut short
    assert next_chunk(16, 2, 0.0) == 64


@pytest.mark.parametrize("pause_every", [0, 300])
@pytest.mark.parametrize("seconds_per_step", [1e-5, 3e-3, 0.2])
def test_launches_stay_near_their_target(seconds_per_step: float, pause_every: int) -> None:
    now, reached = [0.0], [0]

    def advance(until: int) -> bool:
        now[0] += 1e-4 + (until - reached[-1]) * seconds_per_step
        reached.append(until)
        return True

    in_chunks(2000, advance, pause_every, clock=lambda: now[0])
    taken = [b - a for a, b in itertools.pairwise(reached)]
    assert reached[-1] == 2000
    assert min(taken) > 0
    assert taken[0] == 1
    assert all(b <= 4 * a for a, b in itertools.pairwise(taken) if not pause_every)
    assert max(taken) * seconds_per_step <= max(0.1001, seconds_per_step)
    if not pause_every:
        assert len(taken) <= 12 + 2000 * seconds_per_step / 0.05
    if pause_every:
        assert set(range(300, 2000, 300)) <= set(reached)


def test_chunks_end_when_no_student_runs() -> None:
    seen = []

    def advance(until: int) -> bool:
        seen.append(until)
        return until < 5

    in_chunks(10**12, advance, clock=lambda: 0.0)
    assert seen == [1, 5]
    seen.clear()
    in_chunks(0, advance)
    assert seen == [0]


# Memory


def test_groups_take_what_fits() -> None:
    assert group_size(10, Bytes(0, 100), 1000, "cuda:0") == 10
    assert group_size(10, Bytes(1, 100), 1000, "cuda:0") == 9
    assert group_size(10, Bytes(900, 100), 1000, "cuda:0") == 1
    assert group_size(3, Bytes(0, 0), 1000, "cuda:0") == 3
    wanted = r"one student .* needs 1,001 bytes on cuda:1, where 1,000 can be used. Free other"
    with pytest.raises(torch.cuda.OutOfMemoryError, match=wanted):
        group_size(10, Bytes(901, 100), 1000, "cuda:1")
    with pytest.raises(torch.cuda.OutOfMemoryError, match="where 0 can be used"):
        group_size(10, Bytes(1, 1), -5, "cuda:1")


def test_blocks_of_samples_are_equal_and_bounded() -> None:
    for n, m in ((1, 1), (60_000, 512), (60_000, 2**20), (7, 2**33)):
        block = memory.block_of_samples(n, m, 784, 10, 4)
        assert 1 <= block <= n
        assert block == 1 or block * memory.sample_bytes(m, 10, 4) <= memory.BLOCK_BYTES
        blocks = -(-n // block)
        assert blocks == 1 or blocks * block - n < blocks
    assert memory.block_of_samples(60_000, 512, 784, 10, 4) == 60_000 // 2
    assert memory.block_of_samples(1000, 512, 784, 10, 4) == 1000


@pytest.mark.parametrize("kind", KINDS)
def test_stepwise_bytes_cover_the_tensors_it_makes(kind: str) -> None:
    S = 40
    given = ensemble_problem(**problem(kind, torch.float64, S))
    fixed, each = memory.stepwise_bytes(given)
    assert fixed == 0
    weights = 37 * 8 * 8
    assert 7 * weights < each < 10**6
    found = Peak()
    outputs = driver.Outputs.of(given)
    with found:
        driver.train_stepwise(given, outputs)
    assert found.bytes < S * each


class Peak(torch.utils._python_dispatch.TorchDispatchMode):
    """The most bytes of results that are alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.alive = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in args if isinstance(t, Tensor)}
        for t in results if isinstance(results, (tuple, list)) else (results,):
            if not isinstance(t, Tensor):
                continue
            storage = t.untyped_storage()
            if storage._cdata in self.known or storage._cdata in given:
                continue
            self.known.add(storage._cdata)
            self.alive += storage.nbytes()
            self.bytes = max(self.bytes, self.alive)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return results

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.alive -= size


def test_workspaces_are_measured_for_one_student(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def measured(name: str, bytes_: int) -> Callable[..., int]:
        def function(*given: object) -> int:
            arrays = [t for t in given if isinstance(t, Tensor)]
            assert all(t.device.type == "cuda" for t in arrays)
            assert all(t.is_contiguous() for t in arrays)
            seen.append((name, tuple(arrays[0].shape)))
            return bytes_

        return function

    for name, bytes_ in (
        ("two_layer_relu_forward_cuda", 1000),
        ("two_layer_relu_backward_cuda", 10**7),
        ("population_loss_cuda", 3000),
    ):
        monkeypatch.setattr(_native, name, measured(name, bytes_), raising=False)
    here = {kind: ensemble_problem(**problem(kind, torch.float32)) for kind in KINDS}
    with FakeTensorMode():
        for kind, given in here.items():
            moved = {
                name: torch.empty(t.shape, dtype=t.dtype, device="cuda")
                for name in ("w1", "w2", "x", "y")
                if (t := getattr(given, name)) is not None
            }
            if given.teacher is not None:
                v1, v2 = (torch.empty(t.shape, dtype=t.dtype, device="cuda") for t in given.teacher)
                moved["teacher"] = Teacher(v1, v2)
            there = memory.stepwise_bytes(_with(given, **moved))
            extra = 3000 if kind == "population_gd" else 10**7
            assert there.each == memory.stepwise_bytes(given).each + extra
    assert ("population_loss_cuda", (1, 37, 6)) in seen
    assert ("two_layer_relu_forward_cuda", (1, 200, 6)) in seen
    assert ("two_layer_relu_backward_cuda", (1, 33, 2)) in seen


@pytest.mark.parametrize(
    ("capability", "dtype", "expected"),
    [((9, 0), torch.float32, 2534), ((9, 0), torch.float64, 1267), ((8, 9), torch.float64, 79)],
)
def test_students_of_a_launch_by_the_chips_units(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, expected: int
) -> None:
    major, minor = capability
    gpu = SimpleNamespace(major=major, minor=minor, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    there = torch.device("cuda:0")
    assert _cuda.in_a_launch(1e8, dtype, there) == expected
    assert _cuda.in_a_launch(1e30, dtype, there) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_cut_by_the_work_of_a_step(
    monkeypatch: pytest.MonkeyPatch, device: Device, kind: str
) -> None:
    arguments = small(kind)
    together = train(**arguments)
    device.launches.clear()
    asked = []

    def two(work: float, dtype: torch.dtype, where: torch.device) -> int:
        asked.append((work, dtype))
        return 2

    monkeypatch.setattr(_cuda, "in_a_launch", two)
    assert all(map(same_bits, train(**arguments), together))
    assert {students for students, _ in device.launches} == {1, 2}
    m, d = 8, arguments["w1"].shape[2]
    M, n, c = 3, 200, 2
    work = {
        "population_gd": m * (m + M) * (3 * d + 2 * c + 60),
        "sgd": 33 * 2 * m * (d + c),
        "sgd fresh": 33 * (2 * m + M) * (d + c),
    }.get(kind, n * 2 * m * (d + c))
    assert asked == [(pytest.approx(work), torch.float64)]


# The driver


@pytest.mark.parametrize(
    ("steps", "record_every"), [(0, 0), (0, 6), (1, 1), (20, 0), (20, 6), (20, 10)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_fused_training_is_the_references(
    device: Device, kind: str, record_every: int, steps: int
) -> None:
    arguments = {**small(kind), "record_every": record_every, "steps": steps}
    arguments["w1"][4] *= 1000  # a loss of 1e6 times the zero network's, from which it learns
    arguments["lr"][4] = 1e-9
    got, want = train(**arguments), module.train_ensemble(**arguments)
    assert want.diverged.tolist() == [False, steps > 0, False, False, False]
    same_but_for_rounding(got, want)
    assert bool(device.launches) == ("sgd" not in kind or steps > 0)
    if "sgd" in kind and record_every and steps:
        assert {until for _, until in device.launches} >= set(
            range(record_every, steps, record_every)
        )


def test_fused_training_on_the_sphere_stops_at_the_tolerance(device: Device) -> None:
    w1 = lmc_fast.init_students(range(3), 5, 6).w1
    options = {"lr": torch.tensor([0.1, 0.2, 0.4]), "teacher": torch.eye(6).double()[:3]}
    options |= {"inputs": "sphere", "radius": 1.5, "tol": 0.05, "steps": 10**9}
    want = module.train_ensemble(w1, **options)
    got = train(w1, **options)
    same_but_for_rounding(got, want)
    assert 0 < int(got.steps.min()) < int(got.steps.max()) < 10**4
    assert device.launches[-1][1] < 10**5


def test_float32_students_of_population_gd_are_trained_in_float64(device: Device) -> None:
    arguments = small("population_gd")
    arguments |= {"w1": arguments["w1"].float(), "w2": arguments["w2"].float()}
    got, want = train(**arguments), module.train_ensemble(**arguments)
    assert got.w1.dtype == torch.float32
    assert torch.equal(got.w1, want.w1)
    assert_close(got.loss, want.loss, 1e-13)
    start = torch.full((1, 3, 2), 0.5)
    wild = train(start, lr=1e60, steps=3, teacher=torch.eye(2, dtype=torch.float64))
    assert wild.diverged.tolist() == [True]
    assert torch.equal(wild.w1, start)


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_groups_change_no_bits(
    device: Device, monkeypatch: pytest.MonkeyPatch, kind: str, fits: bool
) -> None:
    device.fits = fits
    arguments = small(kind)
    given = ensemble_problem(**arguments)
    whole = train(**arguments)
    assert bool(device.launches) == fits
    assert {students for students, _ in device.launches} <= {5}
    device.launches.clear()
    fixed, each = fused.fused_bytes(given) if fits else memory.stepwise_bytes(given)
    monkeypatch.setattr(driver, "usable_bytes", lambda _: fixed + 2 * each)
    assert same_result(train(**arguments), whole)
    assert {students for students, _ in device.launches} == ({2, 1} if fits else set())
    monkeypatch.setattr(driver, "usable_bytes", lambda _: fixed + each - 1)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="one student of these sizes needs"):
        train(**arguments)


def test_the_workspace_is_part_of_a_fused_group(device: Device) -> None:
    given = ensemble_problem(**small("gd"))
    fixed, each = fused.fused_bytes(given)
    assert fixed == 40
    assert each - 24 >= 8 * given.y[0].numel()
    assert sum(fused.fused_bytes(given.of_students(slice(0, 1)))) == fixed + each
    assert not device.launches


def test_sizes_alone_choose_the_way(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        _native, "train_ensemble_cuda_fits", lambda *sizes: not asked.append(sizes), raising=False
    )
    for kind in KINDS:
        for chosen in ([0, 1, 2], [4]):
            fused.fits(ensemble_problem(**students_of(problem(kind, torch.float32), chosen)))
    sgd = ("sgd", False, 37, 6, 2)
    gd = ("gd", False, 37, 6, 2, 0, 200, 0, True)
    population = ("population_gd", True, 37, 6, 2, 3, 0, 0, True)
    wanted = [population, gd, gd, (*sgd, 0, 200, 33, True), (*sgd, 3, 0, 33, True)]
    assert asked[::2] == asked[1::2] == wanted


def test_no_students_are_no_launch(device: Device) -> None:
    for kind in KINDS:
        none = train(**students_of(problem(kind, torch.float64), []))
        assert [len(t) for t in none] == [0, 0, 0, 0, 5, 0, 0]
    assert not device.launches


def test_ctrl_c_is_heard_between_launches(device: Device) -> None:
    arguments = {**small("population_gd"), "steps": 10**9, "record_every": 0}
    device.interrupt_at = 3
    with pytest.raises(KeyboardInterrupt):
        train(**arguments)
    assert len(device.launches) == 3
    assert train(**{**arguments, "steps": 3}).steps.max() == 3


def test_memory_that_runs_out_while_training_is_explained(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("no room.")

    monkeypatch.setattr(_cuda, "run", full)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"train_ensemble: no room. Pass fewer"):
        train(**small("gd"))


def test_a_stream_that_is_captured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    given = ensemble_problem(**small("gd"))
    with FakeTensorMode():
        w1 = torch.empty(given.w1.shape, device="cuda")
    with pytest.raises(RuntimeError, match="Call it outside the capture"):
        driver.train_on_cuda(_with(given, w1=w1))


def test_the_op_hands_its_arguments_to_the_driver(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmc_fast.ops import train_ensemble as op

    monkeypatch.setitem(op.OP._kernels, "cpu", op._cuda_kernel)
    arguments = small("sgd fresh") | {"inputs": "sphere", "radius": 1.5}
    got = lmc_fast.train_ensemble(**arguments)
    assert device.launches
    same_but_for_rounding(got, module.train_ensemble(**arguments))
    none = lmc_fast.train_ensemble(**students_of(arguments, []))
    assert len(none.w1) == 0


def test_results_are_on_the_students_device() -> None:
    with FakeTensorMode():
        w1, w2 = torch.empty(3, 7, 4, device="cuda"), torch.empty(3, 1, 7, device="cuda")
        v1, v2 = torch.empty(2, 4, device="cuda"), torch.empty(1, 2, device="cuda")
        lr, seeds = torch.empty(3, dtype=torch.float64), torch.arange(3)
        found = torch.ops.lmc_fast.train_ensemble(
            w1, w2, lr, seeds, None, None, v1.double(), v2.double(), "sgd", "mse", True, 10, 5,
            0.0, 5, "gaussian", 1.0, 1,
        )  # fmt: skip
    assert {t.device.type for t in found} == {"cuda"}
    shapes = [(3, 7, 4), (3, 1, 7), (3,), (3, 3), (3,), (3,)]
    assert [tuple(t.shape) for t in found] == shapes


# With a GPU


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or not _cuda.compiled("train_ensemble"),
    reason="needs a GPU and a CUDA build",
)
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_training_is_the_cpus_and_the_students_alone(
    monkeypatch: pytest.MonkeyPatch, kind: str, fits: bool
) -> None:
    if not fits:
        monkeypatch.setattr(_native, "train_ensemble_cuda_fits", lambda *_: False)
    arguments = problem(kind, torch.float64)
    want = lmc_fast.train_ensemble(**arguments)
    # lr, seeds and the teacher stay where they are.
    moved = {k: arguments[k].cuda() for k in ("w1", "w2", "x") if k in arguments}
    got = lmc_fast.train_ensemble(**{**arguments, **moved})
    assert {t.device.type for t in got._replace(trace_steps=got.w1)} == {"cuda"}
    for field in ("w1", "w2", "loss", "trace", "steps"):
        assert_close(getattr(got, field), getattr(want, field), 1e-10, field)
    again = lmc_fast.train_ensemble(**{**arguments, **moved})
    alone = lmc_fast.train_ensemble(**students_of({**arguments, **moved}, [3]))
    for together, repeated, single in zip(got, again, alone, strict=True):
        assert same_bits(together, repeated)
        assert len(together) != 5 or together is got.trace_steps or same_bits(together[3:4], single)
