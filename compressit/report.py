"""Lays out what a run found: results.json, results.csv, figures and one self-contained page.

Figures and words come from report plugins; one that raises is named on the page and loses nothing else.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import quote

from compressit.formatting import EMPTY, number
from compressit.kinds import Report
from compressit.results import ABOUT, COLUMNS, Results, Row
from compressit.spread import mean_and_deviation

DPI = 120
PICTURE_BYTES = 3_300_000  # of PNG in the page: 4.4 MB as base64, which leaves room below 5 MB for the rest
CELLS = 12_000  # of the page's tables; results.csv always has every row
CONFIG_CHARACTERS = 150_000
_PLACE = ("variant", "stage", "rung", "each")  # what a summary over seeds is grouped by


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


@dataclass(frozen=True)
class _Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[tuple[str, str | None]]]  # text and link of each cell
    left_out: int = 0  # rows


def render(results: Results, reports: Sequence[Report[Any]], folder: Path) -> None:
    """Writes results.json, results.csv, figures/*.png and *.svg and report.html (<= 5 MB) into `folder`.

    Each file is replaced atomically; the same results give the same bytes. A report that raises, or a figure
    that cannot be drawn, is named on the page. Raises OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results.write_json(folder / "results.json")
    results.write_csv(folder / "results.csv")
    contents = _Contents()
    for report in reports:
        _collect(report, results, folder / "figures", contents)
    _replace(folder / "report.html", _page(results, contents).encode())


def _collect(report: Report[Any], results: Results, folder: Path, contents: _Contents) -> None:
    try:
        contents.paragraphs += [str(paragraph) for paragraph in report.paragraphs(results)]
    except Exception as error:  # noqa: BLE001 - somebody's report must not lose the others
        contents.problems.append(f"{report.name}: no paragraphs: {_reason(error)}")
    try:
        figures: Mapping[str, Any] = dict(report.figures(results))
    except Exception as error:  # noqa: BLE001
        contents.problems.append(f"{report.name}: no figures: {_reason(error)}")
        return
    for name, figure in figures.items():
        try:
            contents.pictures.append(_draw(name, figure, folder, contents.pictures))
        except Exception as error:  # noqa: BLE001 - texts and layouts fail only when they are drawn
            contents.problems.append(f"{report.name}: figure '{name}' could not be drawn: {_reason(error)}")


def _draw(name: str, figure: Any, folder: Path, before: Sequence[_Picture]) -> _Picture:
    """Saves a matplotlib Figure as PNG and SVG. Its label (`figure.set_label`) is its caption."""
    from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]

    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError("a figure's name is letters, digits, '_', '-' and '.'")
    if name in {picture.name for picture in before}:
        raise ValueError("another report has a figure of that name")
    png, svg = io.BytesIO(), io.BytesIO()
    with rc_context({"svg.hashsalt": "compressit"}):  # else ids in the SVG are random
        figure.savefig(png, format="png", dpi=DPI)
        figure.set_layout_engine("none")  # as it was laid out for the PNG: half the work
        figure.savefig(svg, format="svg", metadata={"Date": None})
    folder.mkdir(exist_ok=True)
    _replace(folder / f"{name}.png", png.getvalue())
    _replace(folder / f"{name}.svg", svg.getvalue())
    encoded = base64.b64encode(png.getvalue()).decode("ascii")
    used = sum(len(picture.source) for picture in before if picture.source)
    fits = used + len(encoded) <= PICTURE_BYTES * 4 / 3
    caption = str(figure.get_label() or name.replace("_", " "))
    return _Picture(name, caption, f"data:image/png;base64,{encoded}" if fits else None)


def _reason(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _page(results: Results, contents: _Contents) -> str:
    import jinja2

    source = resources.files("compressit").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    config = json.dumps(results.config, indent=2, ensure_ascii=False, default=str) if results.config else ""
    if len(config) > CONFIG_CHARACTERS:
        config = config[:CONFIG_CHARACTERS] + "\n… the rest is in results.json"
    return environment.from_string(source).render(
        results=results,
        contents=contents,
        warnings=results.warnings(),
        finished=not results.missing and not results.failures,
        planned=len(results.rows) + len(results.missing),
        summary=_summary(results),
        table=_table(results),
        legend=_legend(results),
        facts=list(_facts(results.about)),
        command=results.about.get("command") or _command(results),
        config=config,
    )


def _table(results: Results) -> _Table:
    """Every row of results.csv with its link; columns without any value are left out, and so are the
    last rows of a table too long for a page."""
    flat = results.table()
    columns = _filled(flat, list(flat[0]) if flat else COLUMNS)
    shown = max(1, CELLS // (len(columns) + 2))
    rows = [
        [
            *((_cell(results, column, values[column]), None) for column in columns),
            (number(row.seconds, "seconds"), None),
            ("file" if row.checkpoint else EMPTY, _link(row)),
        ]
        for row, values in zip(results.rows[:shown], flat, strict=False)
    ]
    return _Table([*columns, "time", "checkpoint"], rows, left_out=max(0, len(flat) - shown))


def _summary(results: Results) -> _Table | None:
    """Mean ± standard deviation [95 % interval] (n) over seeds, where there are several."""
    flat = results.table()
    if len({values["seed"] for values in flat}) < 2:
        return None
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for values in flat:
        groups.setdefault(tuple(values[column] for column in _PLACE), []).append(values)
    places = _filled(flat, _PLACE)
    measured = _filled(flat, [column for column in flat[0] if column not in (*_PLACE, "seed")])
    rows = [
        [
            *((_cell(results, column, members[0][column]), None) for column in places),
            *((_over_seeds(results, column, members), None) for column in measured),
        ]
        for members in groups.values()
    ]
    shown = max(1, CELLS // (len(places) + len(measured)))
    return _Table([*places, *measured], rows[:shown], left_out=max(0, len(rows) - shown))


def _over_seeds(results: Results, column: str, members: Sequence[Mapping[str, Any]]) -> str:
    values = [member[column] for member in members if member[column] is not None]
    if len(values) == len(members) > 1 and len(set(values)) == 1:
        return _cell(results, column, values[0])  # sizes do not depend on the seed
    return mean_and_deviation([float(value) for value in values], _unit(results, column))


def _cell(results: Results, column: str, value: object) -> str:
    return (
        str(value)
        if column in ("rung", "seed") and value is not None
        else number(value, _unit(results, column))
    )


def _filled(flat: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> list[str]:
    return [column for column in columns if any(values[column] not in (None, "") for values in flat)]


def _unit(results: Results, column: str) -> str | None:
    return results.metrics.get(column, {}).get("unit")


def _link(row: Row) -> str | None:
    # "./" and quoting: a path can be nothing but a path below the folder the page lies in.
    if not row.checkpoint:
        return None
    path = PurePosixPath(row.checkpoint)
    return None if path.is_absolute() or ".." in path.parts else f"./{quote(row.checkpoint)}"


def _legend(results: Results) -> list[tuple[str, str]]:
    measured = {name for row in results.rows for name in row.metrics}
    legend = [(name, ABOUT[name]) for name in _filled(results.table(), ABOUT)]
    for name in sorted(measured & set(results.metrics)):
        metric = results.metrics[name]
        better = {"higher": "higher is better", "lower": "lower is better"}.get(metric.get("better", ""), "")
        legend.append(
            (name, "; ".join(text for text in (metric.get("about"), metric.get("unit"), better) if text))
        )
    return legend


def _facts(about: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in about.items():
        if isinstance(value, Mapping):
            yield from _facts(cast(Mapping[str, Any], value), f"{prefix}{name} ")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(map(str, cast(Sequence[Any], value)))
        elif (prefix, name) != ("", "command"):
            yield f"{prefix}{name}", number(value, "seconds" if name == "seconds" else None)


def _command(results: Results) -> str:
    profile = f" --profile {results.profile}" if results.profile else ""
    return f"compressit run {results.recipe}.yaml{profile}"


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # two runs may fill one folder
    temporary.write_bytes(content)
    temporary.replace(path)
