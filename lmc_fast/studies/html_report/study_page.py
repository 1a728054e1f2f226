# SPDX-License-Identifier: MIT
"""Puts a study's page together."""

from __future__ import annotations

from ..config import cell_count
from ..kinds import kind_of
from ..presets import config_from_json
from ..provenance import versions
from ..store import Store
from .elements import data, paragraph, section, table, terminal_table, text
from .frame import document, figure, numbers, unfinished
from .origin import origin_section
from .questions import QUESTIONS, TITLES
from .settings import settings

_RANGE = "; of alive neurons against the step size they are the range"


def study_page(store: Store) -> str:
    """The page of an open store."""
    config = config_from_json(store.config_text)
    rows = store.rows()
    subject, results, charts, curves = kind_of(config).contents(store)
    cells = cell_count(config)
    missing = cells - len(rows)
    parts = [
        *(
            [unfinished(f"{missing:,} of {cells:,} pairs are missing", "study")]
            if missing > 0
            else []
        ),
        section("Question", paragraph(QUESTIONS[config.study])),
        section("Figures", *map(figure, charts)),
        *([_chooser(curves["about"], charts[0].caption)] if curves is not None else []),
        section("Results", terminal_table(results, "results"), numbers(charts, _RANGE)),
        section("Settings", table(["setting", "value"], settings(config).items(), name="settings")),
        origin_section(config, rows),
        data("charts", {chart.name: chart.figure() for chart in charts}),
        *([data("curves", curves)] if curves is not None else []),
    ]
    return document(TITLES[config.study], f"{subject}. {', '.join(versions(rows))}", parts)


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
