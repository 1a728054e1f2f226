# SPDX-License-Identifier: MIT
"""Draws a study from its store, as PNG and SVG; nothing is computed but means and intervals."""

from __future__ import annotations

from pathlib import Path

from .comparison import read_comparison
from .errors import ConfigError
from .kinds import Figures, kind_of
from .plot_comparison import comparison_figure
from .plot_style import save, style
from .presets import config_from_json
from .store import Store, open_existing, reported
from .store_format import is_comparison
from .theory_summary import same_problem, summarise_theory


def plot_study(folder: Path, out: Path | None = None, theory: Path | None = None) -> list[Path]:
    """Draw every figure of the study in ``folder``.

    Parameters
    ----------
    folder : path
        What :func:`run_study` wrote, or a comparison's.
    out : path, optional
        Where the figures go; None puts them into ``folder``.
    theory : path, optional
        A theory study of the same problem, to be drawn over a width study's barriers (the dense
        law) or a learning-rate study's (with as many dead neurons).

    Returns
    -------
    list of path
        PNG and SVG of each figure.

    Raises
    ------
    StoreError
        No store, no finished cell, or ``out`` cannot be written.
    ConfigError
        ``theory`` does not go with the study.
    """
    out = folder if out is None else out
    if is_comparison(folder):
        if theory is not None:
            raise ConfigError(
                f"--theory goes with one study; {folder} is a comparison: plot one of its studies"
            )
        compared = read_comparison(folder)
        return _save({"comparison": lambda: comparison_figure(compared)}, out)
    with open_existing(folder) as store:
        return _save(_figures(store, theory), out)


def _save(figures: Figures, out: Path) -> list[Path]:
    paths = []
    with style(), reported(out, "give a writable --out"):
        out.mkdir(parents=True, exist_ok=True)
        for name, make in figures.items():
            figure = make()
            if figure is not None:
                paths += save(figure, out / name)
    return paths


def _figures(store: Store, theory: Path | None) -> Figures:
    """The figures of a study by name, to be drawn."""
    config = config_from_json(store.config_text)
    law = None
    if theory is not None:
        with open_existing(theory) as other:
            law = summarise_theory(other)
        same_problem(config, law.config)
    return kind_of(config).figures(store, law)
