"""The report page as one HTML text: a template, its style and scripts, and the data, which the scripts draw.

Nothing in it comes from, or goes to, another place: the policy of the page forbids every connection and every script
but these. What people wrote is text in the page, never HTML: the template escapes it, and the data are JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from compressit.contract.kinds import Table
from compressit.contract.results import Results
from compressit.printable import block
from compressit.results import tables
from compressit.results.analysis import Analysis
from compressit.results.curves import lines
from compressit.results.front import front
from compressit.results.gallery import Gallery
from compressit.results.summary import Summary, summary

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("vendored/d3.min.js", "vendored/plot.min.js", "report.js")
RECIPE_CHARACTERS = 100_000
DESCRIPTION_CHARACTERS = 160


@dataclass(frozen=True)
class Picture:
    """A figure of a report."""

    name: str
    caption: str
    source: (
        str | None
    )  # a data: URL, or None if the page is full, or draws the same itself: it links to the file


@dataclass(frozen=True)
class Told:
    """What one report has for the page."""

    report: str
    paragraphs: Sequence[str]
    tables: Sequence[Table]
    pictures: Sequence[Picture]


class Document:
    """The page of these results. `Document.html` adds what reports and evaluators gave."""

    def __init__(self, results: Results) -> None:
        self._results = results
        analysis = Analysis.of(results)
        self._summary: Summary = summary(analysis)
        self._tables = {
            name: table
            for name, table in (("seeds", tables.over_seeds(results)), ("models", tables.all_models(results)))
            if table is not None and table.rows
        }
        self._front, self._curves = front(analysis), lines(results)
        shown = {
            name: vars(table) | {"columns": [vars(c) for c in table.columns]}
            for name, table in self._tables.items()
        }
        self._data = embedded({"front": self._front, "tables": shown, "curves": self._curves})

    def html(
        self, told: Sequence[Told] = (), galleries: Sequence[Gallery] = (), problems: Sequence[str] = ()
    ) -> str:
        """The whole page. The same results give the same text."""
        from markupsafe import Markup

        results = self._results
        text = results.text
        if len(text) > RECIPE_CHARACTERS:
            text = text[:RECIPE_CHARACTERS] + "\n# … the rest is in results.json"
        scripts = _scripts()
        return (
            _environment()
            .get_template("report.html.j2")
            .render(
                results=results,
                summary=self._summary,
                subtitle=_first_sentence(results.description),
                told=told,
                galleries=galleries,
                problems=problems,
                warnings=results.warnings(),
                finished=not results.missing and not results.failures,
                planned=len(results.rows) + len(results.missing),
                noted=tables.noted(results),
                facts=list(tables.facts(results.about)),
                text=text,
                most_lines=tables.MOST_LINES,
                has_front=self._front is not None,
                has_curves=bool(self._curves),
                tables=self._tables,
                data=Markup(self._data),
                style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
                scripts=[Markup(script) for script in scripts],
                policy=_policy(scripts),
            )
        )


def embedded(data: Mapping[str, Any]) -> str:
    """JSON for a `<script type="application/json">`: no `<`, so that no text in it can end the element or begin a
    comment, and no character that steers a page."""
    return json.dumps(_sound(data), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _sound(value: Any) -> Any:
    if isinstance(value, str):
        return block(value)
    if isinstance(value, Mapping):
        return {block(name): _sound(item) for name, item in value.items()}
    return [_sound(item) for item in value] if isinstance(value, list | tuple) else value


@cache
def _environment() -> jinja2.Environment:
    import jinja2
    from markupsafe import Markup

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # escapes control characters in everything inserted into the page
        finalize=lambda value: value if isinstance(value, Markup) else block(value),
    )


@cache
def _scripts() -> tuple[str, ...]:
    """The page's scripts, each vendored one with its licence."""
    found: list[str] = []
    for name in SCRIPTS:
        file = TEMPLATES / name
        script = file.read_text(encoding="utf-8")
        licence = file.with_name(file.name.replace(".min.js", ".LICENSE"))
        found.append(f"/*\n{licence.read_text(encoding='utf-8')}*/\n{script}" if licence != file else script)
    return tuple(found)


def _policy(scripts: Sequence[str]) -> str:
    """The Content-Security-Policy: no connection, and only these scripts, by their digests."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )


def _first_sentence(text: str) -> str:
    """The description's first sentence, to stand under the title; the whole stands at the end."""
    first = " ".join(text.split()).split(". ")[0]
    return shorten(first, DESCRIPTION_CHARACTERS, placeholder=" …")
