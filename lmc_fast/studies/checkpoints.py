# SPDX-License-Identifier: MIT
"""Trained weights on disk: written whole or not at all, read without running code."""

from __future__ import annotations

import contextlib
import os
import pickle
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ..weights import Weights, as_weights
from .errors import CheckpointError

SUFFIX = ".safetensors"
_PARTIAL = ".partial"
_STALE_SECONDS = 86_400


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file that is complete under its name or absent.

    Raises
    ------
    OSError
        The disk is full or the folder cannot be written; nothing is left behind under ``path``.
    """
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(contiguous, dict(metadata))
    # The process number keeps two processes that write the same file out of each other's way.
    partial = path.with_name(f"{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_stale(folder: Path) -> None:
    """Remove what killed processes left half-written in ``folder``, once it is a day old."""
    for partial in folder.glob(f"*{_PARTIAL}"):
        # Another process may remove it first, or finish it.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > _STALE_SECONDS:
                partial.unlink()


def load_checkpoint(path: Path) -> Weights:
    """Read the weights of one or P two-layer networks from a safetensors or torch file.

    Parameters
    ----------
    path : path
        ``*.safetensors``, or what ``torch.save`` wrote of a state_dict; one nested under
        "state_dict" or "model" is found. Weights files of a study hold many students:
        ``file.safetensors@7`` picks the one trained from seed 7.

    Raises
    ------
    CheckpointError
        The file is missing, unreadable, holds code or objects, or is no two-layer network.
    """
    path, seed = _split_seed(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    if not os.access(path, os.R_OK):
        # safetensors would say that there is no such file.
        raise CheckpointError(f"{path} is not readable: permission denied")
    state = _load_safetensors(path) if path.suffix == SUFFIX else _load_torch(path)
    for wrapper in ("state_dict", "model"):
        inner = state.get(wrapper)
        if isinstance(inner, Mapping):
            state = dict(inner)
    for name, value in state.items():
        if isinstance(value, Tensor) and value.layout != torch.strided:
            raise CheckpointError(
                f"{path}: {name} must be a dense tensor; got {value.layout}: save its .to_dense()"
            )
    seeds = state.pop("seeds", None)
    if seed is not None:
        state = _pick(state, seeds, seed, path)
    try:
        return as_weights(state, path.name)
    except (ValueError, TypeError) as error:
        raise CheckpointError(str(error)) from None


def checkpoint_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file; empty for other files."""
    path, _ = _split_seed(path)
    if path.suffix != SUFFIX or not path.is_file():
        return {}
    try:
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return {}


def _split_seed(path: Path) -> tuple[Path, int | None]:
    stem, at, number = path.name.rpartition("@")
    if at and number.isdigit() and not path.exists():
        return path.with_name(stem), int(number)
    return path, None


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(safetensors.torch.load_file(path))
    except MemoryError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from None


def _load_torch(path: Path) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            # torch warns of pickles it is about to refuse; the error below says it once.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} was not loaded: it holds code or objects beyond tensors, or is no torch "
            "file; save a state_dict with torch.save, or a safetensors file"
        ) from None
    except MemoryError:
        raise
    except Exception as error:
        # Of damaged and foreign files torch raises nearly everything there is.
        reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise CheckpointError(f"{path} is not a readable torch file ({reason})") from None
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path} must hold a state_dict; got {type(state).__name__}: "
            "save model.state_dict() with torch.save"
        )
    return dict(state)


def _pick(state: dict[str, Any], seeds: object, seed: int, path: Path) -> dict[str, Any]:
    known = seeds.flatten().tolist() if isinstance(seeds, Tensor) else []
    if seed not in known:
        span = f"its seeds are {min(known)} to {max(known)}" if known else "it names no seeds"
        raise CheckpointError(f"{path} holds no student of seed {seed}; {span}")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.shape[:1] != (len(known),):
            raise CheckpointError(
                f"{path} has {len(known)} seeds, but {name} is not a stack of as many tensors: "
                "give the file without @"
            )
    place = known.index(seed)
    return {name: tensor[place] for name, tensor in state.items()}
