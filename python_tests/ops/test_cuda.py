# SPDX-License-Identifier: MIT
"""The ops on CUDA tensors: dispatch and errors without a GPU, everything else (marked gpu) with.

The kernels' arithmetic is tested without a GPU in test_cuda_emulation.py.
"""

import ctypes
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import lmc_fast
from lmc_fast import _native
from lmc_fast.ops import _cuda, _library
from lmc_fast.ops import path_losses as path_module
from lmc_fast.ops import two_layer_relu as module
from lmc_fast.reference import path_losses as path_reference
from lmc_fast.reference import two_layer_relu as reference
from lmc_fast.weights import Weights

sys.path.insert(0, str(Path(__file__).parents[1]))

import cuda_emulation

Arrays = tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]

gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or not _cuda.compiled("two_layer_relu.forward"),
    reason="needs a GPU and a CUDA build",
)


def arrays(
    S: tuple[int, ...] = (),
    n: int = 70,
    d: int = 20,
    m: int = 130,
    c: int = 1,
    *,
    bias: bool = True,
    x_shared: bool = True,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> Arrays:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

    x = normal(n, d) if x_shared else normal(*S, n, d)
    b1, b2 = (normal(*S, m), normal(*S, c)) if bias else (None, None)
    return x, normal(*S, m, d), b1, normal(*S, c, m), b2


def double(inputs: Arrays) -> Arrays:
    x, w1, b1, w2, b2 = (None if t is None else t.double() for t in inputs)
    assert x is not None
    assert w1 is not None
    assert w2 is not None
    return x, w1, b1, w2, b2


def error(found: Tensor, exact: Tensor) -> float:
    found = found.detach().double()
    return float((found - exact).norm() / exact.norm().clamp_min(1e-300))


def run_emulated(function: str, given: list[Tensor | None], terms: int) -> None:
    """Give the arrays of a CUDA function of _native to the emulation."""
    name = f"emulated_{function.removeprefix('two_layer_relu_').removesuffix('_cuda')}"
    if name == "emulated_path_losses":
        *networks, x, y, alphas, losses, accuracies = given
        w1, w2 = networks[0], networks[2]
        sizes = [*w1.shape[:1], *x.shape, w1.shape[1], w2.shape[1], len(alphas)]
        targets = (y, None) if y.is_floating_point() else (None, y)
        given = [*networks, x, *targets, alphas, losses, accuracies]
    else:
        x, w1, _, w2 = given[name == "emulated_backward" :][:4]
        S, m, d = w1.shape
        sizes = [S, x.shape[-2], d, m, w2.shape[1], x.ndim == 2]
    cuda_emulation.call(name, w1.dtype, sizes, given, cuda_emulation.Settings(terms=terms))


# Without a GPU


@pytest.mark.parametrize("S", [(), (3,)])
def test_fake_cuda_tensors_give_shapes_and_devices(S: tuple[int, ...]) -> None:
    # Without gradients: torch's autograd ends the process on CUDA tensors where it has no CUDA.
    with FakeTensorMode():
        x = torch.empty(7, 3, device="cuda")
        w1, w2 = torch.empty(*S, 70, 3, device="cuda"), torch.empty(*S, 2, 70, device="cuda")
        f = lmc_fast.two_layer_relu(x, w1, None, w2, None, precision="tf32")
        assert (f.shape, f.device.type) == ((*S, 7, 2), "cuda")
        _, signs = torch.ops.lmc_fast.two_layer_relu(x, w1, None, w2, None, True)
        assert signs.shape == (S[0] if S else 1, 2, 7)
        wanted = [True, True, False, True, True]
        found = torch.ops.lmc_fast.two_layer_relu_backward(f, x, w1, None, w2, signs, wanted, 2)
        shapes = [x.shape, w1.shape, (0,), w2.shape, w2.shape[:-1]]
        assert [t.shape for t in found] == [torch.Size(shape) for shape in shapes]
        assert {t.device.type for t in found} == {"cuda"}
        networks = [torch.empty(4, *shape, device="cuda") for shape in ((70, 3), (2, 70))] * 2
        a1, a2, b1, b2 = networks
        y = torch.empty(7, 2, device="cuda")
        losses, _ = torch.ops.lmc_fast.path_losses(
            a1,
            None,
            a2,
            None,
            b1,
            None,
            b2,
            None,
            x,
            y,
            torch.empty(5, dtype=torch.float64),
            "mse",
            1,
        )
        assert (losses.shape, losses.device.type) == ((4, 5), "cuda")


def test_tensors_on_two_devices_are_refused_naming_both() -> None:
    with FakeTensorMode():
        x, w1 = torch.empty(7, 3), torch.empty(70, 3, device="cuda")
        w2 = torch.empty(2, 70, device="cuda")
        with pytest.raises(ValueError, match=r"x must be on the device of w1, cuda:0; got cpu"):
            lmc_fast.two_layer_relu(x, w1, None, w2, None)


@pytest.mark.parametrize("precision", ["fp16", "FLOAT32", None])
def test_an_unknown_precision_is_refused(precision: str) -> None:
    x, w1, b1, w2, b2 = arrays()
    wanted = "precision must be one of 'float32', 'tf32', 'bf16'; got"
    with pytest.raises(ValueError, match=wanted):
        lmc_fast.two_layer_relu(x, w1, b1, w2, b2, precision=precision)
    with pytest.raises(ValueError, match=wanted):
        lmc_fast.path_losses(w1, w1, x, x[:, 0], precision=precision)
    with pytest.raises(ValueError, match=wanted):
        lmc_fast.barrier(w1, w1, x=x, y=x[:, 0], precision=precision)
    with pytest.raises(ValueError, match=wanted):
        lmc_fast.TwoLayerReLU(3, 4, precision=precision)


def test_precision_changes_nothing_on_the_cpu() -> None:
    inputs = arrays()
    full = lmc_fast.two_layer_relu(*inputs)
    assert torch.equal(full, lmc_fast.two_layer_relu(*inputs, precision="bf16"))


def test_cuda_functions_refuse_cpu_arrays_and_wrong_terms() -> None:
    x, w1, b1, w2, b2 = arrays()
    f = torch.empty(70, 1)
    with pytest.raises(ValueError, match="w1 must be on a CUDA device"):
        _native.two_layer_relu_forward_cuda(x, w1, b1, w2, b2, f, None, None, 3, 0)


class _Array(ctypes.Structure):
    """A DLPack 0.x array, with nobody to delete it."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_uint8 * 4),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


class OnCuda:
    """A float32 CPU tensor that says it lies on a CUDA device."""

    def __init__(self, tensor: Tensor, index: int = 0) -> None:
        self.tensor = tensor  # kept alive
        self.shape = (ctypes.c_int64 * tensor.ndim)(*tensor.shape)
        self.array = _Array(
            tensor.data_ptr(), (2, index), tensor.ndim, (2, 32, 1, 0), ctypes.addressof(self.shape)
        )

    def __dlpack__(self) -> object:
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.array), b"dltensor", None)


def test_arrays_on_a_gpu_that_is_not_there_are_refused_with_a_reason() -> None:
    x, w1, _, w2, _ = arrays(bias=False)
    f = torch.empty(70, 1)
    given = [OnCuda(x), OnCuda(w1), None, OnCuda(w2), None, OnCuda(f)]
    with pytest.raises(ValueError, match=r"x must be on cuda:0; got one on cuda:1"):
        _native.two_layer_relu_forward_cuda(OnCuda(x, 1), *given[1:], None, None, 3, 0)
    with pytest.raises(ValueError, match="terms must be 0, 1, 2 or 3; got 4"):
        _native.two_layer_relu_forward_cuda(*given, None, None, 4, 0)
    with pytest.raises(ValueError, match=r"f must have shape \(70, 1\); got \(70, 20\)"):
        _native.two_layer_relu_forward_cuda(*given[:5], OnCuda(x), None, None, 3, 0)
    if torch.cuda.is_available():
        return
    wanted = "two_layer_relu on cuda:0: the CUDA launch failed|no CUDA kernels"
    with pytest.raises(RuntimeError, match=wanted):
        _native.two_layer_relu_forward_cuda(*given, None, None, 3, 0)


def test_without_cuda_kernels_the_reference_runs_and_one_warning_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_native, "cuda_kernels", list)
    monkeypatch.setattr(_library, "cuda_kernels", list)
    monkeypatch.setattr(_library, "_warned", set())
    inputs = arrays()
    with pytest.warns(UserWarning, match="lmc_fast has no two_layer_relu kernel"):
        f, _ = module._forward_cuda(*inputs, False)
    module._forward_cuda(*inputs, False)  # a warning would be an error
    torch.testing.assert_close(f, reference.two_layer_relu(*inputs))
    monkeypatch.setattr(_library, "_warned", set())
    with pytest.warns(UserWarning, match="install lmc_fast where nvcc is found"):
        _library.warn_reference_once("two_layer_relu", torch.device("cuda"))


@pytest.mark.skipif(
    sys.platform != "linux"
    or not shutil.which(os.environ.get("CXX", "g++"))
    or "libasan" in os.environ.get("LD_PRELOAD", ""),
    reason="needs a C++ compiler on Linux, and no AddressSanitizer",
)
def test_the_ops_hand_their_arrays_to_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    # The CUDA functions of the ops, with the emulated kernels in place of the GPU's.
    seen = []

    def emulated(function: object, given: tuple[Tensor | None, ...], terms: int) -> None:
        seen.append((function, terms))
        run_emulated(function.__name__, [t if t is None else t.contiguous() for t in given], terms)

    monkeypatch.setattr(_cuda, "run", emulated)
    monkeypatch.setattr(_cuda, "compiled", lambda _: True)
    inputs = arrays((2,), c=2)
    f, signs = module._forward_cuda(*inputs, True, 2)
    exact = reference.two_layer_relu(*double(inputs))
    assert 1e-7 < error(f, exact) < 1e-4
    df = torch.randn(f.shape)
    x, w1, b1, w2, _ = inputs
    gradients = module._backward_cuda(df, x, w1, b1, w2, signs, [True] * 5, 3)
    active = reference.unpack_signs(signs, 130)
    for found, wanted in zip(
        gradients,
        reference.two_layer_relu_backward(df, x, w1, b1, w2, active),
        strict=True,
    ):
        assert error(found, wanted.double()) < 1e-6
    a, b = arrays((2,), c=2, seed=1)[1:], inputs[1:]
    alphas = torch.linspace(0, 1, 7, dtype=torch.float64)
    y = torch.randint(0, 2, (70,))
    losses, accuracies = path_module._cuda_kernels(*a, *b, x, y, alphas, "cross_entropy", 3)
    expected = path_reference.path_losses(
        Weights(*(t.double() for t in a)),
        Weights(*(t.double() for t in b)),
        x.double(),
        y,
        alphas,
        "cross_entropy",
    )
    assert error(losses, expected.losses) < 1e-6
    assert torch.equal(accuracies, expected.accuracies)
    assert [terms for _, terms in seen] == [2, 3, 3]


# With a GPU


@gpu
@needs_gpu
@pytest.mark.sanitize_quick
@pytest.mark.parametrize("tensor_cores", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("S", [(), (3,)])
@pytest.mark.parametrize(
    ("n", "d", "m"), [(1, 1, 1), (70, 20, 130), (129, 65, 127), (300, 784, 65)]
)
def test_gpu_outputs_and_gradients(
    monkeypatch: pytest.MonkeyPatch,
    n: int,
    d: int,
    m: int,
    S: tuple[int, ...],
    c: int,
    dtype: torch.dtype,
    tensor_cores: bool,
) -> None:
    monkeypatch.setattr(_cuda, "TENSOR_CORES", tensor_cores)
    inputs = arrays(S, n, d, m, c, dtype=dtype, device="cuda")
    leaves = [t.requires_grad_() for t in inputs if t is not None]
    f = lmc_fast.two_layer_relu(*inputs)
    df = torch.randn_like(f)
    found = torch.autograd.grad(f, leaves, df)
    _, signs = torch.ops.lmc_fast.two_layer_relu(*inputs, True)
    active = reference.unpack_signs(signs.cpu(), m)
    active = active if S else active[0]
    exact_inputs = double(tuple(None if t is None else t.detach().cpu() for t in inputs))
    x, w1, b1, w2, _ = exact_inputs
    exact = reference.two_layer_relu_backward(df.double().cpu(), x, w1, b1, w2, active)
    bound = 3e-6 if dtype == torch.float32 else 1e-14
    assert error(f.cpu(), reference.two_layer_relu(*exact_inputs)) < bound
    for gradient, wanted in zip(found, exact, strict=True):
        assert error(gradient.cpu(), wanted) < bound


@gpu
@needs_gpu
def test_gpu_float32_errors_are_at_most_twice_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    for d in (10, 64, 784):
        inputs = arrays((), 2000, d, 3000, 1, device="cuda")
        exact = reference.two_layer_relu(*double(inputs))
        ours = error(lmc_fast.two_layer_relu(*inputs), exact)
        assert ours < 2 * error(reference.two_layer_relu(*inputs), exact) + 1e-8
        assert error(lmc_fast.two_layer_relu(*inputs, precision="tf32"), exact) < 2**-14
        assert error(lmc_fast.two_layer_relu(*inputs, precision="bf16"), exact) < 2**-6


@gpu
@needs_gpu
def test_gpu_results_are_reproducible_and_do_not_depend_on_the_ensemble() -> None:
    inputs = arrays((3,), 200, 33, 300, 2, device="cuda")
    f = lmc_fast.two_layer_relu(*inputs)
    for _ in range(5):
        assert torch.equal(f, lmc_fast.two_layer_relu(*inputs))
    x, *rest = inputs
    for s in range(3):
        assert torch.equal(f[s], lmc_fast.two_layer_relu(x, *(t[s] for t in rest)))


@gpu
@needs_gpu
def test_gpu_other_streams_and_graphs() -> None:
    inputs = arrays((), 500, 30, 400, device="cuda")
    x, w1, b1, w2, b2 = inputs
    expected = lmc_fast.two_layer_relu(*inputs)
    a, b = (w1[None], w2[None]), (w1.flip(0)[None], w2[None])
    curve = lmc_fast.path_losses(a, b, x, x[:, 0], alphas=9).losses
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        slow = torch.empty(2**26, device="cuda").normal_()
        late = x + 0 * slow.sum()  # our kernels must wait for it
        found = lmc_fast.two_layer_relu(late, w1, b1, w2, b2)
    stream.synchronize()
    assert torch.equal(found, expected)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = lmc_fast.two_layer_relu(*inputs)
        losses = lmc_fast.path_losses(a, b, x, x[:, 0], alphas=9).losses
    captured.zero_()
    losses.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured, expected)
    assert torch.equal(losses, curve)


@gpu
@needs_gpu
def test_gpu_compile_opcheck_and_gradcheck() -> None:
    inputs = arrays((), 20, 5, 30, 2, dtype=torch.float64, device="cuda")
    leaves = tuple(t.requires_grad_() for t in inputs if t is not None)
    torch.library.opcheck(torch.ops.lmc_fast.two_layer_relu, (*inputs, True))
    assert torch.autograd.gradcheck(lmc_fast.two_layer_relu, leaves)
    compiled = torch.compile(lmc_fast.two_layer_relu, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*inputs), lmc_fast.two_layer_relu(*inputs))


@gpu
@needs_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_gpu_a_device_that_is_not_the_current_one() -> None:
    inputs = arrays((), 50, 5, 30, device="cuda:1")
    f = lmc_fast.two_layer_relu(*inputs)
    assert f.device == torch.device("cuda:1")
    assert torch.cuda.current_device() == 0
    assert error(f.cpu(), reference.two_layer_relu(*double(inputs)).cpu()) < 1e-6


@gpu
@needs_gpu
def test_gpu_out_of_memory_says_how_to_need_less() -> None:
    free, _ = torch.cuda.mem_get_info()
    n = free // 256  # x takes half of it, the workspace would take nearly all
    with pytest.raises(torch.cuda.OutOfMemoryError, match="Pass fewer samples or fewer networks"):
        lmc_fast.two_layer_relu(
            torch.zeros(n, 32, device="cuda"),
            torch.zeros(4, 32, device="cuda"),
            None,
            torch.zeros(5, 4, device="cuda"),
            None,
        )
    torch.cuda.empty_cache()


@gpu
@needs_gpu
@pytest.mark.sanitize_quick
@pytest.mark.parametrize("tensor_cores", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("loss", "c"), [("mse", 1), ("mse", 3), ("cross_entropy", 4)])
@pytest.mark.parametrize("A", [2, 25, 1001])
def test_gpu_path_losses(
    monkeypatch: pytest.MonkeyPatch,
    A: int,
    loss: str,
    c: int,
    dtype: torch.dtype,
    tensor_cores: bool,
) -> None:
    monkeypatch.setattr(_cuda, "TENSOR_CORES", tensor_cores)
    x, *a = arrays((2,), 150, 20, 300, c, dtype=dtype, device="cuda")
    _, *b = arrays((2,), 150, 20, 300, c, dtype=dtype, device="cuda", seed=1)
    y = x[:, :c].contiguous() if loss == "mse" else torch.arange(150, device="cuda") % c
    curve = lmc_fast.path_losses(tuple(a), tuple(b), x, y, A, loss)
    exact = path_reference.path_losses(
        Weights(*(t.double().cpu() for t in a)),
        Weights(*(t.double().cpu() for t in b)),
        x.double().cpu(),
        y.cpu().double() if loss == "mse" else y.cpu(),
        curve.alphas,
        loss,
    )
    bound = 1e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(curve.losses.cpu(), exact.losses, rtol=bound, atol=0.0)
    again = lmc_fast.path_losses(tuple(a), tuple(b), x, y, A, loss)
    assert torch.equal(curve.losses, again.losses)
    one = lmc_fast.path_losses(tuple(t[1:] for t in a), tuple(t[1:] for t in b), x, y, A, loss)
    assert torch.equal(curve.losses[1:], one.losses)
