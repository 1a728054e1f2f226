# SPDX-License-Identifier: MIT
"""The CUDA kernels of population_loss on the CPU (emulated), and what is made of them."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lmc_fast
from lmc_fast.ops import _cuda, _teacher, population_path_losses
from lmc_fast.ops.population_loss import OP
from lmc_fast.weights import as_teacher, contents

sys.path.insert(0, str(Path(__file__).parents[1]))

import cuda_emulation
from cuda_emulation import Settings

BOTH = (True, True)
# S, m, M, d, c: tiles of 32 and 64, one and several of them, an even number and an odd one; a
# teacher that comes along (M <= 8) and others, also wider than the student; dimensions 16 at a
# time, outputs 8 at a time; and eights and sixteens of neurons that are full, or not.
SIZES = [
    (1, 1, 1, 1, 1),
    (3, 20, 5, 10, 1),
    (2, 32, 70, 3, 2),
    (2, 33, 1, 40, 1),
    (2, 40, 9, 16, 17),
    (1, 64, 8, 16, 1),
    (2, 70, 8, 17, 3),
    (1, 128, 3, 33, 9),
    (1, 150, 64, 5, 1),
    (1, 200, 8, 2, 1),
]
# Shared memory of a GPU that takes small tiles only.
LOW = 64 * 1024


def networks(S: int, m: int, M: int, d: int, c: int, seed: int = 0) -> tuple[Tensor, ...]:
    """w1, w2, v1, v2 with dead, parallel, opposite, huge and tiny neurons among them."""
    generator = torch.Generator().manual_seed(seed)
    w1, w2, v1, v2 = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((S, m, d), (S, c, m), (M, d), (c, M))
    )
    if m >= 20:
        w1[:, 0] = 0
        w1[:, 1] = 2 * w1[:, 2]
        w1[:, 3] = -3 * w1[:, 4]
        w1[:, 5] = v1[0] * (1 + 1e-9)
        w1[:, 6] *= 1e-200
        w1[:, 7] *= 1e160
        w2[:, :, 7] *= 1e-160
        w1[:, 8] = -w1[:, 9]
        w1[:, 8, 0] *= 1 + 1e-7
    return w1, w2, v1, v2


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("wanted", [(False, False), (True, False), (False, True), BOTH])
def test_losses_and_gradients_are_the_cpu_kernels(
    sizes: tuple[int, ...], wanted: tuple[bool, bool]
) -> None:
    given = networks(*sizes)
    expected = OP(*given, 1.7, list(wanted))
    found = cuda_emulation.population_loss(*given, wanted, Settings(), 1.7)
    for have, want, name in zip(found, expected, ("loss", "dw1", "dw2"), strict=True):
        assert (have is None) == (want is None), name
        if have is not None:
            # Neuron by neuron: those of length 1e160 must not hide the others.
            rows = (-1,) if name == "dw1" else ()
            size = want.abs().amax(rows, keepdim=True) if rows else want.abs()
            if name == "dw2":
                size = size.maximum(given[0].norm(dim=-1)[:, None])
            torch.testing.assert_close((have - want) / size.clamp_min(1e-30), 0 * want,
                                       rtol=0, atol=1e-11)  # fmt: skip


def test_a_minimum_has_the_loss_of_rounding_and_no_gradient() -> None:
    v1 = torch.eye(5, 10, dtype=torch.float64)
    shares = torch.tensor([0.25, 0.5, 0.25, 0.0], dtype=torch.float64)
    w1 = (shares[:, None, None] * v1).reshape(1, 20, 10)
    ones = torch.ones(1, 1, 20, dtype=torch.float64)
    loss, dw1, _ = cuda_emulation.population_loss(
        w1, ones, v1, ones[0, :, :5].contiguous(), BOTH, Settings()
    )
    assert loss is not None
    assert dw1 is not None
    # The students' sum and the teacher's are (5 pi + 20) / (4 pi) = 2.8 each, the one between them
    # is twice that.
    assert float(loss.abs()) < torch.finfo(torch.float64).eps * 4 * 2.85
    assert float(dw1.abs().max()) < 1e-15


@pytest.mark.parametrize("wanted", [(False, False), BOTH])
def test_wide_students_take_rounds(wanted: tuple[bool, bool]) -> None:
    # 36 tiles of 32, of which 18 lie half way round: more than fit into the slots at once.
    given = networks(1, 1130, 40, 2, 1)
    expected = OP(*given, 1.0, list(wanted))
    found = cuda_emulation.population_loss(*given, wanted, Settings(shared_memory=LOW))
    for have, want in zip(found, expected, strict=True):
        if have is not None:
            torch.testing.assert_close(have, want, rtol=1e-12, atol=1e-9)


def test_a_wide_teacher_takes_rounds_of_its_own() -> None:
    given = networks(2, 10, 1100, 2, 1)
    expected = OP(*given, 1.0, [True, True])
    found = cuda_emulation.population_loss(*given, BOTH, Settings())
    for have, want in zip(found, expected, strict=True):
        assert have is not None
        torch.testing.assert_close(have, want, rtol=1e-12, atol=1e-9)
    loss = cuda_emulation.population_loss(*given, (False, False), Settings())[0]
    assert loss is not None
    assert found[0] is not None
    assert torch.equal(loss, found[0])


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-8, 1e-4])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nearly_parallel_and_opposite_neurons_lose_nothing(noise: float, sign: float) -> None:
    generator = torch.Generator().manual_seed(1)
    v1 = torch.randn(5, 10, generator=generator, dtype=torch.float64)
    w1 = sign * v1.repeat(8, 1)[None] / 8
    w1 = w1 * (1 + noise * torch.randn(w1.shape, generator=generator, dtype=torch.float64))
    ones = torch.ones(1, 1, 40, dtype=torch.float64)
    given = (w1, ones, v1, ones[0, :, :5].contiguous())
    found = cuda_emulation.population_loss(*given, BOTH, Settings())
    expected = OP(*given, 1.0, [True, True])
    # The student's own sums have a size that the differences may not have.
    own = OP(w1, ones, 0 * v1, given[3], 1.0, [True, True])
    for have, want, size in zip(found, expected, own, strict=True):
        assert have is not None
        assert float((have - want).abs().max() / size.abs().max()) < 2e-15


@pytest.mark.parametrize("sizes", [(3, 20, 5, 10, 1), (3, 70, 8, 17, 3), (3, 40, 12, 20, 10)])
def test_bits_do_not_depend_on_thread_order_or_the_ensemble(sizes: tuple[int, ...]) -> None:
    w1, w2, v1, v2 = networks(*sizes)
    together = cuda_emulation.population_loss(w1, w2, v1, v2, BOTH, Settings())
    for order in (1, 2, 3):
        again = cuda_emulation.population_loss(w1, w2, v1, v2, BOTH, Settings(thread_order=order))
        for one, other in zip(together, again, strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one, other)
    alone = cuda_emulation.population_loss(
        w1[1:2].contiguous(), w2[1:2].contiguous(), v1, v2, BOTH, Settings()
    )
    for one, other in zip(together, alone, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one[1:2], other)
    loss = cuda_emulation.population_loss(w1, w2, v1, v2, (False, False), Settings())[0]
    assert loss is not None
    assert together[0] is not None
    assert torch.equal(loss, together[0])


def test_empty_ensembles_and_networks() -> None:
    w1, w2, v1, v2 = networks(2, 0, 3, 4, 1)
    loss = cuda_emulation.population_loss(w1, w2, v1, v2, BOTH, Settings())[0]
    assert loss is not None
    torch.testing.assert_close(loss, OP(w1, w2, v1, v2, 1.0, [True, True])[0])
    empty = torch.empty(0, 5, 4, dtype=torch.float64)
    found = cuda_emulation.population_loss(
        empty, empty.new_empty(0, 1, 5), v1, v2, BOTH, Settings()
    )
    assert found[0] is not None
    assert found[0].shape == (0,)


def test_nan_reaches_the_loss() -> None:
    w1, w2, v1, v2 = networks(2, 20, 3, 4, 1)
    w1[0, 11, 2] = torch.nan
    loss = cuda_emulation.population_loss(w1, w2, v1, v2, (False, False), Settings())[0]
    assert loss is not None
    assert loss.isnan().tolist() == [True, False]


@pytest.mark.parametrize("bytes_together", [1, 2**14, 2**28])
def test_paths_point_by_point_are_the_cpu_kernels(
    monkeypatch: pytest.MonkeyPatch, bytes_together: int
) -> None:
    monkeypatch.setattr(population_path_losses, "_BYTES", bytes_together)
    a1, a2, v1, v2 = networks(3, 12, 5, 6, 2)
    b1, b2, _, _ = networks(3, 12, 5, 6, 2, seed=1)
    alphas = torch.tensor([0.0, 0.2, 0.5, 0.7, 1.0], dtype=torch.float64)
    given = (a1, a2, b1, b2, v1, v2, alphas, 0.7)
    losses = population_path_losses._losses_by_points(*given)
    torch.testing.assert_close(losses, population_path_losses.OP(*given), rtol=1e-13, atol=0)
    assert torch.equal(losses[:, 0], OP(a1, a2, v1, v2, 0.7, [False, False])[0])
    assert torch.equal(losses[:, -1], OP(b1, b2, v1, v2, 0.7, [False, False])[0])
    dlosses = torch.linspace(-1, 2, 15, dtype=torch.float64).reshape(3, 5)
    found = population_path_losses._gradients_by_points(dlosses, *given)
    expected = population_path_losses.BACKWARD_OP(dlosses, *given)
    for have, want in zip(found, expected, strict=True):
        torch.testing.assert_close(have, want, rtol=1e-12, atol=1e-14)


def test_a_teacher_is_known_by_what_it_holds() -> None:
    teacher = lmc_fast.teacher(4, 3)
    cpu = torch.device("cpu")
    key = contents(teacher, "teacher", 1024)
    assert key is not None
    again = contents(tuple(t.clone() for t in as_teacher(teacher, 4)), "teacher", 1024)
    assert again == key
    found = _teacher._copy(key, 4, 1, cpu)
    for have, want in zip(found, as_teacher(teacher, 4, 1), strict=True):
        assert torch.equal(have, want)
        assert have.dtype == want.dtype
    assert _teacher._copy(key, 4, 1, cpu) is found
    with torch.no_grad():
        teacher.hidden.weight.data[1, 2] += 1
    changed = contents(teacher, "teacher", 1024)
    assert changed is not None
    assert changed != key
    assert torch.equal(_teacher._copy(changed, 4, 1, cpu).v1, as_teacher(teacher, 4).v1)
    assert contents(teacher, "teacher", 16) is None
    with pytest.raises(ValueError, match="d = 5"):
        _teacher._copy(key, 5, 1, cpu)
    with pytest.raises(TypeError, match="teacher must be"):
        contents(3, "teacher", 1024)


@pytest.mark.gpu
@pytest.mark.sanitize_quick
@pytest.mark.skipif(
    not torch.cuda.is_available() or not _cuda.compiled("population_loss"),
    reason="needs a GPU and a CUDA build",
)
class TestOnTheGpu:
    """The kernels themselves."""

    @pytest.mark.parametrize("sizes", SIZES)
    def test_losses_and_gradients(self, sizes: tuple[int, ...]) -> None:
        w1, w2, v1, v2 = networks(*sizes)
        expected = OP(w1, w2, v1, v2, 1.0, [True, True])
        given = [t.cuda() for t in (w1, w2, v1, v2)]
        found = torch.ops.lmc_fast.population_loss(*given, 1.0, [True, True])
        for have, want in zip(found, expected, strict=True):
            torch.testing.assert_close(have.cpu(), want, rtol=1e-9, atol=1e-11)
        again = torch.ops.lmc_fast.population_loss(*given, 1.0, [True, True])
        for one, other in zip(found, again, strict=True):
            assert torch.equal(one, other)

    def test_paths(self) -> None:
        a1, a2, v1, v2 = (t.cuda().requires_grad_() for t in networks(3, 12, 5, 6, 2))
        b1, b2 = (t.cuda() for t in networks(3, 12, 5, 6, 2, seed=1)[:2])
        teacher = (v1.detach(), v2.detach())
        curve = lmc_fast.population_path_losses((a1, a2), (b1, b2), teacher, 7)
        torch.autograd.backward(curve.losses.sum())
        first, second = a1.detach().cpu().requires_grad_(), a2.detach().cpu()
        on_cpu = lmc_fast.population_path_losses(
            (first, second), (b1.cpu(), b2.cpu()), tuple(t.cpu() for t in teacher), 7
        )
        torch.autograd.backward(on_cpu.losses.sum())
        torch.testing.assert_close(curve.losses.detach().cpu(), on_cpu.losses.detach())
        assert a1.grad is not None
        assert first.grad is not None
        torch.testing.assert_close(a1.grad.cpu(), first.grad)
