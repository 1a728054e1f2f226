# SPDX-License-Identifier: MIT
"""Draws a study from its store, as PNG and SVG; nothing is computed but means and intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from .config import LearningRateConfig, TheoryConfig
from .plot_alpha import alpha_figure
from .plot_learning_rate import learning_rate_figure
from .plot_style import save, style
from .plot_theory import theory_figure
from .plot_width import width_figure
from .presets import config_from_json
from .store import Store, open_existing, reported
from .summary import summarise
from .theory_summary import summarise_theory


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
        figures = _figures(store)
        paths = []
        with style(), reported(out, "give a writable --out"):
            out.mkdir(parents=True, exist_ok=True)
            for name, make in figures.items():
                figure = make()
                if figure is not None:
                    paths += save(figure, out / name)
    return paths


def _figures(store: Store) -> dict[str, Callable[[], Figure | None]]:
    """The figures of a study by name, to be drawn."""
    if isinstance(config_from_json(store.config_text), TheoryConfig):
        theory = summarise_theory(store)
        return {"barrier-of-random-minima": lambda: theory_figure(theory)}
    summary = summarise(store)
    rates = isinstance(summary.config, LearningRateConfig)
    draw = learning_rate_figure if rates else width_figure
    return {
        f"barrier-vs-{summary.config.study}": lambda: draw(summary),
        "barrier-along-alpha": lambda: alpha_figure(summary, store),
    }
