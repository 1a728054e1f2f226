# SPDX-License-Identifier: MIT
"""What the rows of train_ensemble share: how many steps are timed, and how they are verified."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..timer import OURS
from . import settings
from .case import Case, Results, Target, Work, relative
from .device import Device
from .graphs import TOGETHER

CHECKED_STEPS = TOGETHER  # few: later, rounding has decided the sign of some z
CHECKED_STUDENTS = 64
MOST_SECONDS = 0.5  # of a call of ours; on a slow GPU it takes fewer steps

Train = Callable[[int], Results]  # from a number of steps to the weights after them


def affordable(steps: int, train: Train, device: Device) -> int:
    """``steps``, or where as many would take ours too long, fewer: a multiple of TOGETHER."""
    tenth = max(TOGETHER, steps // 10 // TOGETHER * TOGETHER)
    train(tenth)
    seconds = device.seconds(partial(train, tenth)) * steps / tenth
    if seconds <= MOST_SECONDS:
        return steps
    return max(TOGETHER, int(steps * MOST_SECONDS / seconds) // TOGETHER * TOGETHER)


def chosen_students(S: int) -> Tensor:
    """Those that are compared with float64, spread over the ensemble."""
    return torch.arange(0, S, max(1, S // CHECKED_STUDENTS))


class Training:
    """A row's contestants, all of which start from the same weights.

    Parameters
    ----------
    start : Tensor, shape (S, m, d), on the CPU
    steps : int
        Of a call.
    """

    def __init__(self, start: Tensor, steps: int) -> None:
        self.steps = steps
        self._start, self._chosen = start, chosen_students(len(start))
        self._exact: dict[str, Tensor] = {}
        self._contestants: dict[str, Callable[[], Results]] = {}
        self._checks: dict[str, Callable[[], Results]] = {}
        self._share: dict[str, float] = {}

    def ours(self, train: Train, exact: Tensor) -> None:
        """The first one."""
        self._add(OURS, train, train, self.steps, exact)

    def baseline(
        self,
        name: str,
        train: Train,
        exact: Tensor,
        *,
        tf32: bool = False,
        check: Train | None = None,
    ) -> None:
        """A way of torch's; ``check`` is another that is verified in its place.

        ``exact`` are the float64 weights of the chosen students after ``CHECKED_STEPS``.
        """
        check = train if check is None else check
        self._add(name, _under(train, tf32), _under(check, tf32), self.steps, exact)

    def few(self, name: str, train: Train, exact: Tensor, students: int, steps: int) -> None:
        """A way of torch's that trains the first of the chosen students only, for few steps."""
        S = len(self._start)
        name += f" ({students} students, {steps} steps, scaled to {S} and {self.steps})"
        self._share[name] = students * steps / (S * self.steps)
        self._add(name, _under(train, False), _under(train, False), steps, exact)

    def case(
        self, op: str, size: str, allowed: float, work: Work, targets: tuple[Target, ...]
    ) -> Case:
        """The row; ``allowed`` is the largest error of the change of the weights."""
        return Case(
            op,
            size,
            self._contestants,
            lambda name, results: {"change": self.error(self._exact[name], results)},
            lambda name, what: allowed,
            {OURS: work},
            targets,
            self._share,
            self._checks,
        )

    def error(self, exact: Tensor, results: Results) -> float:
        """Of the change of the chosen students' weights, or of the first of them."""
        found = results[0].detach().cpu()
        if len(found) == len(self._start):
            found = found[self._chosen]
        count = len(found)
        before = self._start[self._chosen[:count]].double()
        return relative(found.double() - before, exact[:count] - before)

    def _add(self, name: str, train: Train, check: Train, steps: int, exact: Tensor) -> None:
        self._contestants[name] = partial(train, steps)
        self._checks[name] = partial(check, CHECKED_STEPS)
        self._exact[name] = exact


def _under(train: Train, tf32: bool) -> Train:
    return lambda steps: settings.eager(partial(train, steps), tf32)
