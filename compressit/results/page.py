"""Writes a run's results: results.json, results.csv, figures and one self-contained page.

Figures, tables and paragraphs come from report plugins, each in its own process (`forked`). If one fails in any way,
the page names it, and the rest is complete. Curves and pictures of evaluators need no report plugin.
"""

from __future__ import annotations

import base64
import io
import re
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from compressit.config import NoOptions
from compressit.contract.kinds import Report, Table
from compressit.contract.results import Results
from compressit.errors import sound, told
from compressit.files.ownfolder import OwnFolder
from compressit.processes.forked import Ended, asked
from compressit.results.curves import Curves, drawn
from compressit.results.document import Document, Picture, Told
from compressit.results.gallery import galleries_of
from compressit.seeds import Streams, seeded

DPI = 120
PAGE_BYTES = 5_000_000
CAPTIONS = 60_000  # of these for the markup around pictures
TEXT_CHARACTERS = 5000  # of a paragraph or a caption
MOST_PARAGRAPHS = 1000  # of one report
MOST_TABLES = 20  # of one report
MOST_CELLS = 2000  # of one table
CELL_CHARACTERS = 500
LIMIT = 300.0  # seconds for one report, so that a hanging plugin does not block the page

Asked = tuple[str, Callable[[], Report[Any]]]
"""A report plugin's name and constructor, which is called in the report's own process."""


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
    told_by: list[Told] = []
    problems: list[str] = []
    failed: list[str] = []
    taken: set[str] = set()
    for name, make in (*reports, *own_figures):
        try:
            given: dict[str, Any] = asked(partial(_collect, name, make, results), limit)
        except Ended as error:
            given = {"paragraphs": [], "tables": [], "pictures": [], "problems": [f"{name}: {error}"]}
        tables = [Table(**table) for table in given["tables"]]
        pictures = [_keep(picture, own, taken) for picture in given["pictures"]]
        if name == Curves.name:  # the page draws them itself, from the numbers
            pictures = [replace(picture, source=None) for picture in pictures]
        if given["paragraphs"] or tables or pictures:
            told_by.append(Told(name, given["paragraphs"], tables, pictures))
        if found := given["problems"]:
            problems += found
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            failed.append(f"{' '.join(found[0].split())}{more}; see {folder / 'report.html'}")
    text, missing = _page(results, told_by, problems)
    own.write("report.html", text.encode())
    return failed + missing


def document(results: Results) -> str:
    """The page of these results alone, without report plugins, as one self-contained HTML text (<= 5 MB). Pictures of
    the results are read from their folder."""
    return _page(results, [], [])[0]


def _page(results: Results, told_by: Sequence[Told], problems: Sequence[str]) -> tuple[str, list[str]]:
    """The page, with as many pictures as it has room for, and a line for each that cannot be read."""
    page = Document(results)
    bare = [replace(by, pictures=[replace(p, source=None) for p in by.pictures]) for by in told_by]
    room = PAGE_BYTES - CAPTIONS - len(page.html(bare, [], problems).encode())
    shown: list[Told] = []
    for by in told_by:
        pictures: list[Picture] = []
        for picture in by.pictures:
            fits = picture.source is not None and len(picture.source) <= room
            pictures.append(picture if fits else replace(picture, source=None))
            room -= len(picture.source or "") if fits else 0
        shown.append(replace(by, pictures=pictures))
    galleries, missing = galleries_of(results, room) if results.folder is not None else ([], [])
    return page.html(shown, galleries, [*problems, *missing]), missing


def _collect(name: str, make: Callable[[], Report[Any]], results: Results) -> dict[str, list[Any]]:
    """A report's paragraphs, tables, pictures and problems, as JSON values. Runs in its own process."""
    paragraphs: list[str] = []
    tables: list[dict[str, Any]] = []
    pictures: list[dict[str, str]] = []
    problems: list[str] = []
    figures: Mapping[Any, Any] = {}
    # the same results give the same page
    with seeded(Streams(0, name).number("report")), _noting(problems, name):
        report = make()
        with _noting(problems, f"{name}: no paragraphs"):
            paragraphs = _texts(report.paragraphs(results))
        with _noting(problems, f"{name}: no tables"):
            tables = [_table(table) for table in islice(report.tables(results), MOST_TABLES)]
        with _noting(problems, f"{name}: no figures"):
            figures = dict(report.figures(results))
        for file, figure in figures.items():  # errors in texts and layouts only appear when drawing
            with _noting(problems, f"{name}: figure '{sound(str(file), 100)}' cannot be drawn"):
                pictures.append(_draw(file, figure))
    return {"paragraphs": paragraphs, "tables": tables, "pictures": pictures, "problems": problems}


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


def _table(table: Any) -> dict[str, Any]:
    if not isinstance(table, Table):
        raise TypeError(f"a table is a {type(table).__name__}, not a compressit.Table")
    head = [sound(str(cell), CELL_CHARACTERS) for cell in table.head]
    kept = islice(table.rows, MOST_CELLS // max(len(head), 1))
    rows = [[sound(str(cell), CELL_CHARACTERS) for cell in row] for row in kept]
    wrong = next((row for row in rows if len(row) != len(head)), None)
    if wrong is not None:
        raise ValueError(f"a row of a table has {len(wrong)} cells, and its head {len(head)}")
    return {"caption": sound(str(table.caption), TEXT_CHARACTERS), "head": head, "rows": rows}


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


def _keep(picture: Mapping[str, str], own: OwnFolder, taken: set[str]) -> Picture:
    """Writes a figure's files, under a name that no other has."""
    numbered = chain([picture["name"]], (f"{picture['name']}-{number}" for number in count(2)))
    name = next(name for name in numbered if name not in taken)
    taken.add(name)
    for kind in ("png", "svg"):
        own.write(f"figures/{name}.{kind}", base64.b64decode(picture[kind]))
    return Picture(name, picture["caption"], f"data:image/png;base64,{picture['png']}")
