"""The pictures that evaluators and stages gave, for the page: a grid of each name, with a picture for each model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from compressit.contract.pictures import is_png
from compressit.contract.results import Results, Row
from compressit.errors import CompressitError, sound

MOST_SHOWN = 60  # of one name, evenly chosen
CAPTION_CHARACTERS = 300
MARKUP = 1000  # characters around a picture


@dataclass(frozen=True)
class Shown:
    """One picture of a grid."""

    caption: str  # the model
    file: str  # relative to the page
    source: str | None  # a data: URL; None if the page is full and only links to the file


@dataclass(frozen=True)
class Gallery:
    """The pictures of one name."""

    name: str
    about: str
    count: int  # of models that have one
    pictures: Sequence[Shown]


def galleries_of(results: Results, room: int) -> tuple[list[Gallery], list[str]]:
    """The grids, and a line for each picture that cannot be read. `room`: characters that the page has for pictures."""
    names = dict.fromkeys(name for row in results.rows for name in row.pictures)
    found: list[Gallery] = []
    problems: list[str] = []
    for name in [
        *(n for n in results.records if n in names),
        *(n for n in names if n not in results.records),
    ]:
        rows = [row for row in results.rows if name in row.pictures]
        pictures: list[Shown] = []
        for row in _evenly(rows):
            try:
                shown = _shown(results, row, name, room)
            except (CompressitError, OSError) as error:
                problems.append(f"picture '{name}' of {_model(row)}: {error}")
                continue
            room -= len(shown.source or "") + MARKUP
            pictures.append(shown)
        about = str(results.records.get(name, {}).get("about") or "")
        found.append(Gallery(name, sound(about, CAPTION_CHARACTERS), len(rows), pictures))
    return found, problems


def _shown(results: Results, row: Row, name: str, room: int) -> Shown:
    png = results.picture(row, name)
    if not is_png(png):
        raise CompressitError("it is not a PNG file")
    source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    return Shown(_model(row), row.pictures[name].file, source if len(source) <= room else None)


def _model(row: Row) -> str:
    return sound(f"{row.variant}/seed{row.seed}/{row.name}", CAPTION_CHARACTERS)


def _evenly(rows: Sequence[Row]) -> list[Row]:
    last = len(rows) - 1
    if last < MOST_SHOWN:
        return list(rows)
    return [rows[round(i * last / (MOST_SHOWN - 1))] for i in range(MOST_SHOWN)]
