# SPDX-License-Identifier: MIT
"""Draws a study from its store, as PNG and SVG; nothing is computed but means and intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from .config import LearningRateConfig
from .plot_alpha import alpha_figure
from .plot_learning_rate import learning_rate_figure
from .plot_style import save, style
from .plot_width import width_figure
from .store import Store, open_existing, reported
from .summary import Summary, summarise


def plot_study(folder: Path, out: Path | None = None) -> list[Path]:
    """Draw every figure of the study in ``folder``.

    Parameters
    ----------
    folder : path
        What :func:`run_study` wrote.
    out : path, optional
        Where the figures go; None puts them into ``folder``.

    Returns
    -------
    list of path
        PNG and SVG of each figure.

    Raises
    ------
    StoreError
        No store, no finished cell, or ``out`` cannot be written.
    """
    out = folder if out is None else out
    with open_existing(folder) as store:
        summary = summarise(store)
        rates = isinstance(summary.config, LearningRateConfig)
        draw = learning_rate_figure if rates else width_figure
        figures: dict[str, Callable[[Summary, Store], Figure | None]] = {
            f"barrier-vs-{summary.config.study}": lambda found, _: draw(found),
            "barrier-along-alpha": alpha_figure,
        }
        paths = []
        with style(), reported(out, "give a writable --out"):
            out.mkdir(parents=True, exist_ok=True)
            for name, make in figures.items():
                figure = make(summary, store)
                if figure is not None:
                    paths += save(figure, out / name)
    return paths
