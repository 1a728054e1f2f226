# SPDX-License-Identifier: MIT
"""Puts a study's page together and writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from ..config import AnyConfig, cell_count
from ..kinds import kind_of
from ..presets import config_from_json
from ..provenance import versions
from ..statistics import FEWEST
from ..store import Row, Store, open_existing, reported
from .chart import Chart
from .elements import data, paragraph, section, table, terminal_table, text
from .origin import origin_section
from .questions import QUESTIONS, TITLES

# The page may run what it holds, and load nothing.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; form-action 'none'; base-uri 'none'"
)


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


def study_page(store: Store) -> str:
    """The page of an open store."""
    config = config_from_json(store.config_text)
    rows = store.rows()
    subject, results, charts, curves = kind_of(config).contents(store)
    parts = [
        f"<h1>{text(TITLES[config.study])}</h1>",
        f'<p class="by">{text(subject)}. {text(", ".join(versions(rows)))}</p>',
        *_unfinished(config, rows),
        section("Question", paragraph(QUESTIONS[config.study])),
        section("Figures", *map(_figure, charts)),
        *([_chooser(curves["about"], charts[0].caption)] if curves is not None else []),
        section("Results", terminal_table(results, "results"), _numbers(charts)),
        section("Settings", table(["setting", "value"], _settings(config), name="settings")),
        origin_section(config, rows),
        data("charts", {chart.name: chart.figure() for chart in charts}),
        *([data("curves", curves)] if curves is not None else []),
    ]
    return _document(TITLES[config.study], parts)


def _document(title: str, parts: Sequence[str]) -> str:
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title>",
        f"<style>\n{_file('page.css')}</style>",
    ]
    scripts = [f"<script>{get_plotlyjs()}</script>", f"<script>\n{_file('page.js')}</script>"]
    lines = ["<!DOCTYPE html>", '<html lang="en"><head>', *head, "</head><body>"]
    return "\n".join([*lines, *parts, *scripts, "</body></html>\n"])


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _unfinished(config: AnyConfig, rows: Sequence[Row]) -> list[str]:
    missing = cell_count(config) - len(rows)
    if missing <= 0:
        return []
    written = (
        f"Unfinished: {missing:,} of {cell_count(config):,} pairs are missing. Run the "
        "study's command again to compute them, and then this report."
    )
    return [f'<p class="unfinished">{text(written)}</p>']


def _figure(chart: Chart) -> str:
    floor = "Values below the dotted line are drawn in one place: hover for them. "
    return (
        f'<h3>{text(chart.title)}</h3><figure><div class="chart" id="chart-{text(chart.name)}">'
        f"</div><figcaption>{text(chart.caption)} {floor if chart.has_floor else ''}"
        "Drag to zoom, double-click to reset, click a name to hide it.</figcaption></figure>"
    )


def _chooser(about: str, caption: str) -> str:
    controls = "".join(
        f'<label>{label} <select id="choose-{name}"></select></label>'
        for label, name in (("setting", "setting"), ("pair", "pair"), ("losses", "split"))
    )
    controls += '<label><input type="checkbox" id="choose-log"> log scale</label>'
    return section(
        "Loss along the segment of one pair",
        f'<p>{controls}</p><figure><div class="chart" id="chart-pair"></div>',
        f"<figcaption>Chosen at first: {text(about)}. {text(caption)}</figcaption></figure>",
    )


def _numbers(charts: Sequence[Chart]) -> str:
    """Every number that is drawn as a mean, with its interval."""
    rows = [
        [chart.title, line.look.label, f"{x:.6g}", *map(_number, mean), count]
        for chart in charts
        for line in chart.lines
        for x, mean, count in zip(line.x, line.means, line.counts, strict=True)
    ]
    head = ["figure", "line", "x", "value", "low", "high", "values"]
    about = (
        "low and high: ends of 95% intervals; \u2013: none, as of medians and of fewer than "
        f"{FEWEST} values; of alive neurons against the step size they are the range"
    )
    numbers = table(head, rows, about, "numbers")
    return f"<details><summary>All numbers in the figures</summary>{numbers}</details>"


def _number(value: float) -> str:
    return "\u2013" if np.isnan(value) else f"{value:.6g}"


def _settings(config: AnyConfig) -> list[list[str]]:
    settings: dict[str, Any] = config.model_dump(mode="json")
    problem = settings.pop("problem")
    flat = {"study": config.study, **settings}
    flat |= {f"problem.{name}": value for name, value in problem.items()}
    return [[name, "none" if v is None else json.dumps(v).strip('"')] for name, v in flat.items()]
