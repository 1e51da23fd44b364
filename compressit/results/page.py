"""Writes a run's results: results.json, results.csv, figures and one self-contained page.

Figures and paragraphs come from report plugins, each in its own process (`forked`). If one fails in any way, the page
names it, and the rest is complete. Curves and pictures of evaluators need no report plugin.
"""

from __future__ import annotations

import base64
import io
import re
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from compressit.config import NoOptions
from compressit.contract.kinds import Report
from compressit.contract.results import Results
from compressit.errors import sound, told
from compressit.files.ownfolder import OwnFolder
from compressit.printable import block
from compressit.processes.forked import Ended, asked
from compressit.results import tables
from compressit.results.curves import Curves, drawn
from compressit.results.gallery import Gallery, galleries_of
from compressit.seeds import Streams, seeded

DPI = 120
PICTURE_BYTES = 3_150_000  # of PNG in the page: 4.2 MB as base64, to keep the whole page below 5 MB
RECIPE_CHARACTERS = 100_000
TEXT_CHARACTERS = 5000  # of a paragraph or a caption
MOST_PARAGRAPHS = 1000  # of one report
LIMIT = 300.0  # seconds for one report, so that a hanging plugin does not block the page

Asked = tuple[str, Callable[[], Report[Any]]]
"""A report plugin's name and constructor, which is called in the report's own process."""


@dataclass(frozen=True)
class _Picture:
    name: str
    caption: str
    source: str | None  # a data: URL, or None if the page is full and only links to the file


def render(results: Results, reports: Sequence[Asked], folder: Path, limit: float = LIMIT) -> list[str]:
    """Writes results.json, results.csv, figures/*.png and *.svg and report.html (<= 5 MB) into `folder`.

    Each file is replaced atomically; the same results give the same bytes. Returns one line per incomplete report,
    which the page also lists: a report that raises, exits or hangs (more than `limit` seconds), or has a figure that
    cannot be drawn; a picture of the results that is missing from `folder`. Raises OSError if the folder is not
    writable, CompressitError if a link or the like is in a file's place.
    """
    own = OwnFolder(folder)
    results.write_json(own.place("results.json"))
    results.write_csv(own.place("results.csv"))
    results = replace(results, folder=folder)
    own_figures: list[Asked] = [(Curves.name, lambda: Curves(NoOptions()))] if drawn(results) else []
    paragraphs: list[str] = []
    pictures: list[_Picture] = []
    problems: list[str] = []
    failed: list[str] = []
    for name, make in (*reports, *own_figures):
        try:
            given: dict[str, Any] = asked(partial(_collect, name, make, results), limit)
        except Ended as error:
            given = {"paragraphs": [], "pictures": [], "problems": [f"{name}: {error}"]}
        paragraphs += given["paragraphs"]
        for picture in given["pictures"]:
            pictures.append(_keep(picture, own, pictures))
        if found := given["problems"]:
            problems += found
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            failed.append(f"{' '.join(found[0].split())}{more}; see {folder / 'report.html'}")
    room = PICTURE_BYTES * 4 // 3 - sum(len(picture.source) for picture in pictures if picture.source)
    galleries, missing = galleries_of(results, room)
    failed += missing
    problems += missing
    own.write("report.html", _page(results, paragraphs, pictures, galleries, problems).encode())
    return failed


def document(results: Results) -> str:
    """The page alone, as one self-contained HTML file; without the figures of report plugins."""
    galleries, missing = galleries_of(results, PICTURE_BYTES * 4 // 3)
    return _page(results, [], [], galleries, missing)


def _collect(name: str, make: Callable[[], Report[Any]], results: Results) -> dict[str, list[Any]]:
    """A report's paragraphs, pictures and problems, as JSON values. Runs in its own process."""
    paragraphs: list[str] = []
    pictures: list[dict[str, str]] = []
    problems: list[str] = []
    figures: Mapping[Any, Any] = {}
    # the same results give the same page
    with seeded(Streams(0, name).number("report")), _noting(problems, name):
        report = make()
        with _noting(problems, f"{name}: no paragraphs"):
            paragraphs = _texts(report.paragraphs(results))
        with _noting(problems, f"{name}: no figures"):
            figures = dict(report.figures(results))
        for file, figure in figures.items():  # errors in texts and layouts only appear when drawing
            with _noting(problems, f"{name}: figure '{sound(str(file), 100)}' cannot be drawn"):
                pictures.append(_draw(file, figure))
    return {"paragraphs": paragraphs, "pictures": pictures, "problems": problems}


@contextmanager
def _noting(problems: list[str], what: str) -> Generator[None]:
    """A block that adds any exception of plugin code to `problems`."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001
        frames = traceback.extract_tb(error.__traceback__)
        where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        problems.append(f"{what}: {told(error)}{where}")


def _texts(paragraphs: Any) -> list[str]:
    if isinstance(paragraphs, str):
        raise TypeError("paragraphs must be a list of strings, not one string")
    return [sound(str(paragraph), TEXT_CHARACTERS) for paragraph in islice(paragraphs, MOST_PARAGRAPHS)]


def _draw(name: Any, figure: Any) -> dict[str, str]:
    """Draws a matplotlib Figure as PNG and SVG. Its label (`figure.set_label`) is the caption."""
    from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]

    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name) or len(name.encode()) > 100:
        raise ValueError("a figure's name may have letters, digits, '_', '-' and '.', and at most 100 bytes")
    caption = str(figure.get_label() or name.replace("_", " "))
    png, svg = io.BytesIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": "compressit"}):  # otherwise ids in the SVG are random
        figure.savefig(png, format="png", dpi=DPI)
        figure.set_layout_engine("none")  # reuse the PNG's layout, which halves the work
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return {
        "name": name,
        "caption": sound(caption, TEXT_CHARACTERS),
        "png": base64.b64encode(png.getvalue()).decode("ascii"),
        "svg": base64.b64encode(svg.getvalue()).decode("ascii"),
    }


def _keep(picture: Mapping[str, str], own: OwnFolder, before: Sequence[_Picture]) -> _Picture:
    taken = {picture.name for picture in before}
    numbered = chain([picture["name"]], (f"{picture['name']}-{number}" for number in count(2)))
    name = next(name for name in numbered if name not in taken)
    for kind in ("png", "svg"):
        own.write(f"figures/{name}.{kind}", base64.b64decode(picture[kind]))
    used = sum(len(picture.source) for picture in before if picture.source)
    fits = used + len(picture["png"]) <= PICTURE_BYTES * 4 / 3
    return _Picture(name, picture["caption"], f"data:image/png;base64,{picture['png']}" if fits else None)


def _page(
    results: Results,
    paragraphs: Sequence[str],
    pictures: Sequence[_Picture],
    galleries: Sequence[Gallery],
    problems: Sequence[str],
) -> str:
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("compressit.results"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # escapes control characters in everything inserted into the page
        finalize=lambda value: value if isinstance(value, Markup) else block(value),
    )
    text = results.text
    if len(text) > RECIPE_CHARACTERS:
        text = text[:RECIPE_CHARACTERS] + "\n# … the rest is in results.json"
    return environment.get_template("report.html.j2").render(
        results=results,
        paragraphs=paragraphs,
        pictures=pictures,
        galleries=galleries,
        problems=problems,
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
