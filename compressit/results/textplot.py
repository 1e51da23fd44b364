"""A scatter of a comparison for a terminal: a letter for each model, a bar for its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

from compressit.formatting import SPACE, number
from compressit.printable import line
from compressit.results.analysis import Analysis
from compressit.results.entries import ORIGINAL, Entry

WIDTH = 100  # characters, with the axis
HEIGHT = 16  # lines of the plot's inside
MARGIN = 12  # of the axis on the left


@dataclass(frozen=True)
class _Point:
    letter: str
    name: str
    x: float
    y: float
    low: float
    high: float


def text_plot(analysis: Analysis, cost: str | None = None) -> str:
    """The compared metric against a cost (`main_cost` by default), with 95 % intervals. Capital letters are strategies,
    small ones controls, `O` is the original; points of equal cost stand side by side. Empty if there are no two
    points."""
    paid = analysis.cost_named(cost) if cost else analysis.main_cost
    if paid is None or analysis.metric is None:
        return ""
    points = list(_points(analysis, paid, analysis.metric))
    if len(points) < 2:
        return ""
    least, most = min(p.y for p in points), max(p.y for p in points)
    reach = (most - least) or math.inf  # wider intervals, as of two seeds, are cut
    bottom = max(min(p.low for p in points), least - reach)
    top = min(max(p.high for p in points), most + reach)
    grid = [[" "] * (WIDTH - MARGIN - 1) for _ in range(HEIGHT)]

    def row(y: float) -> int:
        share = (top - y) / (top - bottom) if top > bottom else 0.5
        return round((HEIGHT - 1) * min(max(share, 0.0), 1.0))

    for point, column in _columns(points, len(grid[0])):
        for at in range(row(point.high), row(point.low) + 1):
            grid[at][column] = "|" if grid[at][column] == " " else grid[at][column]
        grid[row(point.y)][column] = point.letter
    unit = analysis.results.metrics.get(analysis.metric, {}).get("unit")
    labels = {0: top, HEIGHT - 1: bottom} if top > bottom else {HEIGHT // 2: top}
    shown = {at: number(y, unit).replace(SPACE, " ") for at, y in labels.items()}
    body = [f"{shown.get(at, ''):>{MARGIN - 1}} |{''.join(cells).rstrip()}" for at, cells in enumerate(grid)]
    left, right = (_amount(analysis, paid, end([p.x for p in points])) for end in (min, max))
    middle = f"{paid}{' (log)' if _wide(points) else ''}"
    inside = WIDTH - MARGIN - len(left) - len(right)
    axis = " " * MARGIN + "+" + "-" * (WIDTH - MARGIN - 1)
    below = " " * MARGIN + left + middle.center(inside) + right
    legend = [f"{point.letter} {line(point.name)}" for point in points]
    return "\n".join([line(analysis.metric), *body, axis, below, *_wrapped(legend)])


def _points(analysis: Analysis, cost: str, metric: str) -> Iterator[_Point]:
    letters = {"": iter(ascii_uppercase.replace("O", "")), "control": iter(ascii_lowercase)}
    for entry in (*analysis.originals, *analysis.entries):
        x, y = analysis.estimate(entry, cost), analysis.estimate(entry, metric)
        if x is None or y is None:
            continue
        low, high = (y.mean if y.low is None else y.low), (y.mean if y.high is None else y.high)
        letter = "O" if entry.control == ORIGINAL else next(letters[_kind(entry)], "+")
        yield _Point(letter, entry.name, x.mean, y.mean, low, high)


def _kind(entry: Entry) -> str:
    return "control" if entry.control else ""


def _columns(points: Sequence[_Point], width: int) -> Iterator[tuple[_Point, int]]:
    """Each point with its column: the nearest free one to the right, else to the left."""
    scale = math.log if _wide(points) else float
    xs = [scale(point.x) for point in points]
    first, span = min(xs), max(xs) - min(xs)
    taken: set[int] = set()
    for x, point in zip(xs, points, strict=True):
        wanted = 1 + round((width - 3) * ((x - first) / span if span else 0.5))
        right, left = range(wanted, width), range(wanted, -1, -1)
        column = next((at for at in (*right, *left) if not taken & {at - 1, at, at + 1}), wanted)
        taken.add(column)
        yield point, column


def _wide(points: Sequence[_Point]) -> bool:
    """Whether the cost spans a factor of ten or more: then its axis is logarithmic."""
    xs = [point.x for point in points]
    return min(xs) > 0 and max(xs) >= 10 * min(xs)


def _amount(analysis: Analysis, cost: str, value: float) -> str:
    return number(value, analysis.results.metrics.get(cost, {}).get("unit")).replace(SPACE, " ")


def _wrapped(items: Sequence[str]) -> list[str]:
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) + 3 > WIDTH:
            lines.append("")
        lines[-1] += ("   " if lines[-1] else "") + item
    return lines
