# SPDX-License-Identifier: MIT
"""Writes the page of a study or of a comparison."""

from __future__ import annotations

from pathlib import Path

from ..comparison import read_comparison
from ..store import open_existing, reported
from ..store_format import is_comparison
from .comparison_page import comparison_page
from .study_page import study_page


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write a study, or a comparison of several, as one HTML file that needs no network.

    Parameters
    ----------
    folder : path
        What :func:`run_study` wrote, or a comparison's, finished or not.
    out : path, optional
        The file; None is ``report.html`` in ``folder``.

    Returns
    -------
    path
        The file.

    Raises
    ------
    StoreError
        No store, no finished cell, a damaged comparison, or ``out`` cannot be written.
    """
    out = folder / "report.html" if out is None else out
    if is_comparison(folder):
        page = comparison_page(read_comparison(folder))
    else:
        with open_existing(folder) as store:
            page = study_page(store)
    with reported(out, "give an --out that can be written"):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    return out
