"""The numbers of a run's models that a figure draws or checks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from compressit import Results, Row
from compressit_plugins.figure.options import CurveReading, Rows, Take

DIVIDED = " / "


class Readings:
    """The rows of results, and their numbers."""

    def __init__(self, results: Results) -> None:
        self.results = results

    @cached_property
    def _cells(self) -> Mapping[int, Mapping[str, Any]]:
        return {id(row): cells for row, cells in zip(self.results.rows, self.results.table(), strict=True)}

    def rows(self, which: Rows) -> Sequence[Row]:
        """The rows that match, in their order."""
        return [
            row
            for row in self.results.rows
            if fnmatchcase(row.variant, which.variant)
            and fnmatchcase(row.stage, which.stage)
            and fnmatchcase(row.member, which.member)
            and which.round in (None, row.round)
        ]

    def number(self, row: Row, take: Take) -> float | None:
        """The number of a row; None if it has none; infinite for a value that a curve never reaches."""
        if isinstance(take, CurveReading):
            return _read(row.curves.get(take.curve) or (), take)
        if DIVIDED in take:
            above, below = (self.number(row, part) for part in take.split(DIVIDED, 1))
            return above / below if above is not None and below else None
        return plain(self.value(row, take))

    def value(self, row: Row, name: str) -> Any:
        """A column's value, or an option of the stage that made the model or of the nearest one before that has it."""
        if not name.startswith("with."):
            return self._cells[id(row)].get(name)
        for made in self.results.lineage(row):
            found = _at(made.options, name.split(".")[1:])
            if found is not None:
                return found
        return None


def _at(options: Mapping[str, Any], path: Sequence[str]) -> Any:
    found: Any = options
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def plain(value: Any) -> float | None:
    """A finite number, or that of a list of a single one, as the widths of one hidden layer are; None for others."""
    if isinstance(value, str) and (
        found := re.fullmatch(r"\[(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\]", value)
    ):  # a swept list, as JSON
        value = float(found[1])
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _read(points: Sequence[tuple[float, float]], take: CurveReading) -> float | None:
    known = [(x, y) for x, y in points if math.isfinite(y)]
    if not known:
        return None
    if take.reaches is not None:
        return next((x for x, y in known if y >= take.reaches), math.inf)
    if take.falls is not None:
        return next((x for x, y in known if y <= take.falls), math.inf)
    if take.at is not None:
        wanted = take.at
        return min(known, key=lambda point: abs(point[0] - wanted))[1]
    values = [y for _, y in known]
    return {"highest": max(values), "lowest": min(values), "first": values[0], "last": values[-1]}[
        str(take.read)
    ]
