"""A comparison in a terminal, at most 100 columns wide, and in a notebook."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import chain
from typing import Any

from compressit.errors import CompressitError
from compressit.formatting import EMPTY, SPACE, number
from compressit.printable import block, line
from compressit.results.analysis import Analysis
from compressit.results.entries import ORIGINAL
from compressit.results.notes import notes

WIDTH = 100
LONGEST_NAME = 24
MOST_ROWS = 60  # of strategies, and of controls
MOST_PAIRS = 6  # of models that are compared example by example

Row = Mapping[str, Any]


def text(rows: Sequence[Row], analysis: Analysis) -> str:
    """The table, then what it does not say."""
    return "\n\n".join([grid(rows, analysis), *(["\n".join(told)] if (told := sentences(analysis)) else [])])


def sentences(analysis: Analysis) -> list[str]:
    """How to read the table, and the notes; broken into lines."""
    return [textwrap.fill(line(said), WIDTH) for said in (*_legend(analysis), *said_of(analysis))]


def grid(rows: Sequence[Row], analysis: Analysis) -> str:
    """The table with intervals, controls below strategies."""
    if not rows:
        return "nothing to compare: no model was made of a dense one"
    columns = _columns(rows, analysis)
    heads, parts = list(columns), _parts(rows)
    cells = [[_cells(row, columns) for row in part[:MOST_ROWS]] for part in parts]
    widths = [max(len(row[i]) for row in (heads, *chain(*cells))) for i in range(len(heads))]
    kept = _fitting(widths)
    lines = [_aligned(heads, widths, kept)]
    for part, shown in zip(parts, cells, strict=True):
        if part and part[0]["control"] not in ("", ORIGINAL):
            lines.append("controls:")
        lines += [_aligned(row, widths, kept) for row in shown]
        if len(part) > len(shown):
            lines.append(f"… and {len(part) - len(shown):,} more: table() has all")
    return "\n".join(row.rstrip() for row in lines)


def html(rows: Sequence[Row], analysis: Analysis) -> str:
    """The same table and sentences as HTML, escaped."""
    if not rows:
        return f"<p>{escape(text(rows, analysis))}</p>"
    columns = _columns(rows, analysis)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body: list[str] = []
    for part in _parts(rows):
        if part and part[0]["control"] not in ("", ORIGINAL):
            body.append(f'<tr><th colspan="{len(columns)}" scope="rowgroup">controls</th></tr>')
        for row in part[:MOST_ROWS]:
            cells = _cells(row, columns)
            body.append(
                f"<tr>{''.join(f'<td>{escape(cell.strip())}</td>' for cell in map(block, cells))}</tr>"
            )
        if len(part) > MOST_ROWS:
            body.append(
                f'<tr><td colspan="{len(columns)}">… and {len(part) - MOST_ROWS:,} more: table() has all</td></tr>'
            )
    told = [block(said) for said in (*_legend(analysis), *said_of(analysis))]
    items = "".join(f"<li>{escape(said)}</li>" for said in told)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table><ul>{items}</ul>"


def said_of(analysis: Analysis) -> Iterator[str]:
    """The notes; with one seed also what a test of single examples can say."""
    yield from notes(analysis)
    if len({seed for entry in analysis.entries for seed in entry.rows}) != 1:
        return
    for entry in analysis.strategies[:MOST_PAIRS]:
        try:
            found = analysis.examples(entry)
        except CompressitError as error:
            yield f"Models cannot be compared example by example: {error.message}."
            return
        if found is not None:
            yield (
                f"Of {found.n:,} test examples the original alone is right in {found.first:,}, '{entry.name}' alone in "
                f"{found.second:,} (McNemar's p = {found.p:.2g}: about these two models and these examples only)."
            )


def _columns(rows: Sequence[Row], analysis: Analysis) -> dict[str, Any]:
    """The head of each column with what makes its cell, the most important first."""
    metric = analysis.metric
    unit = analysis.results.metrics.get(metric or "", {}).get("unit")
    found: dict[str, Any] = {"strategy": lambda row: _short(row["strategy"])}
    found["seeds"] = lambda row: str(row["seeds"])
    if metric is not None:
        found[metric + _percent(unit)] = lambda row: _interval(row, metric, unit)
        found["change" + _percent(unit)] = lambda row: _interval(row, "change", unit, "+")
        found["verdict"] = _verdict
    if analysis.budget:
        found["budget"] = lambda row: {True: "kept", False: "missed"}.get(row["within_budget"], EMPTY)
    main, units = analysis.main_cost, analysis.results.metrics
    costs = sorted(analysis.costs, key=lambda cost: (cost != main, units[cost].get("unit") != "seconds"))
    for cost in costs:
        if cost == main or any((row[f"{cost}_ratio"] or 1) != 1 for row in rows):
            found[_plain(cost)] = lambda row, key=f"{cost}_ratio": _times(row[key])
    found["epochs"] = lambda row: number(row["epochs"])
    return {head: make for head, make in found.items() if any(make(row) != EMPTY for row in rows)}


def _legend(analysis: Analysis) -> Iterator[str]:
    if analysis.metric is None:
        return
    said = ["change: from the original", "costs: how many times less than the original", "* on the front"]
    if any(len(entry.rows) > 1 for entry in analysis.entries):
        against = "the original" if analysis.baseline == ORIGINAL else f"'{analysis.baseline}'"
        said[:0] = [
            "[low, high]: 95 % interval over seeds",
            f"verdict: against {against}, corrected for the number of tests",
        ]
    yield "; ".join(said) + "."


def _parts(rows: Sequence[Row]) -> list[list[Row]]:
    """Originals and strategies; controls."""
    controls = [row for row in rows if row["control"] not in ("", ORIGINAL)]
    return [[row for row in rows if row["control"] in ("", ORIGINAL)], controls]


def _cells(row: Row, columns: Mapping[str, Any]) -> list[str]:
    first, *rest = [str(make(row)).replace(SPACE, " ") for make in columns.values()]
    return [first + (" *" if row["pareto"] else ""), *rest]


def _aligned(cells: Sequence[str], widths: Sequence[int], kept: Sequence[int]) -> str:
    """The first column to the left, the others to the right."""
    return "  ".join(cells[i].ljust(widths[i]) if i == 0 else cells[i].rjust(widths[i]) for i in kept)


def _fitting(widths: Sequence[int]) -> list[int]:
    """As many columns as fit."""
    kept: list[int] = []
    for index, width in enumerate(widths):
        if sum(widths[i] + 2 for i in kept) + width <= WIDTH:
            kept.append(index)
    return kept


def _interval(row: Row, name: str, unit: str | None, sign: str = "") -> str:
    """`95.20 [94.43, 95.97]`; of fractions in percent."""
    mean, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if mean is None:
        return EMPTY
    if low is None or high is None:
        return _value(mean, unit, sign)
    return f"{_value(mean, unit, sign)} [{_value(low, unit, sign)}, {_value(high, unit, sign)}]"


def _value(value: float, unit: str | None, sign: str) -> str:
    return f"{100 * value:{sign}.2f}" if unit == "fraction" else f"{value:{sign}.4g}"


def _verdict(row: Row) -> str:
    if row["significant"]:
        return "better" if row["better"] else "worse"
    return "unclear" if row["significant"] is False else EMPTY


def _times(ratio: float | None) -> str:
    if ratio is None:
        return EMPTY
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def _percent(unit: str | None) -> str:
    return " (%)" if unit == "fraction" else ""


def _plain(cost: str) -> str:
    return cost.removesuffix("_seconds").removesuffix("_median")


def _short(name: str) -> str:
    """The name, or its beginning and end."""
    shown = line(name)
    half = LONGEST_NAME // 2
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:half]}…{shown[1 - half :]}"
