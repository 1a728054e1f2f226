# SPDX-License-Identifier: MIT
"""Errors a study ends with: each message is one line that says what to do next."""

from __future__ import annotations


class StudyError(Exception):
    """A study cannot go on; nothing that was finished is lost."""


class ConfigError(StudyError, ValueError):
    """A setting is unknown, unreadable or out of range."""


class StoreError(StudyError):
    """A results folder cannot be opened, written, or is not what it should be."""


class CheckpointError(StudyError, ValueError):
    """A file does not hold the weights of a two-layer network, or is not safe to read."""
