# SPDX-License-Identifier: MIT
"""Writes the page of a study."""

from __future__ import annotations

from pathlib import Path

from ..store import open_existing, reported
from .study_page import study_page


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write a study as one HTML file that needs no network.

    Parameters
    ----------
    folder : path
        What :func:`run_study` wrote, finished or not.
    out : path, optional
        The file; None is ``report.html`` in ``folder``.

    Returns
    -------
    path
        The file.

    Raises
    ------
    StoreError
        No store, no finished cell, a comparison of several studies, or ``out`` cannot be written.
    """
    out = folder / "report.html" if out is None else out
    with open_existing(folder) as store:
        page = study_page(store)
    with reported(out, "give an --out that can be written"):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    return out
