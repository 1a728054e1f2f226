# SPDX-License-Identifier: MIT
"""Where rows come from, and how to compute them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

from ..comparison import ComparedSummaries
from ..config import GridConfig
from ..presets import to_toml
from ..store import Row
from .elements import paragraph, section, table, text

_COLUMNS = ("version", "commit", "machine", "backend")
_AGREE = (
    "with the version below. On the same machine and device the rows agree but for the times; "
    "elsewhere up to rounding."
)


def origin_section(config: GridConfig, rows: Sequence[Row]) -> str:
    """Command, configuration, and the versions and machines of a study's rows."""
    return section(
        "How to reproduce it",
        paragraph(f"Save the configuration as study.toml and run the command {_AGREE}"),
        f"<pre>lmc-fast study {text(config.study)} --config study.toml --out DIR</pre>",
        f'<pre id="configuration">{text(to_toml(config))}</pre>',
        configuration_link(config, "study.toml"),
        _provenance([], [([], rows)]),
    )


def comparison_origin(compared: ComparedSummaries) -> str:
    """Command of a comparison, and the versions and machines of the rows of its studies."""
    if compared.command:
        how = [
            paragraph(f"Run the command {_AGREE}"),
            f'<pre id="command">{text(compared.command)} --out DIR</pre>',
        ]
    else:
        lacks = (
            "An earlier version of lmc_fast made this comparison and did not keep its command: run "
            "that again, which resumes, and then this report. Or run every variant's own command, "
            f"above, {_AGREE}"
        )
        how = [paragraph(lacks)]
    rows = [([label], summary.rows) for label, summary in compared.summaries.items()]
    return section("How to reproduce it", *how, _provenance(["variant"], rows))


def configuration_link(config: GridConfig, name: str) -> str:
    """A link to save a configuration as a file."""
    return (
        f'<p><a download="{text(name)}" href="data:text/plain,{quote(to_toml(config))}">'
        f"Save {text(name)}</a>; its hash is <code>{text(config.digest())}</code>.</p>"
    )


def _provenance(head: list[str], studies: Sequence[tuple[list[str], Sequence[Row]]]) -> str:
    """Versions, machines and devices of the rows of each study; ``head`` names what leads them."""
    rows = [row for _, part in studies for row in part]
    finished = sorted(str(row["finished_at"]) for row in rows)
    seconds = sum(float(row["seconds"] or 0) for row in rows)
    lines = []
    for lead, part in studies:
        counts = Counter(tuple(str(row[name]) for name in _COLUMNS) for row in part)
        lines += [[*lead, *key, f"{count:,}"] for key, count in sorted(counts.items())]
    return table(
        [*head, "version", "commit", "machine", "device", "pairs"],
        lines,
        f"Computed between {finished[0]} and {finished[-1]}, in {seconds:,.0f} seconds of work",
        "provenance",
    )
