# SPDX-License-Identifier: MIT
"""A study as one HTML file that needs no network; :func:`write_report` is the entry."""

from .document import write_report

__all__ = ["write_report"]
