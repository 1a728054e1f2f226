# SPDX-License-Identifier: MIT
"""Pages of studies, read as text and opened in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lmc_fast.cli import main


class Page(HTMLParser):
    """A page's tags, tables, and scripts by id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: dict[str, str] = {}
        self.texts: list[str] = []
        self._table = self._script = ""
        self._caption = False
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append((tag, named))
        if tag == "table":
            self._table = named.get("id", "")
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        elif tag in ("script", "style"):
            self._script = named.get("id", "code")
        self._caption = tag == "caption" or (self._caption and tag == "br")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._script = ""
        elif tag == "table":
            self._table = ""

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
            return
        self.texts.append(data)
        rows = self.tables.get(self._table)
        if rows and rows[-1] and not self._caption:
            rows[-1][-1] += data.strip("\n")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def read(self, name: str) -> Any:
        return json.loads(self.scripts[name])

    def records(self, name: str) -> list[dict[str, str]]:
        head, *rows = self.tables[name]
        return [dict(zip(head, row, strict=True)) for row in rows]


def _browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


needs_browser = pytest.mark.skipif(
    _browser() is None, reason="no chromium or google-chrome to open the page in"
)

# How many lines every chart has, and how far its legend is below the title of its x axis.
_LINES = """
function lines() {
  const charts = [...document.querySelectorAll(".chart")];
  return {
    drawn: charts.map((chart) => chart.querySelectorAll(".scatterlayer path.js-line").length),
    gap: charts.map((chart) => chart.querySelector(".legend").getBoundingClientRect().top
      - chart.querySelector(".xtitle").getBoundingClientRect().bottom),
  };
}
"""


def ran(path: Path, script: str) -> Any:
    """What a script that ends a page has left in ``result``, in a browser."""
    tail = f"""<script>{_LINES}{script}
const pre = document.createElement("pre");
pre.id = "shown";
pre.textContent = JSON.stringify(result);
document.body.replaceChildren(pre);
</script></body>"""
    changed = path.with_name("changed.html")
    changed.write_text(path.read_text("utf-8").replace("</body>", tail), "utf-8")
    command = [str(_browser()), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               f"--user-data-dir={path.parent / 'profile'}", "--virtual-time-budget=10000",
               changed.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    (found,) = re.findall(r'<pre id="shown">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(found)


def check_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``lmc-fast report`` of a study or a comparison: the page's place, given or not."""
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert main(["report", str(folder), "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert (tmp_path / "new" / "page.html").read_bytes() == (folder / "report.html").read_bytes()
    assert main(["report", str(folder), "--out", str(folder)]) == 1
    assert "give an --out that can be written" in capsys.readouterr().err
