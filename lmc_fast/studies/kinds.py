# SPDX-License-Identifier: MIT
"""What each kind of study provides, in one table: how it runs, its table, figures and page.

What needs rich, matplotlib or plotly is imported when it is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from . import cells, depth, theory, width
from .cells import Chunk, ChunkResult
from .config import (
    DepthConfig,
    GridConfig,
    LearningRateConfig,
    StudyConfig,
    TeacherProblem,
    TheoryConfig,
    WidthConfig,
)
from .device import cpu_alone, resolve_device
from .store import Store
from .tasks import Sizes, make_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from .html_report.chart import Chart
    from .theory_summary import TheorySummary

Figures = dict[str, Callable[[], "Figure | None"]]


class Contents(NamedTuple):
    """What a kind puts on a study's page.

    Attributes
    ----------
    subject : str
        The problem and the training in a line.
    results : Table
    charts : list of Chart
    curves : dict or None
        What :func:`pack` packs, to draw the curves of a chosen pair.
    """

    subject: str
    results: Table
    charts: list[Chart]
    curves: dict[str, Any] | None


class Kind(ABC):
    """One kind of study."""

    @abstractmethod
    def device(self, asked: str | torch.device) -> torch.device:
        """Where it computes; an error where it cannot."""

    @abstractmethod
    def sizes(self, config: Any, data_dir: Path | None, device: torch.device) -> Sizes:
        """Of the problem; images that cannot be read are found out."""

    @abstractmethod
    def columns(self, config: Any) -> dict[str, str]:
        """Names and SQLite types of the measurements of one pair."""

    @abstractmethod
    def run_chunk(self, chunk: Chunk) -> ChunkResult:
        """Compute the rows of a chunk."""

    @abstractmethod
    def settings(self, config: Any) -> list[tuple[int, float]]:
        """Width and step size of every group of cells."""

    @abstractmethod
    def plan(self, config: Any, m: int, lr: str) -> dict[str, str]:
        """What a plan says of the cells of a width and step size, by the column's title."""

    @abstractmethod
    def cell(self, config: Any) -> str:
        """What a cell is made of, in words."""

    def cost(self, config: Any, m: int) -> float:
        """Work of a pair in arbitrary units."""
        del config
        return float(m)

    @abstractmethod
    def table(self, store: Store) -> Table:
        """What the terminal shows."""

    @abstractmethod
    def figures(self, store: Store, law: TheorySummary | None) -> Figures:
        """Figures by name, to be drawn; ``law`` goes over those of trained students."""

    @abstractmethod
    def contents(self, store: Store) -> Contents:
        """What its page shows."""


class Trained(Kind):
    """Width and learning rate: two-layer students that are trained."""

    def device(self, asked: str | torch.device) -> torch.device:
        return resolve_device(asked)

    def sizes(self, config: StudyConfig, data_dir: Path | None, device: torch.device) -> Sizes:
        return make_task(config, data_dir, device).sizes

    def columns(self, config: StudyConfig) -> dict[str, str]:
        return cells.measurement_columns(config)

    def run_chunk(self, chunk: Chunk) -> ChunkResult:
        return cells.run_chunk(chunk)

    def settings(self, config: WidthConfig) -> list[tuple[int, float]]:
        """Of a width study; a learning-rate study has to find them."""
        return width.settings(config)

    def plan(self, config: StudyConfig, m: int, lr: str) -> dict[str, str]:
        return {"learning rate": lr, "steps": f"{config.steps_at(m):,}"}

    def cell(self, config: StudyConfig) -> str:
        return f"a pair of students, matched by {_listed(config.matchings)}"

    def cost(self, config: StudyConfig, m: int) -> float:
        problem = config.problem
        if isinstance(problem, TeacherProblem):
            return float(m * (m + problem.teacher_width))
        return float(m)

    def table(self, store: Store) -> Table:
        from .report import study_table
        from .summary import summarise

        return study_table(summarise(store))

    def figures(self, store: Store, law: TheorySummary | None) -> Figures:
        from .plot_alive import alive_figure
        from .plot_alpha import alpha_figure
        from .plot_learning_rate import learning_rate_figure
        from .plot_width import width_figure
        from .summary import summarise

        summary = summarise(store)
        rates = isinstance(summary.config, LearningRateConfig)
        return {
            f"barrier-vs-{summary.config.study}": lambda: (
                learning_rate_figure(summary, law) if rates else width_figure(summary, law)
            ),
            "alive-vs-updates": lambda: alive_figure(summary),
            "barrier-along-alpha": lambda: alpha_figure(summary, store),
        }

    def contents(self, store: Store) -> Contents:
        from .html_report import captions
        from .html_report.pair_curves import pair_curves
        from .html_report.trained_charts import trained_charts
        from .report import study_table
        from .settings_line import describe
        from .summary import summarise

        summary, rows = summarise(store), store.rows()
        config = summary.config
        per = "step size" if isinstance(config, LearningRateConfig) else "width"
        subject = describe(config)
        below = [
            captions.sentence(subject),
            captions.sample(config, rows, per),
            captions.exclusions(summary),
        ]
        charts = trained_charts(summary, " ".join([*below, captions.code(rows)]))
        curves = pair_curves(summary, store)
        return Contents(subject, study_table(summary), charts, curves)


class Theory(Kind):
    """Random global minima: nothing is trained."""

    def device(self, asked: str | torch.device) -> torch.device:
        return cpu_alone(asked, "theory")

    def sizes(self, config: TheoryConfig, data_dir: Path | None, device: torch.device) -> Sizes:
        return theory.sizes(config)

    def columns(self, config: TheoryConfig) -> dict[str, str]:
        return theory.measurement_columns(config)

    def run_chunk(self, chunk: Chunk) -> ChunkResult:
        return theory.run_chunk(chunk)

    def settings(self, config: TheoryConfig) -> list[tuple[int, float]]:
        return theory.settings(config)

    def plan(self, config: TheoryConfig, m: int, lr: str) -> dict[str, str]:
        return {"death rates": _listed(f"{death:g}" for death in config.deaths)}

    def cell(self, config: TheoryConfig) -> str:
        return "a pair of random minima at each death rate; nothing is trained"

    def table(self, store: Store) -> Table:
        from .report_theory import theory_table
        from .theory_summary import summarise_theory

        return theory_table(summarise_theory(store))

    def figures(self, store: Store, law: TheorySummary | None) -> Figures:
        from .plot_theory import theory_figure
        from .theory_summary import summarise_theory

        minima = summarise_theory(store)
        return {"barrier-of-random-minima": lambda: theory_figure(minima)}

    def contents(self, store: Store) -> Contents:
        from .html_report import captions
        from .html_report.theory_charts import theory_charts
        from .report_theory import theory_table
        from .settings_line import describe
        from .theory_summary import summarise_theory

        minima, rows = summarise_theory(store), store.rows()
        subject = describe(minima.config)
        sample = captions.sample(minima.config, rows, "width")
        below = [captions.sentence(subject), sample, "No pair is left out."]
        charts = theory_charts(minima, " ".join([*below, captions.code(rows)]))
        return Contents(subject, theory_table(minima), charts, None)


class Depth(Kind):
    """Networks of several depths on images."""

    def device(self, asked: str | torch.device) -> torch.device:
        return cpu_alone(asked, "depth")

    def sizes(self, config: DepthConfig, data_dir: Path | None, device: torch.device) -> Sizes:
        return depth.sizes(config, data_dir)

    def columns(self, config: DepthConfig) -> dict[str, str]:
        return depth.measurement_columns(config)

    def run_chunk(self, chunk: Chunk) -> ChunkResult:
        return depth.run_chunk(chunk)

    def settings(self, config: DepthConfig) -> list[tuple[int, float]]:
        return depth.settings(config)

    def plan(self, config: DepthConfig, m: int, lr: str) -> dict[str, str]:
        names = _listed(config.architectures)
        return {"architectures": names, "learning rate": lr, "steps": f"{config.steps:,}"}

    def cell(self, config: DepthConfig) -> str:
        count = len(config.architectures)
        return f"a pair of networks of each architecture, {2 * count} networks"

    def cost(self, config: DepthConfig, m: int) -> float:
        # Below some hundred neurons a step's time is that of starting its operations.
        return 100.0 + m

    def table(self, store: Store) -> Table:
        from .depth_summary import summarise_depth
        from .report_depth import depth_table

        return depth_table(summarise_depth(store))

    def figures(self, store: Store, law: TheorySummary | None) -> Figures:
        from .depth_summary import summarise_depth
        from .plot_depth import depth_figure

        summary = summarise_depth(store)
        return {"barrier-vs-depth": lambda: depth_figure(summary)}

    def contents(self, store: Store) -> Contents:
        from .depth_summary import summarise_depth
        from .html_report import captions
        from .html_report.depth_charts import depth_charts
        from .html_report.depth_curves import depth_curves
        from .report_depth import depth_table
        from .settings_line import describe

        summary, rows = summarise_depth(store), store.rows()
        subject = describe(summary.config)
        sample = captions.sample(summary.config, rows, "width")
        below = [captions.sentence(subject), sample, summary.exclusions()]
        charts = depth_charts(summary, " ".join([*below, captions.code(rows)]))
        curves = depth_curves(summary, store)
        return Contents(subject, depth_table(summary), charts, curves)


_KINDS: Mapping[str, Kind] = {
    "width": Trained(),
    "learning-rate": Trained(),
    "theory": Theory(),
    "depth": Depth(),
}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def kind_of(config: GridConfig) -> Kind:
    """The kind of a configuration."""
    return _KINDS[config.study]
