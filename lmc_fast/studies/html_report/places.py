# SPDX-License-Identifier: MIT
"""Where groups of trained students stand on the x axis, and what is marked on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import LearningRateConfig, TeacherProblem
from ..summary import Group, Summary
from .chart import axis, note, ticks, upright

_ABOVE: dict[str, Any] = {"yref": "paper", "y": 1, "yanchor": "bottom"}


def places(summary: Summary, groups: Sequence[Group]) -> list[float]:
    """Where groups stand on the x axis: their width, or their step size in thresholds."""
    if not isinstance(summary.config, LearningRateConfig):
        return [float(group.width) for group in groups]
    unit = summary.bracket.threshold if summary.bracket else 1.0
    return [group.lr / unit for group in groups]


def place_name(summary: Summary) -> str:
    """What the x axis shows."""
    if not isinstance(summary.config, LearningRateConfig):
        return "student width m"
    if summary.bracket is None:
        return "learning rate"
    return f"learning rate / divergence threshold ({summary.bracket.threshold:.4g})"


def mark(summary: Summary, layout: dict[str, Any]) -> None:
    """Add the x axis, and the teacher's width or the edges of stability and divergence."""
    if isinstance(summary.config, LearningRateConfig):
        mark_rates(summary, layout)
        return
    problem = summary.config.problem
    M = problem.teacher_width if isinstance(problem, TeacherProblem) else None
    layout["xaxis"] = axis(place_name(summary), log=True)
    layout["xaxis"] |= ticks([group.width for group in summary.groups], keep=M)
    if M is not None:
        layout["shapes"].append(upright(M))
        layout["annotations"].append(note(f"m = M = {M}", x=float(np.log10(M)), **_ABOVE))


def mark_rates(summary: Summary, layout: dict[str, Any]) -> None:
    """Add the axis of step sizes, the edges, and a cross where no pair survives."""
    layout["xaxis"] = axis(place_name(summary))
    unit = summary.bracket.threshold if summary.bracket else 1.0
    if summary.edge is not None:
        mark_edge(layout, summary.edge / unit)
    if summary.bracket is not None:
        layout["shapes"].append(upright(1.0))
        layout["annotations"].append(note("diverges", x=1.0, **_ABOVE))
    for group in summary.groups:
        if not group.sound:
            where = {"x": group.lr / unit, "y": 0.05, "yref": "paper"}
            layout["annotations"].append(note("×", hovertext="no pair survives", **where))


def mark_edge(layout: dict[str, Any], place: float) -> None:
    """Mark the edge of stability at a place on the axis of step sizes."""
    layout["shapes"].append(upright(place, "dash"))
    layout["annotations"].append(note("edge of stability", x=place, **_ABOVE))
