# SPDX-License-Identifier: MIT
"""Students trained by Adam: the reference, torch's optimizer, bits, and who stops when."""

import pytest
import torch
from compare import assert_close, rounding
from test_train_ensemble import objectives, students
from test_train_ensemble_rules import rows, same_result, students_of
from torch import Tensor

import lmc_fast
from lmc_fast import train_ensemble
from lmc_fast.reference.train_ensemble import train_ensemble as reference

KINDS = ["sgd", "sgd cross entropy", "sgd fresh"]
STEPS = 30


def problem(kind: str, m: int = 7, dtype: torch.dtype = torch.float64) -> dict[str, object]:
    """Arguments with something of its own for every one of five students."""
    data = {**objectives(5, 6, 3, 0)[kind], "method": "adam"}
    w1, w2 = students(5, m, 6, 3, True, seed=0)
    lr = torch.linspace(0.001, 0.02, 5)
    given = {"w1": w1, "w2": w2, "lr": lr, "steps": STEPS, "record_every": 7, "train_w2": True}
    given |= data
    return {
        key: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
        for key, value in given.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train_w2", [False, True])
def test_follows_the_reference(kind: str, train_w2: bool) -> None:
    arguments = {**problem(kind), "train_w2": train_w2}
    got, want = train_ensemble(**arguments), reference(**arguments)
    assert torch.equal(got.steps, want.steps)
    assert not got.diverged.any()
    assert torch.equal(got.w2, arguments["w2"]) != train_w2
    # A direction is at most some lr long whatever the gradient, whose rounding it magnifies by
    # the inverse of the gradient's size.
    for field in ("w1", "w2", "loss", "trace"):
        assert_close(getattr(got, field), getattr(want, field), rounding(10**5), field)


def test_is_torchs_adam() -> None:
    """In a plain loop over the same batches: of all samples, in any order."""
    data = objectives(1, 6, 3, 0)["sgd cross entropy"]
    x, y = data["x"][0], data["y"]
    w1, w2 = students(1, 7, 6, 3, True, seed=0)
    net = lmc_fast.TwoLayerReLU(6, 7, 3, bias=False).double()
    with torch.no_grad():
        net.hidden.weight.copy_(w1[0])
        net.output.weight.copy_(w2[0])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    got = train_ensemble(
        w1, w2, method="adam", lr=0.01, steps=STEPS, x=x, y=y, batch_size=len(x),
        loss="cross_entropy", train_w2=True,
    )  # fmt: skip
    assert_close(got.w1[0], net.hidden.weight.detach(), rounding(10**5))
    assert_close(got.w2[0], net.output.weight.detach(), rounding(10**5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [7, 33])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_depend_on_the_student_alone(kind: str, m: int, dtype: torch.dtype) -> None:
    arguments = problem(kind, m, dtype)
    together = train_ensemble(**arguments, threads=2)
    assert same_result(train_ensemble(**arguments, threads=1), together)
    for chosen in ([2], [4, 0, 3]):
        some = train_ensemble(**students_of(arguments, chosen))
        assert same_result(some, rows(together, chosen))


def test_bits_of_a_student_that_threads_share() -> None:
    """Wide enough for torch to cut its tensors among threads, of an odd number of weights."""
    start = lmc_fast.init_students(range(2), 1021, 65, c=3, scale=1.0, dtype=torch.float32)
    x = torch.randn(40, 65, generator=torch.Generator().manual_seed(0))
    options = {"method": "adam", "lr": 0.01, "steps": 5, "x": x, "y": torch.arange(40) % 3,
               "batch_size": 8, "loss": "cross_entropy", "train_w2": True}  # fmt: skip
    together = train_ensemble(*start[::2], **options, seeds=[0, 1], threads=2)
    alone = train_ensemble(start.w1[1:], start.w2[1:], **options, seeds=[1], threads=1)
    assert torch.equal(together.w1[1:], alone.w1)
    assert torch.equal(together.w2[1:], alone.w2)


@pytest.mark.parametrize("wild", [[1], [0, 1, 4]])
def test_a_diverging_student_leaves_the_others_alone(wild: list[int]) -> None:
    """With three of five gone, the others go on without them, and with the means they had."""
    arguments = problem("sgd")
    calm = train_ensemble(**arguments)
    arguments["lr"] = arguments["lr"].clone()
    arguments["lr"][wild] = 1e3
    got, want = train_ensemble(**arguments), reference(**arguments)
    assert got.diverged.nonzero().flatten().tolist() == wild
    assert got.steps.tolist() == want.steps.tolist()
    assert bool(got.w1.isfinite().all())
    others = [s for s in range(5) if s not in wild]
    assert same_result(rows(got, others), rows(calm, others))


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    train_ensemble(**problem("sgd"), threads=before + 1)
    assert torch.get_num_threads() == before


def test_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tol is for population_gd and gd.*with 'adam'\. Drop it"):
        train_ensemble(**problem("sgd"), tol=0.1)
