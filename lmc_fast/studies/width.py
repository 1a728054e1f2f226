# SPDX-License-Identifier: MIT
"""Width study: the barrier modulo permutation against the students' width m.

The experiment described in the paper (arXiv 2503.06001); every setting is a parameter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .config import TeacherProblem, WidthConfig


def settings(config: WidthConfig) -> list[tuple[int, float]]:
    """Width and step size of every group of cells."""
    return [(width, config.lr_at(width)) for width in config.widths]


def tail_start(
    config: WidthConfig, widths: npt.NDArray[np.int64], heights: npt.NDArray[np.float64]
) -> int:
    """Smallest width of the tail fit.

    Parameters
    ----------
    config : WidthConfig
    widths : int array, shape (W,)
    heights : float array, shape (W,)
        Mean matched barriers; asked only where the configuration leaves the choice open.
    """
    if config.tail_from is not None:
        return config.tail_from
    if isinstance(config.problem, TeacherProblem):
        return 2 * config.problem.teacher_width
    return int(widths[int(np.argmax(heights))])


def peak_start(config: WidthConfig) -> int:
    """Smallest width at which the peak is looked for: m = M + 1, any width with images.

    Below the teacher's width the barrier falls from its first, which is no peak.
    """
    if isinstance(config.problem, TeacherProblem):
        return config.problem.teacher_width + 1
    return 1
