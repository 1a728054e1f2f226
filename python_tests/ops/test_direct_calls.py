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
from lmc_fast.ops import _library
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
    monkeypatch.delattr(torch._C, "_len_torch_function_stack")
    assert _library._is_watched()
