# SPDX-License-Identifier: MIT
"""Puts the page of a comparison together: its studies over each other, and a part on each."""

from __future__ import annotations

from ..comparison import ComparedSummaries
from ..comparison_table import comparison_table
from ..provenance import versions
from ..report import study_table
from ..settings_line import describe, describe_all
from ..summary import Summary
from .captions import exclusions, sentence
from .comparison_charts import comparison_charts
from .elements import data, paragraph, section, table, terminal_table, text
from .frame import document, figure, numbers, unfinished
from .origin import comparison_origin, configuration_link
from .questions import QUESTIONS, TITLES
from .settings import compare_settings


def comparison_page(compared: ComparedSummaries) -> str:
    """The page of a comparison of which some cell is finished."""
    study = compared.configs[0].study
    charts, results = comparison_charts(compared), comparison_table(compared)
    rows = [row for summary in compared.summaries.values() for row in summary.rows]
    common, varied = compare_settings({k: s.config for k, s in compared.summaries.items()})
    lines = zip(compared.summaries, *varied.values(), strict=True)
    missing = f"pairs are missing of {'; '.join(compared.unfinished)}"
    parts = [
        *([unfinished(missing, "comparison")] if compared.unfinished else []),
        section(
            "Question",
            paragraph(QUESTIONS[study]),
            paragraph(compared.question),
            table(["variant", *varied], lines, "what is varied", "varied") if varied else "",
        ),
        section("Figures", *map(figure, charts)),
        section("Results", terminal_table(results, "results"), numbers(charts, " or pairs")),
        _variants(compared),
        section(
            "Settings",
            paragraph("Those that all variants share; what is varied stands with the question."),
            table(["setting", "value"], common.items(), name="settings"),
        ),
        comparison_origin(compared),
        data("charts", {chart.name: chart.figure() for chart in charts}),
    ]
    subject = describe_all(compared.configs)
    title = f"{TITLES[study]}, by {compared.name}"
    return document(title, f"{subject}. {', '.join(versions(rows))}", parts)


def _variants(compared: ComparedSummaries) -> str:
    return section(
        "Variants",
        paragraph(
            "Each is a study in a folder of its own within that of the comparison, DIR, and can "
            "have a page of its own, with all its matchings and the loss curves of any pair."
        ),
        *(
            _variant(label, compared.folders[label], summary)
            for label, summary in compared.summaries.items()
        ),
    )


def _variant(label: str, folder: str, summary: Summary) -> str:
    """What the study's command printed, and how to make its page and itself."""
    config = summary.config
    commands = (
        f"lmc-fast report DIR/{folder}\n"
        f"lmc-fast study {config.study} --config {folder}.toml --out DIR/{folder}"
    )
    parts = [
        f"<details><summary>{text(label)}</summary>",
        paragraph(f"{sentence(describe(config))} {exclusions(summary)}"),
        terminal_table(study_table(summary), f"results-{folder}"),
        paragraph("To make its page, and to compute it again:"),
        f"<pre>{text(commands)}</pre>",
        configuration_link(config, f"{folder}.toml"),
        "</details>",
    ]
    return "\n".join(parts)
