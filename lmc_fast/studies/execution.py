# SPDX-License-Identifier: MIT
"""Runs studies for the command line: progress, tables, figures, and what a run would do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import torch
import typer
from rich.console import Console

from .comparison import Comparison, load_comparison, shipped
from .config import AnyConfig
from .presets import Measured, load_config, measured_time

_HOUR, _MINUTE = 3600, 60


class Means(NamedTuple):
    """How a study is run, which does not change its results but for a device's rounding."""

    data_dir: Path | None
    threads: int | None
    device: str
    chunk: int | None


def run_and_show(config: AnyConfig, folder: Path, means: Means, title: str, note: str = "") -> None:
    """Run a study with a bar on standard error; print its table and draw its figures.

    Raises
    ------
    typer.Exit
        With 130, after Ctrl-C.
    """
    from .device import device_name
    from .kinds import kind_of
    from .plots import plot_study
    from .report import ProgressBar, show
    from .runner import run_study
    from .store import open_existing

    where = kind_of(config).device(means.device)
    if means.threads is not None:
        torch.set_num_threads(means.threads)
    try:
        with ProgressBar(title, device_name(where), note) as progress:
            outcome = run_study(
                config,
                folder,
                data_dir=means.data_dir,
                threads=means.threads,
                device=where,
                chunk_pairs=means.chunk,
                progress=progress,
            )
    except KeyboardInterrupt as interrupt:
        print(f"lmc-fast: {interrupt or 'interrupted'}", file=sys.stderr)
        raise typer.Exit(130) from None
    console = Console()
    with open_existing(folder) as store:
        show(kind_of(config).table(store))
    skipped = outcome.cells - outcome.computed
    console.print(
        f"{outcome.cells} cells in {folder}"
        + (f" ({skipped} were there before)" if skipped else ""),
        soft_wrap=True,
    )
    for path in plot_study(folder):
        console.print(str(path), soft_wrap=True)


def run_comparison(comparison: Comparison, folder: Path, means: Means, note: str) -> None:
    """Run every study of a comparison; print what they say together and draw it.

    Raises
    ------
    typer.Exit
        With 130, after Ctrl-C.
    """
    from .comparison import read_comparison, write_index
    from .comparison_table import comparison_table
    from .plots import plot_study
    from .report import show

    write_index(folder, comparison)
    print(f"{comparison.study} by {comparison.name}{note}", file=sys.stderr)
    for variant in comparison.variants:
        run_and_show(variant.config, folder / variant.folder, means, variant.label)
    show(comparison_table(read_comparison(folder)))
    for path in plot_study(folder):
        print(path)


def show_plan(config: AnyConfig, folder: Path, title: str = "") -> None:
    """Print every group of cells and how many of it are finished; nothing is computed."""
    from .plan import plan_table
    from .report import show

    table = plan_table(config, folder)
    # Not the table's title, which is broken at the table's width, within a path's words.
    print(f"{title or config.study}: {folder}")
    show(table)


def time_note(config: AnyConfig, preset: str) -> str:
    """What is known of a preset's running time, to be written after its name."""
    data = config.problem.data
    as_shipped = config == load_config(config.study, preset=preset, data=data)  # type: ignore[arg-type]
    return _took(measured_time(config.study, data, preset), as_shipped)


def comparison_time_note(comparison: Comparison, preset: str) -> str:
    """The same of a comparison; those that were measured were with the quick preset."""
    study, name = comparison.study, comparison.name
    measured = measured_time(study, "comparisons", name) if preset == "quick" else None
    return _took(measured, name in shipped(study) and comparison == load_comparison(study, name))


def _took(measured: Measured | None, as_shipped: bool) -> str:
    if measured is None:
        return ": its time has not been measured"
    took = f": takes {_duration(measured.seconds)} on {measured.machine}"
    return took + ("" if as_shipped else " as shipped; these settings differ")


def _duration(seconds: float) -> str:
    if seconds >= 2 * _HOUR:
        return f"about {seconds / _HOUR:.1f} hours"
    if seconds >= 2 * _MINUTE:
        return f"about {seconds / _MINUTE:.0f} minutes"
    return f"about {seconds:.0f} seconds"
