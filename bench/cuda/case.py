# SPDX-License-Identifier: MIT
"""What a row is before it is measured, and once it is ready to run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from .device import Device

Results = tuple[Tensor, ...]
Target = tuple[str, str, float]  # how a baseline's name begins, ours, ratio of their times


@dataclass(frozen=True)
class Work:
    """What ours does at least: operations on a unit of the ceilings, and bytes moved."""

    unit: str
    operations: float
    bytes: float


@dataclass
class Case:
    """One row, ready to run: contestants, their errors, and what ours are held to.

    Attributes
    ----------
    op, size : str
        As printed.
    contestants : dict of str to callable
        Names that begin with OURS are ours, the others are baselines.
    errors : callable
        From a contestant's name and results to relative errors by what they are of. The first is
        compared between contestants.
    allowed : callable
        From the name of one of ours and what an error is of to its bound.
    work : dict of str to Work
        Of ours.
    share : dict of str to float
        The fraction of the work that a contestant does; its times are divided by it.
    checks : dict of str to callable
        What is compared with float64 in place of the contestant's own results.
    """

    op: str
    size: str
    contestants: dict[str, Callable[[], Results]]
    errors: Callable[[str, Results], dict[str, float]]
    allowed: Callable[[str, str], float]
    work: dict[str, Work]
    targets: tuple[Target, ...] = ()
    share: dict[str, float] = field(default_factory=dict)
    checks: dict[str, Callable[[], Results]] = field(default_factory=dict)

    def wrong(self, name: str, errors: dict[str, float]) -> str | None:
        """What is wrong with a result of ours; NaN always is."""
        for what, error in errors.items():
            allowed = self.allowed(name, what)
            if not error <= allowed:
                return f"wrong: relative error of {what} {error:.1e}, allowed {allowed:.1e}"
        return None


class Row(Protocol):
    """One row, of which nothing has been drawn yet. As a string it is its size."""

    op: str

    def quick(self) -> "Row":
        """A smaller one, without targets."""

    def case(self, device: Device) -> Case:
        """Draw the inputs."""


def relative(got: Tensor, exact: Tensor) -> float:
    """|got - exact| / |exact| in norm, in float64."""
    return float((got.double() - exact).norm() / exact.norm())
