# SPDX-License-Identifier: MIT
"""What every page is made of: the document around it, figures, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np
from plotly.offline import get_plotlyjs

from ..statistics import FEWEST
from .chart import Chart
from .elements import table, text

# The page may run what it holds, and load nothing.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; form-action 'none'; base-uri 'none'"
)


def document(title: str, by: str, parts: Sequence[str]) -> str:
    """A whole page: its title, a line on whose results it shows, and what stands below."""
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title>",
        f"<style>\n{_file('page.css')}</style>",
    ]
    scripts = [f"<script>{get_plotlyjs()}</script>", f"<script>\n{_file('page.js')}</script>"]
    lines = ["<!DOCTYPE html>", '<html lang="en"><head>', *head, "</head><body>"]
    lines += [f"<h1>{text(title)}</h1>", f'<p class="by">{text(by)}</p>']
    return "\n".join([*lines, *parts, *scripts, "</body></html>\n"])


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def unfinished(missing: str, of: str) -> str:
    """A box on which pairs are missing, and what to do; ``of`` is a study or a comparison."""
    written = (
        f"Unfinished: {missing}. Run the {of}'s command again to compute them, and then "
        "this report."
    )
    return f'<p class="unfinished">{text(written)}</p>'


def figure(chart: Chart) -> str:
    """A chart with its title and caption; the page's script draws it."""
    floor = "Values below the dotted line are drawn in one place: hover for them. "
    return (
        f'<h3>{text(chart.title)}</h3><figure><div class="chart" id="chart-{text(chart.name)}">'
        f"</div><figcaption>{text(chart.caption)} {floor if chart.has_floor else ''}"
        "Drag to zoom, double-click to reset, click a name to hide it.</figcaption></figure>"
    )


def numbers(charts: Sequence[Chart], note: str = "") -> str:
    """Every number that is drawn as a mean, with its interval; ``note`` ends what is said of it."""
    rows = [
        [chart.title, line.look.label, f"{x:.6g}", *map(_number, mean), count]
        for chart in charts
        for line in chart.lines
        for x, mean, count in zip(line.x, line.means, line.counts, strict=True)
    ]
    head = ["figure", "line", "x", "value", "low", "high", "values"]
    about = (
        "low and high: ends of 95% intervals; \u2013: none, as of medians and of fewer than "
        f"{FEWEST} values{note}"
    )
    found = table(head, rows, about, "numbers")
    return f"<details><summary>All numbers in the figures</summary>{found}</details>"


def _number(value: float) -> str:
    return "\u2013" if np.isnan(value) else f"{value:.6g}"
