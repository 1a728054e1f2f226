# SPDX-License-Identifier: MIT
"""Ops called past torch's dispatcher: only where it would add nothing, and with the same result."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import lmc_fast
from lmc_fast.ops import _cuda, _library
from lmc_fast.ops.two_layer_relu import BACKWARD_OP, OP


def network(requires_grad: bool = True) -> tuple[Tensor, ...]:
    x, w1, b1 = torch.randn(9, 3), torch.randn(70, 3), torch.randn(70)
    w2, b2 = torch.randn(2, 70), torch.randn(2)
    return tuple(t.requires_grad_(requires_grad) for t in (x, w1, b1, w2, b2))


class Recorder(TorchDispatchMode):
    """Collects the names of the ops it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def dispatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_library, "_is_watched", lambda: True)


def test_both_ways_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = network()

    def run() -> tuple[Tensor, ...]:
        f = lmc_fast.two_layer_relu(*arguments)
        first = torch.autograd.grad(f.square().sum(), arguments, create_graph=True)
        second = torch.autograd.grad(first[1].square().sum(), arguments[1])
        return (f, *first, *second)

    direct = run()
    assert direct[0].grad_fn is not None
    dispatched(monkeypatch)
    for one, other in zip(direct, run(), strict=True):
        assert torch.equal(one, other)


def test_population_loss_gives_the_same_bits_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    w1, teacher = torch.randn(3, 8, 4, requires_grad=True), lmc_fast.teacher(4, 2)

    def run() -> Tensor:
        return torch.autograd.grad(lmc_fast.population_loss(w1, None, teacher).sum(), w1)[0]

    direct = run()
    dispatched(monkeypatch)
    assert torch.equal(direct, run())


def test_an_unused_output_gives_no_gradient() -> None:
    arguments = network()
    f = lmc_fast.two_layer_relu(*arguments)
    unused = torch.autograd.grad((f * 0).sum() + arguments[1].sum(), arguments, allow_unused=True)
    assert torch.equal(unused[1], torch.ones_like(arguments[1]))


def test_plain_calls_pass_the_dispatcher_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("dispatched")

    for op in (OP, BACKWARD_OP):
        monkeypatch.setattr(op, "_dispatched", refuse)
    lmc_fast.two_layer_relu(*network()).sum().backward()
    lmc_fast.two_layer_relu(*network(requires_grad=False))


def test_a_dispatch_mode_sees_forward_and_backward() -> None:
    with Recorder() as recorder:
        lmc_fast.two_layer_relu(*network()).sum().backward()
    assert "lmc_fast.two_layer_relu.default" in recorder.seen
    assert "lmc_fast.two_layer_relu_backward.default" in recorder.seen


def test_a_function_mode_and_the_profiler_see_the_op() -> None:
    class Names(TorchFunctionMode):
        seen: list[str] = []  # noqa: RUF012

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.seen.append(str(func))
            return func(*args, **(kwargs or {}))

    with Names():
        lmc_fast.two_layer_relu(*network())
    assert any("lmc_fast.two_layer_relu" in name for name in Names.seen)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        lmc_fast.two_layer_relu(*network())
    assert "lmc_fast::two_layer_relu" in {event.name for event in profile.events()}


def test_fake_tensors_get_shapes() -> None:
    with FakeTensorMode():
        arguments = network()
    assert lmc_fast.two_layer_relu(*arguments).shape == (9, 2)


def test_a_negative_view_is_read_as_its_values() -> None:
    arguments = list(network(requires_grad=False))
    negative = torch.complex(arguments[0], -arguments[0]).conj().imag
    assert negative.is_neg()
    expected = lmc_fast.two_layer_relu(*arguments)
    arguments[0] = negative
    assert torch.equal(lmc_fast.two_layer_relu(*arguments), expected)


def test_zeros_without_memory_and_functional_tensors_are_read_as_their_values() -> None:
    x, *others = network(requires_grad=False)
    expected = lmc_fast.two_layer_relu(x, *others)
    functional = lmc_fast.two_layer_relu(torch._to_functional_tensor(x), *others)
    assert torch.equal(torch._from_functional_tensor(functional), expected)
    expected = lmc_fast.two_layer_relu(torch.zeros_like(x), *others)
    assert torch.equal(
        lmc_fast.two_layer_relu(torch._efficientzerotensor(x.shape), *others), expected
    )


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's of its own fallback
def test_batched_gradients_are_those_taken_one_by_one() -> None:
    arguments = network()
    f = lmc_fast.two_layer_relu(*arguments)
    dfs = torch.eye(f.numel()).reshape(-1, *f.shape)
    batched = torch.autograd.grad(f, arguments, dfs, is_grads_batched=True, retain_graph=True)
    single = [torch.autograd.grad(f, arguments, df, retain_graph=True) for df in dfs]
    for together, apart in zip(batched, zip(*single, strict=True), strict=True):
        assert torch.equal(together, torch.stack(apart))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_a_vectorized_jacobian_is_the_jacobian() -> None:
    x, w1, *others = network(requires_grad=False)

    def f(w1: Tensor) -> Tensor:
        return lmc_fast.two_layer_relu(x, w1, *others)

    vectorized = torch.autograd.functional.jacobian(f, w1, vectorize=True)
    assert torch.equal(vectorized, torch.autograd.functional.jacobian(f, w1))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_gradcheck_with_batched_gradients() -> None:
    arguments = tuple(t.detach().double().requires_grad_() for t in network())
    assert torch.autograd.gradcheck(
        lmc_fast.two_layer_relu, arguments, check_batched_grad=True, fast_mode=True
    )


def test_subclasses_and_functorch_are_not_plain() -> None:
    class Marked(Tensor):
        pass

    x = torch.randn(2, 3)
    assert _library._is_plain((x, None, True))
    assert not _library._is_plain((x.as_subclass(Marked),))

    def inside(t: Tensor) -> Tensor:
        assert not _library._is_plain((t,))
        return t.sum()

    torch.func.grad(inside)(x)


def test_torch_compile_keeps_the_op_in_one_graph() -> None:
    arguments = network()
    expected = lmc_fast.two_layer_relu(*arguments).sum()
    compiled = torch.compile(
        lambda *a: lmc_fast.two_layer_relu(*a).sum(), fullgraph=True, backend="aot_eager"
    )
    torch.testing.assert_close(compiled(*arguments), expected)


def test_a_torch_that_cannot_be_asked_dispatches(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 3)
    assert _library._is_plain((x,))
    for name in ("_len_torch_function_stack", "_dispatch_keys"):
        with monkeypatch.context() as patch:
            patch.delattr(torch._C, name)
            assert not _library._is_plain((x,))


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or not _cuda.compiled("two_layer_relu.forward"),
    reason="needs a GPU and a CUDA build",
)
def test_gpu_calls_give_the_same_bits_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = tuple(t.detach().cuda().requires_grad_() for t in network())
    assert _library._is_plain(arguments)
    with Recorder():
        assert not _library._is_plain(arguments)

    def run() -> tuple[Tensor, ...]:
        f = lmc_fast.two_layer_relu(*arguments)
        return (f, *torch.autograd.grad(f.square().sum(), arguments))

    direct = run()
    dispatched(monkeypatch)
    for one, other in zip(direct, run(), strict=True):
        assert torch.equal(one, other)
