# SPDX-License-Identifier: MIT
"""Baselines compiled by torch.compile (inductor), which needs a C++ compiler where it runs."""

import os
from collections.abc import Callable
from typing import Any

import torch

# Inductor would start processes that compile in parallel, and keep them.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


def contestant(
    function: Callable[..., Any], call: Callable[[Callable[..., Any]], Any]
) -> dict[str, Callable[[], Any]]:
    """Return ``call`` of the compiled function, compiled already, as ``{"torch.compile": ...}``.

    Prints why and returns nothing where it does not compile.
    """
    compiled = torch.compile(function, dynamic=False)
    try:
        call(compiled)
    except Exception as error:  # any of many kinds: no compiler, a Python too new, ...
        print(f"torch.compile is left out: {type(error).__name__}: {str(error).splitlines()[0]}")
        return {}
    return {"torch.compile": lambda: call(compiled)}
