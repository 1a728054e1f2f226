# SPDX-License-Identifier: MIT
"""What training an ensemble takes and gives: the checked problem, and its result."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .losses import LOSSES, check_inputs, check_option, check_targets
from .reference.population_loss import INPUTS
from .weights import Teacher, as_teacher, as_weights

METHODS = ("population_gd", "gd", "sgd", "adam")
ON_BATCHES = ("sgd", "adam")


class EnsembleResult(NamedTuple):
    """S trained students.

    Attributes
    ----------
    w1 : Tensor, shape (S, m, d)
    w2 : Tensor, shape (S, c, m)
        The weights reached; for a diverged student its last finite ones.
    loss : float64 Tensor, shape (S,)
        The full objective at those weights.
    trace : float64 Tensor, shape (S, R)
        The full objective at ``trace_steps``; NaN where a student had stopped before.
    trace_steps : int64 Tensor, shape (R,)
        0, record_every, 2 record_every, ... up to ``steps``; empty for record_every = 0.
    steps : int64 Tensor, shape (S,)
        Updates applied; for a diverged student that is the step at which it diverged.
    diverged : bool Tensor, shape (S,)
    """

    w1: Tensor
    w2: Tensor
    loss: Tensor
    trace: Tensor
    trace_steps: Tensor
    steps: Tensor
    diverged: Tensor


@dataclass(frozen=True)
class EnsembleProblem:
    """The arguments of ``train_ensemble`` after every check, with defaults filled in.

    ``x`` and ``y`` are there when training runs on fixed samples (y already computed from the
    teacher if it came from there), with or without a leading S each; otherwise ``teacher`` is.
    All are on the device of ``w1`` but ``lr`` and ``seeds``, which stay on the CPU.
    """

    w1: Tensor
    w2: Tensor
    method: str
    lr: Tensor
    steps: int
    teacher: Teacher | None
    x: Tensor | None
    y: Tensor | None
    batch_size: int
    loss: str
    train_w2: bool
    seeds: Tensor
    tol: float
    record_every: int
    inputs: str
    radius: float

    @property
    def trace_steps(self) -> Tensor:
        """(R,) int64 on the CPU, the steps at which the objective is recorded."""
        recorded = trace_steps(self.steps, self.record_every)
        return torch.tensor(recorded, dtype=torch.int64, device="cpu")

    @property
    def on_batches(self) -> bool:
        """Whether a step is taken on a mini-batch, not on the full objective."""
        return self.method in ON_BATCHES

    @property
    def own_x(self) -> bool:
        """Whether every student has samples of its own."""
        return self.x is not None and self.x.ndim == 3

    @property
    def own_y(self) -> bool:
        """Whether every student has targets of its own."""
        return self.y is not None and self.y.ndim == (2 if self.loss == "cross_entropy" else 3)

    def of_students(self, rows: slice | Tensor) -> "EnsembleProblem":
        """The same problem for some of the students; ``rows`` is a slice or int64 on the CPU."""

        def of(t: Tensor) -> Tensor:
            return t[rows] if isinstance(rows, slice) else t[rows.to(t.device)]

        return replace(
            self,
            w1=of(self.w1),
            w2=of(self.w2),
            lr=of(self.lr),
            seeds=of(self.seeds),
            x=of(self.x) if self.x is not None and self.own_x else self.x,
            y=of(self.y) if self.y is not None and self.own_y else self.y,
        )


def check_integer(value: object, name: str, low: int) -> int:
    """``value`` as an int of at least ``low`` that 64 bits hold; numpy's integers too."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not low <= number < 2**63:
        raise ValueError(f"{name} must be an integer of at least {low}; got {value!r}")
    return number


def trace_steps(steps: int, record_every: int) -> range:
    """0, record_every, 2 record_every, ... up to ``steps``; nothing for record_every = 0."""
    return range(0, steps + 1, record_every) if record_every > 0 else range(0)


def ensemble_problem(
    w1: Tensor,
    w2: Tensor | None = None,
    *,
    method: str = "population_gd",
    lr: float | Tensor,
    steps: int,
    teacher: object = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
    batch_size: int | None = None,
    loss: str = "mse",
    train_w2: bool = False,
    seeds: Sequence[int] | Tensor | None = None,
    tol: float = 0.0,
    record_every: int = 0,
    inputs: str = "gaussian",
    radius: float = 1.0,
) -> EnsembleProblem:
    """Check the arguments of ``train_ensemble``; see there for their meaning."""
    if not isinstance(w1, Tensor) or w1.ndim != 3:
        got = tuple(w1.shape) if isinstance(w1, Tensor) else type(w1).__name__
        raise ValueError(f"w1 must be a tensor (S, m, d); got {got}. A single student is w1[None]")
    if w1.shape[-1] == 0:
        raise ValueError(f"w1 must be (S, m, d) with d >= 1; got {tuple(w1.shape)}")
    network = w1.detach() if w2 is None else (w1.detach(), w2.detach())
    students = as_weights(network, "student", allow_empty=True)
    w1, w2 = students.w1, students.w2
    count, _, _, c = students.sizes
    check_option(method, "method", METHODS)
    check_option(loss, "loss", LOSSES)
    check_option(inputs, "inputs", INPUTS)
    steps = check_integer(steps, "steps", 0)
    record_every = check_integer(record_every, "record_every", 0)
    if not isinstance(train_w2, bool):
        raise TypeError(f"train_w2 must be True or False; got {train_w2!r}")
    if method in ON_BATCHES and steps >= 2**32:
        raise ValueError(
            f"steps must be below 2^32 for {method}, whose random numbers count that far; "
            f"got {steps}"
        )
    if not tol >= 0:
        raise ValueError(f"tol must be at least 0; got {tol!r}")
    if method in ON_BATCHES and tol != 0:
        raise ValueError(
            f"tol is for population_gd and gd, whose gradients are exact; got {tol!r} "
            f"with {method!r}. Drop it"
        )
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be finite and above 0; got {radius!r}")
    checked_teacher, x, y = _objective(method, loss, w1, c, teacher, x, y)
    return EnsembleProblem(
        w1=w1,
        w2=w2,
        method=method,
        lr=_learning_rates(lr, count),
        steps=steps,
        teacher=checked_teacher,
        x=x,
        y=y,
        batch_size=_batch_size(method, batch_size, None if x is None else x.shape[-2]),
        loss=loss,
        train_w2=train_w2,
        seeds=_seeds(seeds, count),
        tol=float(tol),
        record_every=record_every,
        inputs=inputs,
        radius=float(radius),
    )


def _objective(
    method: str, loss: str, w1: Tensor, c: int, teacher: object, x: object, y: object
) -> tuple[Teacher | None, Tensor | None, Tensor | None]:
    """The teacher, or the samples with their targets: exactly what the method trains on."""
    count, _, d = w1.shape
    if method == "population_gd" and (x is not None or y is not None):
        raise ValueError("population_gd takes no samples: drop x and y, or choose method='gd'")
    if method == "gd" and x is None:
        raise ValueError(
            "gd needs the samples x (n, d) and y, or a teacher instead of y; for no "
            "samples choose method='population_gd'"
        )
    if y is not None and (x is None or teacher is not None):
        raise ValueError(
            "y goes with x and without a teacher (the teacher gives the targets); drop one of them"
        )
    if x is None:
        if teacher is None:
            raise ValueError(f"{method} without x needs a teacher; got none")
        if loss != "mse":
            raise ValueError(f"loss must be 'mse' when a teacher gives the targets; got {loss!r}")
        v1, v2 = as_teacher(teacher, d, c)
        return Teacher(v1.to(w1.device), v2.to(w1.device)), None, None
    x = _inputs(x, w1)
    if teacher is None:
        if y is None:
            raise ValueError("x needs its targets y, or a teacher that gives them")
        return None, x, _targets(y, loss, x, count, c)
    if loss != "mse":
        raise ValueError(f"loss must be 'mse' when a teacher gives the targets; got {loss!r}")
    return None, x, _taught(as_teacher(teacher, d, c), x)


def _taught(teacher: Teacher, x: Tensor) -> Tensor:
    """The teacher's outputs for all samples; those of a student do not depend on the others'."""
    if x.ndim == 2 or len(x) == 0:
        return teacher.targets(x)
    # A matrix product may sum differently for other numbers of rows, or from another address.
    return torch.stack([teacher.targets(own.clone()) for own in x])


def _inputs(x: object, w1: Tensor) -> Tensor:
    """x (n, d), or (S, n, d) with samples of its own for every student."""
    count, _, d = w1.shape
    if not isinstance(x, Tensor) or x.ndim != 3:
        return check_inputs(x, d, w1.dtype, w1.device).detach()
    if x.shape[0] != count:
        raise ValueError(
            f"x must be (n, d), or (S, n, d) with S = {count} to match w1; got {tuple(x.shape)}"
        )
    if count == 0:
        return x.detach()
    return check_inputs(x.flatten(0, 1), d, w1.dtype, w1.device).detach().view(x.shape)


def _targets(y: object, loss: str, x: Tensor, count: int, c: int) -> Tensor:
    """y for n samples, or with a leading S when every student has its own."""
    n = x.shape[-2]
    if not isinstance(y, Tensor) or y.ndim != (2 if loss == "cross_entropy" else 3):
        return check_targets(y, loss, n, c, x.dtype, x.device).detach()
    if tuple(y.shape[:2]) != (count, n):
        raise ValueError(
            f"y must be stacked as (S, n) = ({count}, {n}) to match w1 and x; got {tuple(y.shape)}"
        )
    if count == 0:
        return y.detach()
    flat = check_targets(y.flatten(0, 1), loss, count * n, c, x.dtype, x.device)
    return flat.detach().view(count, n, *flat.shape[1:])


def _learning_rates(lr: float | Tensor, count: int) -> Tensor:
    """(S,) float64 on the CPU."""
    rates = torch.as_tensor(lr, dtype=torch.float64).detach().cpu()
    if tuple(rates.shape) not in ((), (count,)):
        raise ValueError(f"lr must be a number or (S,) = ({count},); got {tuple(rates.shape)}")
    wrong = rates[~(torch.isfinite(rates) & (rates > 0))]
    if wrong.numel() > 0:
        raise ValueError(f"lr must be finite and above 0 for every student; got {wrong[0].item()}")
    return rates.expand(count).contiguous()


def _batch_size(method: str, batch_size: int | None, n: int | None) -> int:
    if method not in ON_BATCHES:
        if batch_size is not None:
            raise ValueError(
                f"batch_size is for method='sgd' or 'adam'; got {batch_size!r} with {method!r}"
            )
        return 0
    most = "" if n is None else f" and at most n = {n}"
    if (
        not isinstance(batch_size, int)
        or isinstance(batch_size, bool)
        or batch_size < 1
        or (n is not None and batch_size > n)
    ):
        raise ValueError(
            f"batch_size must be an integer of at least 1{most} for {method}; got {batch_size!r}"
        )
    return batch_size


def _seeds(seeds: Sequence[int] | Tensor | None, count: int) -> Tensor:
    """(S,) int64 on the CPU."""
    try:
        values = torch.arange(count) if seeds is None else torch.as_tensor(seeds)
    except (OverflowError, RuntimeError, ValueError) as error:
        raise ValueError(f"seeds must be integers below 2^63; got {seeds!r}") from error
    values = values.cpu()
    if values.numel() == 0:
        values = values.to(torch.int64)
    if values.is_floating_point() or values.dtype == torch.bool:
        raise TypeError(f"seeds must be integers; got {values.dtype}")
    if tuple(values.shape) != (count,):
        raise ValueError(
            f"seeds must be (S,) = ({count},), one per student; got {tuple(values.shape)}"
        )
    if bool((values < 0).any()):
        raise ValueError(f"seeds must be at least 0; got {int(values.min())}")
    return values.to(torch.int64)
