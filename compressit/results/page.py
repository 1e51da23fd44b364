"""Lays out what a run found: results.json, results.csv, figures and one self-contained page.

Figures and words come from report plugins, each asked in a process of its own (`apart`): one that fails, in whatever
way, is named on the page and loses nothing else.
"""

from __future__ import annotations

import base64
import io
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from compressit.contract.kinds import Report
from compressit.contract.results import Results
from compressit.errors import sound, told
from compressit.files.ownfolder import OwnFolder
from compressit.printable import block
from compressit.processes.apart import Ended, asked
from compressit.results import tables
from compressit.seeds import Streams, seeded

DPI = 120
PICTURE_BYTES = 3_150_000  # of PNG in the page: 4.2 MB as base64, which leaves room below 5 MB for the rest
RECIPE_CHARACTERS = 100_000


TEXT_CHARACTERS = 5000  # of a paragraph or a caption
MOST_PARAGRAPHS = 1000  # of one report
LIMIT = 300.0  # seconds for one report: a plugin that hangs does not keep the others' page

Asked = tuple[str, Callable[[], Report[Any]]]
"""A report plugin's name, and what makes it: its constructor is somebody's code too."""


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


def render(results: Results, reports: Sequence[Asked], folder: Path, limit: float = LIMIT) -> list[str]:
    """Writes results.json, results.csv, figures/*.png and *.svg and report.html (<= 5 MB) into `folder`.

    Each file is replaced atomically; the same results give the same bytes. Returns a line for each report that is not
    whole, which the page names too: one that raises, ends or hangs (more than `limit` seconds), and one of whose
    figures cannot be drawn. Raises OSError where the folder cannot be written, CompressitError where a link or the
    like stands in a file's place.
    """
    own = OwnFolder(folder)
    results.write_json(own.place("results.json"))
    results.write_csv(own.place("results.csv"))
    contents = _Contents()
    failed: list[str] = []
    for name, make in reports:
        try:
            given: dict[str, Any] = asked(partial(_collect, name, make, results), limit)
        except Ended as error:
            given = {"problems": [f"{name}: {error}"]}
        for picture in given.get("pictures", ()):
            contents.pictures.append(_keep(picture, own, contents.pictures))
        contents.paragraphs += given.get("paragraphs", ())
        if found := given["problems"]:
            contents.problems += found
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            failed.append(f"{' '.join(found[0].split())}{more}; see {folder / 'report.html'}")
    own.write("report.html", _page(results, contents).encode())
    return failed


def _collect(name: str, make: Callable[[], Report[Any]], results: Results) -> dict[str, Any]:
    """What a report has to say and show, as JSON values. In a process of its own."""
    given: dict[str, Any] = {"paragraphs": [], "pictures": [], "problems": []}
    with seeded(Streams(0, name).number("report")):  # the same results give the same page
        try:
            report = make()
        except BaseException as error:  # noqa: BLE001 - whatever it raises
            return {"problems": [f"{name}: {_reason(error)}"]}
        try:
            given["paragraphs"] = _texts(report.paragraphs(results))
        except BaseException as error:  # noqa: BLE001
            given["problems"].append(f"{name}: no paragraphs: {_reason(error)}")
        try:
            figures: Mapping[str, Any] = dict(report.figures(results))
        except BaseException as error:  # noqa: BLE001
            given["problems"].append(f"{name}: no figures: {_reason(error)}")
            return given
        for file, figure in figures.items():
            try:
                given["pictures"].append(_draw(file, figure))
            except BaseException as error:  # noqa: BLE001 - texts and layouts fail only when they are drawn
                which = f"figure '{sound(str(file), 100)}'"
                given["problems"].append(f"{name}: {which} could not be drawn: {_reason(error)}")
    return given


def _texts(paragraphs: Any) -> list[str]:
    if isinstance(paragraphs, str):
        raise TypeError("paragraphs are a list of texts, not one text")
    return [sound(str(paragraph), TEXT_CHARACTERS) for paragraph in islice(paragraphs, MOST_PARAGRAPHS)]


def _draw(name: Any, figure: Any) -> dict[str, str]:
    """A matplotlib Figure as PNG and SVG. Its label (`figure.set_label`) is its caption."""
    from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]

    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name) or len(name.encode()) > 100:
        raise ValueError("a figure's name is letters, digits, '_', '-' and '.', 100 bytes at most")
    caption = str(figure.get_label() or name.replace("_", " "))
    png, svg = io.BytesIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": "compressit"}):  # else ids in the SVG are random
        figure.savefig(png, format="png", dpi=DPI)
        figure.set_layout_engine("none")  # as it was laid out for the PNG: half the work
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return {
        "name": name,
        "caption": sound(caption, TEXT_CHARACTERS),
        "png": base64.b64encode(png.getvalue()).decode("ascii"),
        "svg": base64.b64encode(svg.getvalue()).decode("ascii"),
    }


def _keep(picture: Mapping[str, str], own: OwnFolder, before: Sequence[_Picture]) -> _Picture:
    name = _free(picture["name"], {picture.name for picture in before})
    for kind in ("png", "svg"):
        own.write(f"figures/{name}.{kind}", base64.b64decode(picture[kind]))
    used = sum(len(picture.source) for picture in before if picture.source)
    fits = used + len(picture["png"]) <= PICTURE_BYTES * 4 / 3
    return _Picture(name, picture["caption"], f"data:image/png;base64,{picture['png']}" if fits else None)


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
    from markupsafe import Markup

    def shown(value: Any) -> Any:  # whatever comes into the page, as a terminal would show it
        return value if isinstance(value, Markup) else block(value)

    source = (
        resources.files("compressit").joinpath("results/templates/report.html.j2").read_text(encoding="utf-8")
    )
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    text = results.text
    if len(text) > RECIPE_CHARACTERS:
        text = text[:RECIPE_CHARACTERS] + "\n# … the rest is in results.json"
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
        most_lines=tables.MOST_LINES,
    )
