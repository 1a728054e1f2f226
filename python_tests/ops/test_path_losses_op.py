# SPDX-License-Identifier: MIT
"""path_losses as an operator: gradients, torch.library, bad arguments, memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

import lmc_fast
from lmc_fast import _native
from lmc_fast.reference import path_losses as reference


def sample_arguments(
    c: int, loss: str, bias: bool | tuple[bool, bool], P: int = 2
) -> tuple[list[Tensor | None], Tensor, Tensor]:
    """Eight arrays of the two networks, x and y."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    n, m, d = 6, 19, 3
    arrays: list[Tensor | None] = []
    for end in (0, 1):
        biased = bias if isinstance(bias, bool) else bias[end]
        arrays += [
            normal(P, m, d),
            normal(P, m) if biased else None,
            normal(P, c, m),
            normal(P, c) if biased else None,
        ]
    y = normal(n, c) if loss == "mse" else torch.randint(c, (n,), generator=generator)
    return arrays, normal(n, d), y


@pytest.mark.parametrize("bias", [True, False, (False, True), (True, False)])
@pytest.mark.parametrize(("c", "loss"), [(1, "mse"), (3, "mse"), (3, "cross_entropy")])
def test_gradcheck_and_opcheck(c: int, loss: str, bias: bool) -> None:
    arrays, x, y = sample_arguments(c, loss, bias)
    leaves = [None if t is None else t.requires_grad_() for t in (*arrays, x)]
    if loss == "mse":
        y.requires_grad_()
    points = torch.tensor([0.0, 0.2, 0.7, 1.0], dtype=torch.float64)

    def losses(*leaves: Tensor) -> Tensor:
        *arrays, x, y = leaves
        return lmc_fast.path_losses(tuple(arrays[:4]), tuple(arrays[4:]), x, y, points, loss).losses

    torch.autograd.gradcheck(losses, (*leaves, y))
    torch.library.opcheck(torch.ops.lmc_fast.path_losses, (*leaves, y, points, loss))


def test_any_subset_of_gradients_can_be_asked_for() -> None:
    arrays, x, y = sample_arguments(3, "mse", True)
    weights = torch.linspace(-1, 2, 10, dtype=torch.float64).reshape(2, 5)

    def gradients(function, wanted: list[bool]) -> list[Tensor | None]:
        leaves = [
            t.detach().requires_grad_(w) for t, w in zip((*arrays, x, y), wanted, strict=True)
        ]
        curve = function(tuple(leaves[:4]), tuple(leaves[4:8]), leaves[8], leaves[9], 5)
        (curve.losses * weights).sum().backward()
        return [leaf.grad for leaf in leaves]

    every = gradients(reference.path_losses, [True] * 10)
    for one in range(10):
        ours = gradients(lmc_fast.path_losses, [k == one for k in range(10)])
        assert [g is not None for g in ours] == [k == one for k in range(10)]
        torch.testing.assert_close(ours[one], every[one], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_labels_of_squared_losses_are_one_hot_and_give_accuracies(bias: bool) -> None:
    arrays, x, labels = sample_arguments(3, "cross_entropy", bias)
    a, b = (tuple(t.requires_grad_() if t is not None else t for t in arrays[k : k + 4])
            for k in (0, 4))  # fmt: skip
    got, want = (
        f(a, b, x, labels, 5, "mse") for f in (lmc_fast.path_losses, reference.path_losses)
    )
    hot = lmc_fast.path_losses(a, b, x, torch.eye(3, dtype=torch.float64)[labels], 5, "mse")
    assert torch.equal(got.losses, hot.losses)
    assert hot.accuracies is None
    torch.testing.assert_close(got.losses, want.losses, rtol=1e-12, atol=0)
    assert torch.equal(got.accuracies, want.accuracies)
    # The same networks whatever the loss.
    same = lmc_fast.path_losses(a, b, x, labels, 5, "cross_entropy")
    assert torch.equal(got.accuracies, same.accuracies)
    ours, theirs = (
        torch.autograd.grad(curve.losses.sum(), a[0], retain_graph=True)[0] for curve in (got, want)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    found = lmc_fast.barrier(a, b, x=x, y=labels, loss="mse", alphas=5)
    assert torch.equal(found.curve.accuracies, got.accuracies)


def test_labels_of_squared_losses_are_in_range() -> None:
    arrays, x, labels = sample_arguments(3, "cross_entropy", False)
    with pytest.raises(
        ValueError, match=r"y must hold labels in 0\.\.2, one per output; got . to 3"
    ):
        lmc_fast.path_losses(tuple(arrays[:4]), tuple(arrays[4:]), x, labels.clamp_min(0) + 1, 5)


def test_second_derivatives_are_refused_with_the_remedy() -> None:
    arrays, x, y = sample_arguments(1, "mse", False)
    w1 = arrays[0].requires_grad_()
    curve = lmc_fast.path_losses((w1, arrays[2]), (arrays[4], arrays[6]), x, y, 3)
    (gradient,) = torch.autograd.grad(curve.losses.sum(), w1, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"lmc_fast\.reference\.path_losses"):
        gradient.sum().backward()


def test_other_devices_run_the_reference_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmc_fast.ops import _library
    from lmc_fast.ops import path_losses as op

    monkeypatch.setattr(_library, "_warned", set())
    arrays, x, y = sample_arguments(2, "cross_entropy", True)
    points = torch.linspace(0, 1, 5, dtype=torch.float64)
    with pytest.warns(UserWarning, match="no path_losses kernel for cpu"):
        theirs = op._reference(*arrays, x, y, points, "cross_entropy")
    ours = torch.ops.lmc_fast.path_losses(*arrays, x, y, points, "cross_entropy")
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def good() -> dict[str, object]:
    return {
        "a": (torch.ones(5, 4), torch.ones(2, 5)),
        "b": (torch.ones(5, 4), torch.ones(2, 5)),
        "x": torch.ones(3, 4),
        "y": torch.ones(3, 2),
        "alphas": 5,
        "loss": "mse",
    }


NAN, INF = float("nan"), float("inf")
LABELS = {"loss": "cross_entropy"}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"a": (torch.ones(5, 3), torch.ones(2, 5))},
            ValueError,
            "same input dimension d; got 3 and 4",
        ),
        ({"b": (torch.ones(6, 4), torch.ones(2, 6))}, ValueError, "same width m; got 5 and 6"),
        ({"b": (torch.ones(5, 4), torch.ones(1, 5))}, ValueError, "same outputs c"),
        ({"b": (torch.ones(2, 5, 4), torch.ones(2, 5))}, ValueError, "same pairs P; got 1 and 2"),
        ({"a": (torch.ones(5, 4), torch.full((2, 5), NAN))}, ValueError, r"a\.w2 must be finite"),
        ({"b": (torch.full((5, 4), INF), torch.ones(2, 5))}, ValueError, r"b\.w1 must be finite"),
        (
            {"a": (torch.ones(5, 4).half(), torch.ones(2, 5).half())},
            TypeError,
            r"a\.w1 must be float32",
        ),
        ({"b": (torch.ones(5, 4).double(), torch.ones(2, 5).double())}, TypeError, "same dtype"),
        ({"x": torch.ones(0, 4), "y": torch.ones(0, 2)}, ValueError, r"x must be .*n >= 1"),
        ({"x": torch.ones(3, 5)}, ValueError, r"x must be \(n, d\) = \(\*, 4\)"),
        ({"x": torch.ones(3, 4).double()}, TypeError, "x must have the dtype of w1"),
        ({"x": torch.full((3, 4), NAN)}, ValueError, "x must be finite"),
        ({"x": torch.ones(3, 4, device="meta")}, ValueError, "x must be on the device of w1"),
        ({"y": torch.ones(3)}, ValueError, r"y must be \(n, c\) = \(3, 2\)"),
        ({"y": torch.ones(3, 2).double()}, TypeError, "y must have the dtype"),
        ({"y": torch.full((3, 2), INF)}, ValueError, "y must be finite"),
        ({**LABELS}, TypeError, "y must hold int64 class labels"),
        ({**LABELS, "y": torch.tensor([0, 1, 2])}, ValueError, r"labels in 0\.\.1.*got 0 to 2"),
        ({**LABELS, "y": torch.tensor([0, 1, -1])}, ValueError, r"labels in 0\.\.1.*got -1 to 1"),
        ({**LABELS, "y": torch.tensor([0, 1])}, ValueError, r"y must be \(n,\) = \(3,\)"),
        ({"loss": "hinge"}, ValueError, "loss must be one of 'mse', 'cross_entropy'; got 'hinge'"),
        ({"alphas": 1}, ValueError, "at least 2 points"),
        ({"alphas": True}, TypeError, "got a bool"),
        ({"alphas": []}, ValueError, "not empty"),
        ({"alphas": [0.5, 0.2]}, ValueError, "sorted"),
        ({"alphas": [0.0, 1.1]}, ValueError, r"in \[0, 1\]"),
        ({"alphas": [-0.1, 1.0]}, ValueError, r"in \[0, 1\]"),
        ({"alphas": [0.0, NAN, 1.0]}, ValueError, r"in \[0, 1\]"),
    ],
)
def test_bad_arguments(change: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        lmc_fast.path_losses(**{**good(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(0, 4), "y": torch.ones(0, 2)}, "x must have at least one sample"),
        ({"w1_b": torch.ones(1, 4, 4)}, r"w1_b must have shape \(1, 5, 4\); got \(1, 4, 4\)"),
        ({"alphas": torch.tensor([0.5, 0.2]).double()}, "alphas must lie in .* at index 1"),
        ({"alphas": torch.tensor([0.5, NAN]).double()}, "alphas must lie in .* at index 1"),
        (
            {"y": torch.tensor([0, 5, 0]), "accuracies": torch.empty(1, 2).double()},
            "got 5 at index 1",
        ),
    ],
)
def test_the_native_function_checks_again(change: dict[str, object], message: str) -> None:
    w1, w2 = torch.ones(1, 5, 4), torch.ones(1, 2, 5)
    arguments = {
        "w1_a": w1,
        "b1_a": None,
        "w2_a": w2,
        "b2_a": None,
        "w1_b": w1,
        "b1_b": None,
        "w2_b": w2,
        "b2_b": None,
        "x": torch.ones(3, 4),
        "y": torch.ones(3, 2),
        "alphas": torch.tensor([0.2, 0.5]).double(),
        "losses": torch.empty(1, 2).double(),
        "accuracies": None,
        "threads": 1,
    }
    _native.path_losses(**arguments)
    with pytest.raises(ValueError, match=message):
        _native.path_losses(**{**arguments, **change})


@pytest.mark.parametrize("points", [[0.0, 0.3, 1.0], [k / 24 for k in range(25)]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_the_kernel_survives_non_finite_weights(
    value: float, c: int, dtype: torch.dtype, points: list[float]
) -> None:
    """The public function refuses them; the kernel must not crash, nor spread them."""
    torch.manual_seed(0)
    w1, w2 = torch.randn(2, 70, 4).to(dtype), torch.randn(2, c, 70).to(dtype)
    x, y, alphas = (
        torch.randn(30, 4).to(dtype),
        torch.randn(30, c).to(dtype),
        torch.tensor(points).double(),
    )
    clean, spoilt = torch.empty(2, len(points)).double(), torch.empty(2, len(points)).double()
    _native.path_losses(
        w1, None, w2, None, w1.flip(1), None, w2, None, x, y, alphas, clean, None, 2
    )
    bad = w1.clone()
    bad[1, 5:40, 2] = value
    _native.path_losses(
        bad, None, w2, None, w1.flip(1), None, w2, None, x, y, alphas, spoilt, None, 2
    )
    assert torch.equal(spoilt[0], clean[0])
    assert not bool(spoilt[1, 0].isfinite())
    assert spoilt[1, -1].equal(clean[1, -1])


MEMORY = """
import resource
import torch, lmc_fast
torch.set_num_threads(2)
n, m, d = 6000, 8192, 16
a, b = torch.randn(m, d), torch.randn(m, d)
x, y = torch.randn(n, d), torch.randn(n)
lmc_fast.path_losses(a[:8], b[:8], x[:8], y[:8], 1001)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
lmc_fast.path_losses(a, b, x, y, 1001)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif("LMC_FAST_CPU_TARGET" in os.environ, reason="the same on every CPU target")
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_does_not_grow_with_samples_times_neurons() -> None:
    result = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=120
    )
    used = int(result.stdout)
    n, m, d, A = 6000, 8192, 16, 1001
    packed = 4 * (2 * (d + 2) + 1) * m  # both networks' weights in panels
    partial = 8 * 256 * (A + 64)  # the sums of at most 256 spans of samples
    scratch = 2 * (2 << 20)  # per thread: half a MiB of bins and lanes, the block of x, the list
    allowance = 4 << 20  # the allocator, and the checks of the arguments
    assert used <= packed + partial + scratch + allowance, f"{used / 2**20:.1f} MiB"
    assert n * m * 4 > 8 * (packed + partial + scratch + allowance)  # the test could tell
