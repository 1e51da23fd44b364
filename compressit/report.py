"""Lays out what a run found: results.json, results.csv, figures and one self-contained page.

Figures and words come from report plugins; one that raises is named on the page and loses nothing else.
"""

from __future__ import annotations

import base64
import io
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from compressit import tables
from compressit.errors import FOREIGN, told
from compressit.kinds import Report
from compressit.ownfolder import OwnFolder
from compressit.results import Results
from compressit.seeds import Streams, seeded

DPI = 120
PICTURE_BYTES = 3_150_000  # of PNG in the page: 4.2 MB as base64, which leaves room below 5 MB for the rest
TEXT_CHARACTERS = 100_000  # of the recipe


@dataclass(frozen=True)
class _Picture:
    name: str
    caption: str
    source: str | None  # a data: address, or None where the page is full and only links to the file


@dataclass
class _Contents:
    paragraphs: list[str] = field(default_factory=list[str])
    pictures: list[_Picture] = field(default_factory=list[_Picture])
    problems: list[str] = field(default_factory=list[str])


def render(results: Results, reports: Sequence[Report[Any]], folder: Path) -> None:
    """Writes results.json, results.csv, figures/*.png and *.svg and report.html (<= 5 MB) into `folder`.

    Each file is replaced atomically; the same results give the same bytes. A report that raises, or a figure
    that cannot be drawn, is named on the page and in a line on stderr. Raises OSError where the folder cannot be
    written, CompressitError where a link or the like stands in a file's place.
    """
    own = OwnFolder(folder)
    results.write_json(own.place("results.json"))
    results.write_csv(own.place("results.csv"))
    contents = _Contents()
    for report in reports:
        before = len(contents.problems)
        with seeded(Streams(0, report.name).number("report")):  # the same results give the same page
            _collect(report, results, own, contents)
        if found := contents.problems[before:]:
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            first = " ".join(found[0].split())
            sys.stderr.write(f"{first}{more}; see {folder / 'report.html'}\n")
    own.write("report.html", _page(results, contents).encode())


def _collect(report: Report[Any], results: Results, own: OwnFolder, contents: _Contents) -> None:
    try:
        contents.paragraphs += [str(paragraph) for paragraph in report.paragraphs(results)]
    except FOREIGN as error:  # somebody's report must not lose the others
        contents.problems.append(f"{report.name}: no paragraphs: {_reason(error)}")
    try:
        figures: Mapping[str, Any] = dict(report.figures(results))
    except FOREIGN as error:
        contents.problems.append(f"{report.name}: no figures: {_reason(error)}")
        return
    for name, figure in figures.items():
        try:
            contents.pictures.append(_draw(name, figure, own, contents.pictures))
        except FOREIGN as error:  # texts and layouts fail only when they are drawn
            contents.problems.append(f"{report.name}: figure '{name}' could not be drawn: {_reason(error)}")


def _draw(name: str, figure: Any, own: OwnFolder, before: Sequence[_Picture]) -> _Picture:
    """Saves a matplotlib Figure as PNG and SVG. Its label (`figure.set_label`) is its caption."""
    from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]

    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError("a figure's name is letters, digits, '_', '-' and '.'")
    caption = str(figure.get_label() or name.replace("_", " "))
    name = _free(name, {picture.name for picture in before})
    png, svg = io.BytesIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": "compressit"}):  # else ids in the SVG are random
        figure.savefig(png, format="png", dpi=DPI)
        figure.set_layout_engine("none")  # as it was laid out for the PNG: half the work
        figure.savefig(svg, format="svg", metadata={"Date": None})
    own.write(f"figures/{name}.png", png.getvalue())
    own.write(f"figures/{name}.svg", svg.getvalue())
    encoded = base64.b64encode(png.getvalue()).decode("ascii")
    used = sum(len(picture.source) for picture in before if picture.source)
    fits = used + len(encoded) <= PICTURE_BYTES * 4 / 3
    return _Picture(name, caption, f"data:image/png;base64,{encoded}" if fits else None)


def _free(name: str, taken: set[str]) -> str:
    """The name, or where another block has it, `name-2`, `name-3` …"""
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _reason(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return told(error) + where


def _page(results: Results, contents: _Contents) -> str:
    import jinja2

    source = resources.files("compressit").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = results.text
    if len(text) > TEXT_CHARACTERS:
        text = text[:TEXT_CHARACTERS] + "\n# … the rest is in results.json"
    return environment.from_string(source).render(
        results=results,
        contents=contents,
        warnings=results.warnings(),
        finished=not results.missing and not results.failures,
        planned=len(results.rows) + len(results.missing),
        summary=tables.over_seeds(results),
        table=tables.all_models(results),
        legend=tables.legend(results),
        noted=tables.noted(results),
        facts=list(tables.facts(results.about)),
        text=text,
    )
