"""The tables of the report page as plain values: all models, means over seeds, stage notes, facts about the run.

The page formats and sorts the numbers itself, so they are here as they are in results.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast
from urllib.parse import quote

from compressit.contract.results import ABOUT, PLACE, Results, Row
from compressit.errors import sound
from compressit.formatting import counted, number
from compressit.results.statistics import ANY, estimate

NUMBERS = 400_000  # characters of one table of numbers; results.csv always has every row
NOTES = 200_000  # characters of HTML for all notes; results.json always has the full notes
NOTE_CHARACTERS = 160
UNIT_CHARACTERS = 40
MOST_COLUMNS = 200
MOST_LINES = 200  # of failures, of warnings
ABOUT_CHARACTERS = 300  # of a metric's description
NOTE_ITEMS = 8  # of a list or a mapping

Item = TypeVar("Item")
Cell = str | int | float | list[int | float | None] | None
"""Text, a number, none; or the mean over seeds: [mean, deviation, low, high, n], see `statistics.estimate`."""


@dataclass(frozen=True)
class Column:
    """A column's name for people, the unit of its numbers ("link": paths below the page's folder), and its meaning."""

    label: str
    unit: str = ""
    about: str = ""


@dataclass(frozen=True)
class Table:
    """The first column names the row."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    left_out: int = 0  # rows
    columns_left_out: int = 0


@dataclass(frozen=True)
class Notes:
    """A table of text. The first column names the row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left_out: int = 0  # rows
    columns_left_out: int = 0


def all_models(results: Results) -> Table:
    """Every row of results.csv, with a link to the checkpoint. Omits empty columns, and the last rows if the table is
    too long for a page."""
    flat = results.table()
    columns, left_out = _measured(results, flat)
    rows: list[list[Cell]] = [
        [name, *(values[column] for column in columns), _finite(row.seconds), _link(row)]
        for row, name, values in zip(results.rows, names(results), flat, strict=True)
    ]
    ends = [Column("time", "seconds", "that making the model took"), Column("checkpoint", "link")]
    return _table([*_columns(results, columns), *ends], rows, left_out)


def over_seeds(results: Results) -> Table | None:
    """Mean, standard deviation and 95 % interval over seeds; None if there is only one seed."""
    flat = results.table()
    if len({values["seed"] for values in flat}) < 2:
        return None
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    shown: dict[tuple[str, str], str] = {}
    for row, name, values in zip(results.rows, names(results, seeds=False), flat, strict=True):
        groups.setdefault((row.variant, row.name), []).append(values)
        shown[row.variant, row.name] = name
    columns, left_out = _measured(results, flat)
    rows: list[list[Cell]] = [
        [shown[place], *(_over_seeds(results, column, members) for column in columns)]
        for place, members in groups.items()
    ]
    return _table(_columns(results, columns), rows, left_out)


def names(results: Results, seeds: bool = True) -> list[str]:
    """`real/seed0/blog-04` of each row, without what all rows share."""
    variants = len({row.variant for row in results.rows}) > 1
    seeds = seeds and len({row.seed for row in results.rows}) > 1
    parts = (
        [*([row.variant] if variants else []), *([f"seed{row.seed}"] if seeds else []), row.name]
        for row in results.rows
    )
    return [sound("/".join(part), NOTE_CHARACTERS) for part in parts]


def fitting(items: Sequence[Item], room: int) -> list[Item]:
    """The first items whose JSON fits into that many characters; at least one."""
    shown: list[Item] = []
    for item in items:
        room -= len(json.dumps(item)) + len(", ")
        if room < 0 and shown:
            break
        shown.append(item)
    return shown


def noted(results: Results) -> list[tuple[str, Notes]]:
    """The notes of each stage that are not in a column: one title and table per stage."""
    stages: dict[tuple[str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for row, name, values in zip(results.rows, names(results), results.table(), strict=True):
        if rest := {note: value for note, value in row.notes.items() if values.get(note) != value}:
            stages.setdefault((row.stage, row.uses), []).append((name, rest))
    tables: list[tuple[str, Notes]] = []
    room = NOTES
    for (stage, uses), members in stages.items():
        noted = list(dict.fromkeys(note for _, notes in members for note in notes))
        columns = noted[:MOST_COLUMNS]
        heads = [sound(column, NOTE_CHARACTERS) for column in columns]
        room -= sum(len(escape(head)) + len('<th scope="col"></th>') for head in heads)
        rows: list[list[str]] = []
        for name, notes in members:
            cells = [name, *(_noted(notes.get(column)) for column in columns)]
            room -= sum(len(escape(cell)) + len("<td></td>") for cell in cells)
            if room < 0:
                break
            rows.append(cells)
        title = f"{stage} ({uses}), {counted(len(members), 'model')}"
        left_out = len(members) - len(rows), len(noted) - len(columns)
        tables.append((title, Notes(["model", *heads], rows, *left_out)))
    return tables


def facts(about: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A run's facts as text, by name."""
    for name, value in about.items():
        if isinstance(value, Mapping):
            yield from facts(cast(Mapping[str, Any], value), f"{prefix}{name} ")
        elif isinstance(value, list | tuple):
            items = [_words(item) for item in cast(Sequence[Any], value)]
            yield f"{prefix}{name}", ("; " if any(", " in item for item in items) else ", ").join(items)
        elif (prefix, name) != ("", "command"):
            yield f"{prefix}{name}", number(value, "seconds" if name.endswith("seconds") else None)


def _words(value: object) -> str:
    """`host lab, cores 2, gpu none`."""
    if not isinstance(value, Mapping):
        return str(value)
    facts = cast(Mapping[str, Any], value)
    return ", ".join(f"{name} {'none' if fact in ('', None) else fact}" for name, fact in facts.items())


def _measured(results: Results, flat: Sequence[Mapping[str, Any]]) -> tuple[list[str], int]:
    """The non-empty columns, except those in the model's name, and how many are omitted as too many."""
    named = {*PLACE, *results.swept()}
    columns = [name for name in (flat[0] if flat else ()) if name not in named]
    filled = [name for name in columns if any(values[name] is not None for values in flat)]
    return filled[:MOST_COLUMNS], max(0, len(filled) - MOST_COLUMNS)


def _columns(results: Results, names: Sequence[str]) -> list[Column]:
    """The name of the row, and these columns of the results."""
    abouts = {name: sound(_about(results, name), ABOUT_CHARACTERS) for name in names}
    return [Column("model"), *(Column(_label(name), _unit(results, name), abouts[name]) for name in names)]


def _table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], columns_left_out: int) -> Table:
    shown = fitting(rows, NUMBERS)
    return Table(columns, shown, len(rows) - len(shown), columns_left_out)


def _over_seeds(results: Results, column: str, members: Sequence[Mapping[str, Any]]) -> Cell:
    values = [float(member[column]) for member in members if member[column] is not None]
    if len(values) == len(members) > 1 and len(set(values)) == 1:
        return values[0]  # sizes do not depend on the seed
    found = estimate(values, (0.0, 1.0) if _unit(results, column) == "fraction" else ANY)
    return [found.mean, found.deviation, found.low, found.high, found.n] if found else None


def _about(results: Results, column: str) -> str:
    metric = results.metrics.get(column)
    if metric is None:
        return ABOUT.get(column, "")
    better = {"higher": "higher is better", "lower": "lower is better"}.get(metric.get("better", ""))
    return "; ".join(text for text in (metric.get("about"), metric.get("unit"), better) if text)


def _noted(value: object) -> str:
    """A note as text; long lists and strings are shortened."""
    if isinstance(value, Mapping):
        pairs = cast(Mapping[str, Any], value).items()
        text = _some([f"{name}: {_noted(item)}" for name, item in islice(pairs, NOTE_ITEMS)], len(pairs))
    elif isinstance(value, list | tuple):
        items = cast(Sequence[Any], value)
        text = f"[{_some([_noted(item) for item in items[:NOTE_ITEMS]], len(items))}]"
    elif isinstance(value, bool):
        text = json.dumps(value)
    else:
        text = number(value)
    return text if len(text) <= NOTE_CHARACTERS else text[: NOTE_CHARACTERS - 1] + "…"


def _some(items: Sequence[str], count: int) -> str:
    return ", ".join([*items, f"… ({count} in all)"] if count > len(items) else items)


def _label(column: str) -> str:
    return sound(column.replace("_", " "), NOTE_CHARACTERS)


def _unit(results: Results, column: str) -> str:
    return sound(results.metrics.get(column, {}).get("unit") or "", UNIT_CHARACTERS)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _link(row: Row) -> str | None:
    """The checkpoint's address, if it is below the page's folder."""
    if not row.checkpoint:
        return None
    path = PurePosixPath(row.checkpoint)
    if path.is_absolute() or ".." in path.parts:
        return None
    return f"./{quote(row.checkpoint)}"  # "./": nothing but a path below
