# SPDX-License-Identifier: MIT
"""Two widths of the width study's full preset, on the GPU and on all cores of its machine.

Their cells are the preset's: all its pairs, all its steps, matchings and barriers. Where the time
does not suffice, what is finished is scaled to the whole by its training work; the name says so.
"""

import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..timer import OURS

WIDTHS = (28, 80)
SECONDS = 60.0  # after which no further cells are begun
WARM_UP = ("pairs=2", "steps=20")
WANTED = 10.0  # ratio of the times
OP = "width study"

Losses = dict[tuple[Any, ...], float]  # trained losses by cell


class OutOfTimeError(Exception):
    """The time is up."""


class Stopwatch:
    """A study's progress (see lmc_fast.studies.runner.Progress), which ends it after a while."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.total, self.done = 0.0, 0.0  # training work, in units of its own
        self.seconds = 0.0
        self._started = time.perf_counter()

    def searching(self, text: str) -> None:
        """Never: the step sizes are given."""

    def begin(self, cells: int, cost: float) -> None:
        """All the work."""
        self.total = cost

    def advance(self, cells: int, cost: float) -> None:
        """So much more is done."""
        self.done += cost
        self.seconds = time.perf_counter() - self._started
        if self.seconds > self.most and self.done < self.total:
            raise OutOfTimeError


def measure(
    most: float = SECONDS, gpu: str = "cuda", overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """One row of the file, like those of ``measure.measure``; each side is timed once.

    Nothing is compared with float64, in which the study computes anyway. The error is that of the
    mean trained loss, against the CPU's, over the pairs that both have finished.
    """
    fields = "median_s quartiles_s rounds ratio errors peak_bytes floor left_out"
    row: dict[str, Any] = {"op": OP, "size": "full preset", "targets": []}
    row |= {field: {} for field in fields.split()}
    try:
        from lmc_fast.studies.presets import load_config
    except ImportError as error:
        row["left_out"][OURS] = f"needs the extra lmc_fast[studies]: {error}"
        return row
    settings = [f"widths={list(WIDTHS)}", *overrides]
    config = load_config("width", preset="full", overrides=settings)
    warm_up = load_config("width", preset="full", overrides=[*settings, *WARM_UP])
    widths = " and ".join(map(str, config.widths))
    row["size"] = f"full preset, m={widths}: {config.pairs} pairs, {config.steps} steps"
    losses: list[Losses] = []
    for name, device in ((OURS, gpu), (f"CPU, {torch.get_num_threads()} threads", "cpu")):
        run(warm_up, device)
        watch, found = run(config, device, most)
        losses.append(found)
        share = watch.done / watch.total
        if share < 1:
            done = f"{share:.0%} of the work, scaled to all"
            if name == OURS:
                row["size"] += f" (on the GPU {done})"
            else:
                name += f" ({done})"
        seconds = watch.seconds / share
        row["median_s"][name] = seconds
        row["quartiles_s"][name] = (seconds, seconds)
        row["rounds"][name] = 1
    reached = row["median_s"][name] / row["median_s"][OURS]
    row["ratio"][name] = reached
    row["targets"] = [{"baseline": name, "ours": OURS, "wanted": WANTED, "reached": reached}]
    row["errors"][OURS] = {"mean loss": difference(*losses)}
    return row


def difference(found: Losses, wanted: Losses) -> float:
    """Relative one of the means over the cells that both have."""
    both = [cell for cell in found if cell in wanted]
    sums = (sum(losses[cell] for cell in both) for losses in (found, wanted))
    one, other = sums
    return abs(one - other) / abs(other)


def run(config: Any, device: str, most: float = float("inf")) -> tuple[Stopwatch, Losses]:
    """Run a study in a folder that is then removed."""
    from lmc_fast.studies.runner import run_study
    from lmc_fast.studies.store import CellKey, open_existing

    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "study"
        watch = Stopwatch(most)
        with suppress(OutOfTimeError):
            run_study(config, folder, device=device, progress=watch)
        with open_existing(folder) as store:
            losses = {
                tuple(row[name] for name in CellKey._fields): row["loss_a"] for row in store.rows()
            }
    return watch, losses
