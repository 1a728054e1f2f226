# SPDX-License-Identifier: MIT
"""A study or comparison as one HTML file that needs no network: :func:`write_report`."""

from .document import write_report

__all__ = ["write_report"]
