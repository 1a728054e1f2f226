# SPDX-License-Identifier: MIT
"""The commands of ``lmc-fast``: their options, their help, and what they print."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, TextIO

import typer

from .config import DefinitionName, MatchingName, StudyName, TeacherKind
from .execution import Means, run_and_show, show_plan, time_note
from .options import (
    AnyFolderArgument,
    ChunkOption,
    ConfigOption,
    DataDirOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    FolderArgument,
    PresetOption,
    SettingsOption,
    ThreadsOption,
)
from .presets import load_config, to_toml

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _lmc_fast(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; allowed anywhere.")
    ] = False,
) -> None:
    """The loss barrier between two-layer ReLU networks modulo permutation, fast and exactly.

    Start with **lmc-fast study width**, which trains 2,560 students, matches them in pairs and
    draws double descent of the barrier in the width.
    """


@app.command()
def study(
    study: Annotated[StudyName, typer.Argument(help="Which study to run.")],
    preset: PresetOption = "quick",
    config: ConfigOption = None,
    settings: SettingsOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Results folder; default **studies/STUDY-PRESET-HASH**, the hash being that "
            "of the configuration.",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    chunk: ChunkOption = None,
    dry_run: DryRunOption = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print every setting as TOML and stop.")
    ] = False,
) -> None:
    """Run a study, or finish one that was stopped, and draw its figures.

    - **width**: the barrier against the students' width m, with and without matching.
    - **learning-rate**: alive neurons and barrier up to the step size at which training diverges;
      that threshold is searched first.
    - **theory**: the matched barrier between random global minima up to m = 100,000, and how often
      it is zero; nothing is trained.
    - **depth**: the barrier against width for networks of one to four hidden layers and a CNN, on
      images, matched layer by layer.

    Stop it at any time (Ctrl-C, kill, power): the same command resumes and finished cells are
    skipped. Every pair of students is a row of DIR/study.sqlite; trained weights are in
    DIR/weights.
    """
    chosen = load_config(
        study,
        preset=preset,
        data=data,
        file=config,
        overrides=settings or [],
    )
    if print_config:
        print(to_toml(chosen), end="")
        return
    kind = chosen.problem.data
    name = "-".join([study, *([kind] if kind != "teacher" else []), preset])
    folder = out or Path("studies") / f"{name}-{chosen.digest()[:8]}"
    note = time_note(chosen, preset)
    if dry_run:
        show_plan(chosen, folder)
        print(f"{study}{note}")
        return
    run_and_show(chosen, folder, Means(data_dir, threads, device, chunk), name, note)


@app.command()
def compare(
    study: Annotated[StudyName, typer.Argument(help="**width** or **learning-rate**.")],
    name: Annotated[
        str | None,
        typer.Argument(
            help="A comparison that comes with it: **dimension**, **teacher**, **initialisation**, "
            "**training** of width; **width**, **training** of learning-rate.",
            show_default=False,
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=[VALUE,...]",
            help="Instead: a setting and its values, such as **problem.d=[5,10,20]**; with "
            "several, all combinations.",
            show_default=False,
        ),
    ] = None,
    preset: PresetOption = "quick",
    config: ConfigOption = None,
    settings: SettingsOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Default **studies/STUDY-by-NAME-PRESET**.", show_default=False
        ),
    ] = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    chunk: ChunkOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Run a study at several values of some settings, and draw the results over each other.

    Every variant is a study in a folder of its own below DIR, which the other commands take. Stop
    it at any time: the same command resumes.
    """
    from .comparison import load_comparison, slug
    from .execution import comparison_time_note, run_comparison

    chosen = load_comparison(
        study,
        name,
        vary=vary or [],
        preset=preset,
        data=data,
        file=config,
        overrides=settings or [],
    )
    folder = out or Path("studies") / f"{study}-by-{slug(chosen.name)}-{preset}"
    note = comparison_time_note(chosen, preset)
    if dry_run:
        for variant in chosen.variants:
            show_plan(variant.config, folder / variant.folder, variant.label)
        print(f"{chosen.study} by {chosen.name}{note}")
        return
    run_comparison(chosen, folder, Means(data_dir, threads, device, chunk), note)


@app.command()
def plot(
    folder: AnyFolderArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where figures go; default DIR.", show_default=False),
    ] = None,
    theory: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A theory study of the same teacher, to be drawn over a width or learning-rate "
            "study.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Draw a study's or a comparison's figures again (PNG and SVG), finished or not."""
    from .plots import plot_study

    for path in plot_study(folder, out, theory):
        print(path)


@app.command()
def report(
    folder: AnyFolderArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Default: **DIR/report.html**.", show_default=False),
    ] = None,
) -> None:
    """Write a study or a comparison as one HTML page with figures to zoom into.

    It needs no network. The question, figures, tables, settings, and how to reproduce it; of a
    study the loss curves of any pair, of a comparison its studies over each other.
    """
    from .html_report import write_report

    print(write_report(folder, out))


@app.command()
def export(
    folder: FolderArgument,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated values, one line per pair (default).")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Default: standard output.", show_default=False),
    ] = None,
) -> None:
    """Write a study's rows, one per pair of students, for other programs."""
    from .store import open_existing, reported

    del as_csv
    with open_existing(folder) as store:
        rows, names = store.rows(), store.columns
    if out is None:
        _write_csv(sys.stdout, names, rows)
        return
    with (
        reported(out, "give a name that can be written"),
        open(out, "w", newline="", encoding="utf-8") as file,
    ):
        _write_csv(file, names, rows)


def _write_csv(file: TextIO, names: list[str], rows: Iterable[Mapping[str, object]]) -> None:
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


@app.command()
def barrier(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            help="Checkpoint: safetensors, or a state_dict saved by torch. A study's weights file "
            "holds many students; **FILE@7** is the one of seed 7.",
        ),
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other checkpoint.")],
    data: DataOption = None,
    data_dir: DataDirOption = None,
    match: Annotated[
        MatchingName | None,
        typer.Option(help="Match neurons first, and show the barrier without it beside."),
    ] = None,
    definition: Annotated[
        DefinitionName,
        typer.Option(
            help="How far the loss rises above the **chord** between the two ends, above the "
            "**endpoint_mean**, or above that mean at the **midpoint**."
        ),
    ] = "chord",
    alphas: Annotated[int, typer.Option(min=2, help="Points along the segment.")] = 25,
    teacher_width: Annotated[
        int | None, typer.Option(min=1, help="M; default 5.", show_default=False)
    ] = None,
    teacher_kind: Annotated[
        TeacherKind | None,
        typer.Option(help="Default orthonormal.", show_default=False),
    ] = None,
    teacher_seed: Annotated[
        int | None, typer.Option(min=0, help="Default 0.", show_default=False)
    ] = None,
    save_plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw the loss along the segment, PNG or SVG.", show_default=False
        ),
    ] = None,
) -> None:
    """Measure the loss barrier between two trained networks.

    Weights files of a study know their problem; for other files --data and the teacher's options
    say what the loss is. Only tensors are read: a pickle that carries code is refused.
    """
    from .pairs import measure_pair, save_curve
    from .report import barrier_table, show

    results = measure_pair(
        a,
        b,
        problem={
            "data": data,
            "teacher_width": teacher_width,
            "teacher_kind": teacher_kind,
            "teacher_seed": teacher_seed,
        },
        data_dir=data_dir,
        match=match,
        definition=definition,
        alphas=alphas,
    )
    show(barrier_table(results))
    if save_plot is not None:
        save_curve(results, save_plot)
        print(save_plot)


@app.command()
def info() -> None:
    """Say what this installation is and where it runs: version, CPU target, CUDA, threads."""
    from ..backend import backend

    print(backend())
