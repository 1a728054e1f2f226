# SPDX-License-Identifier: MIT
"""lmc_fast._native called directly: what crosses the boundary is checked before any kernel runs."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

from lmc_fast import _native


def call(**change: object) -> np.ndarray:
    arguments: dict[str, object] = {
        "x": np.ones((3, 4)),
        "w1": np.ones((1, 5, 4)),
        "b1": None,
        "w2": np.ones((1, 1, 5)),
        "b2": None,
        "f": np.full((1, 3, 1), np.nan),
        "signs": None,
        "threads": 1,
    }
    arguments.update(change)
    _native.two_layer_relu_forward(**arguments)
    return arguments["f"]  # type: ignore[return-value]


def test_numpy_arrays_are_read_and_written() -> None:
    assert call().ravel().tolist() == [20.0, 20.0, 20.0]


@pytest.mark.sanitize_quick
def test_negative_and_broadcast_strides_are_read_as_numpy_reads_them() -> None:
    rng = np.random.default_rng(0)
    x, w1 = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    expected = np.maximum(x[::-1] @ w1[:, ::-1].T, 0).sum(1)
    w2 = torch.ones(1).expand(1, 1, 5).double()
    got = call(x=x[::-1], w1=w1[None, :, ::-1], w2=w2).ravel()
    np.testing.assert_allclose(got, expected, rtol=1e-14)


def test_a_single_networks_arrays_may_lack_the_leading_s() -> None:
    single = {"w1": np.ones((5, 4)), "w2": np.ones((1, 5)), "f": np.full((3, 1), np.nan)}
    np.testing.assert_array_equal(call(**single), call()[0])


def test_tensors_are_borrowed_whether_or_not_they_require_a_gradient() -> None:
    w1 = torch.ones((1, 5, 4), dtype=torch.float64, requires_grad=True)
    assert call(w1=w1, x=torch.ones((3, 4)).double()).ravel().tolist() == [20.0, 20.0, 20.0]


def test_an_array_without_memory_is_refused() -> None:
    with FakeTensorMode():
        x = torch.ones((3, 4), dtype=torch.float64)
    with pytest.raises((ValueError, RuntimeError), match=r"without memory|data pointer|FakeTensor"):
        call(x=x)


def misaligned(array: np.ndarray) -> np.ndarray:
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    memory[:] = array.reshape(-1).view(np.uint8)
    return memory.view(array.dtype).reshape(array.shape)


@pytest.mark.sanitize_quick
def test_misaligned_inputs_are_read() -> None:
    rng = np.random.default_rng(0)
    x, w1 = rng.normal(size=(3, 4)), rng.normal(size=(1, 5, 4))
    np.testing.assert_array_equal(call(x=misaligned(x), w1=misaligned(w1)), call(x=x, w1=w1))


@pytest.mark.sanitize_quick
@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"x": [1.0]}, TypeError, "x must be an array with __dlpack__ .* got list"),
        (
            {"w1": np.ones(4)},
            ValueError,
            r"w1 must be \(m, d\) or \(S, m, d\), 2-dimensional; got shape \(4,\)",
        ),
        (
            {"w1": np.ones((5, 4))},
            ValueError,
            r"w2 must be \(c, m\), 2-dimensional; got shape \(1, 1, 5\)",
        ),
        (
            {"w1": np.ones((5, 4)), "w2": np.ones((1, 5)), "x": np.ones((1, 3, 4))},
            ValueError,
            r"x must be \(n, d\); got shape \(1, 3, 4\)",
        ),
        ({"x": np.ones((3, 3))}, ValueError, r"x must have shape \(3, 4\); got \(3, 3\)"),
        ({"x": np.ones(3)}, ValueError, r"x must be \(n, d\) or \(S, n, d\); got shape \(3,\)"),
        ({"w2": np.ones((1, 1, 5), np.float32)}, TypeError, "w2 must be float64; got float32"),
        ({"w1": np.ones((1, 5, 4), np.int64)}, TypeError, "w1 must be float32 or float64"),
        ({"f": np.ones((1, 3, 2))[:, :, :1]}, ValueError, "f must be contiguous"),
        ({"f": misaligned(np.ones((1, 3, 1)))}, ValueError, "f must be contiguous and aligned"),
        ({"f": np.ones((1, 2, 1))}, ValueError, r"f must have shape \(1, 3, 1\)"),
        ({"w2": np.ones((1, 0, 5))}, ValueError, "w2 must have at least one output"),
        ({"b1": np.ones((1, 4))}, ValueError, r"b1 must have shape \(1, 5\); got \(1, 4\)"),
        ({"threads": 0}, ValueError, "threads must be at least 1; got 0"),
    ],
)
def test_bad_arrays(change: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(**change)


def test_an_unknown_cpu_target_is_refused_by_name() -> None:
    code = "import lmc_fast; lmc_fast.backend()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LMC_FAST_CPU_TARGET": "sse9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "LMC_FAST_CPU_TARGET must be one of baseline" in result.stderr
    assert "got 'sse9'" in result.stderr


def test_survives_fork_and_several_python_threads() -> None:
    code = """
import os, threading, torch, lmc_fast
torch.set_num_threads(2)
x, w1, w2 = torch.randn(500, 8), torch.randn(1700, 8), torch.randn(1, 1700)
expected = lmc_fast.two_layer_relu(x, w1, None, w2, None)
wrong = []
def work():
    for _ in range(20):
        if not torch.equal(lmc_fast.two_layer_relu(x, w1, None, w2, None), expected):
            wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
child = os.fork()
if child == 0:
    same = torch.equal(lmc_fast.two_layer_relu(x, w1, None, w2, None), expected)
    os._exit(0 if same else 3)
_, status = os.waitpid(child, 0)
assert not wrong and status == 0, (wrong, status)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_a_fork_before_the_first_kernel_survives_torchs_threads() -> None:
    code = """
import os, torch, lmc_fast
torch.set_num_threads(2)
x, w1, w2 = torch.randn(500, 8), torch.randn(1700, 8), torch.randn(1, 1700)
(torch.randn(4_000_000) + 1).sum()
child = os.fork()
if child == 0:
    lmc_fast.two_layer_relu(x, w1, None, w2, None)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
"""
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as parent:
        try:
            assert parent.wait(timeout=60) == 0
        finally:  # the child too, if it hangs
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


def test_the_build_has_cuda_kernels_where_nvcc_was_found() -> None:
    # A CUDA build imports without a GPU.
    both = ("path_losses", "train_ensemble", "two_layer_relu.backward", "two_layer_relu.forward")
    all_kernels = [f"{name}.{dtype}" for name in both for dtype in ("float32", "float64")]
    all_kernels += ["population_loss.float64", "train_ensemble.normals.float64"]
    built_without = "LMC_FAST_CUDA=OFF" in os.environ.get("SKBUILD_CMAKE_DEFINE", "")
    if shutil.which("nvcc") and not built_without:
        assert _native.cuda_kernels() == sorted(all_kernels)
    else:
        assert _native.cuda_kernels() in ([], all_kernels)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads as Linux does")
def test_kernels_run_on_torchs_own_threads() -> None:
    code = """
import os, torch, lmc_fast
torch.set_num_threads(3)
product = torch.randn(1000, 1000)
product @ product, (product + 1).sum()
before = os.listdir("/proc/self/task")
x, w1, w2 = torch.randn(2000, 20), torch.randn(3000, 20), torch.randn(1, 3000)
for _ in range(3):
    lmc_fast.two_layer_relu(x, w1, None, w2, None)
assert os.listdir("/proc/self/task") == before, (before, os.listdir("/proc/self/task"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads as Linux does")
def test_no_more_threads_are_started_than_there_are_tasks() -> None:
    code = """
import os, torch
from lmc_fast import _native
torch.set_num_threads(2)
before = len(os.listdir("/proc/self/task"))
x, w1, w2, f = torch.randn(96, 999), torch.randn(96, 999), torch.randn(1, 96), torch.empty(96, 1)
_native.two_layer_relu_forward(x, w1, None, w2, None, f, None, 3000)
started = len(os.listdir("/proc/self/task")) - before
assert started < 100, started
"""
    subprocess.run([sys.executable, "-c", code], check=True)
