# SPDX-License-Identifier: MIT
"""Where a study's rows come from, and how to compute them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

from ..config import GridConfig
from ..presets import to_toml
from ..store import Row
from .elements import paragraph, section, table, text

_COLUMNS = ("version", "commit", "machine", "backend")


def origin_section(config: GridConfig, rows: Sequence[Row]) -> str:
    """Command, configuration, and the versions and machines of the rows."""
    settings = to_toml(config)
    counts = Counter(tuple(str(row[name]) for name in _COLUMNS) for row in rows)
    finished = sorted(str(row["finished_at"]) for row in rows)
    seconds = sum(float(row["seconds"] or 0) for row in rows)
    return section(
        "How to reproduce it",
        paragraph(
            "Save the configuration as study.toml and run the command with the version below. On "
            "the same machine and device the rows agree but for the times; elsewhere up to "
            "rounding."
        ),
        f"<pre>lmc-fast study {text(config.study)} --config study.toml --out DIR</pre>",
        f'<pre id="configuration">{text(settings)}</pre>',
        f'<p><a download="study.toml" href="data:text/plain,{quote(settings)}">Save it</a>; '
        f"its hash is <code>{text(config.digest())}</code>.</p>",
        table(
            ["version", "commit", "machine", "device", "pairs"],
            [[*key, f"{count:,}"] for key, count in sorted(counts.items())],
            f"Computed between {finished[0]} and {finished[-1]}, in {seconds:,.0f} seconds of work",
            "provenance",
        ),
    )
