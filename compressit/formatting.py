"""Formats numbers for people: percent, thin separators, '–' for an empty value."""

from __future__ import annotations

import math

EMPTY = "–"
SPACE = "\u202f"  # narrow and non-breaking: between groups of digits, and between a number and its unit


def number(value: object, unit: str | None = None) -> str:
    """One value for a table cell. `unit` as in `Metric.unit`. None gives an empty cell; text is not changed."""
    if value is None or value == "":
        return EMPTY
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "not a number")
    if unit == "fraction":
        return percent(value, 2)
    if unit == "bits":
        return f"{value:.2f}"
    if unit == "seconds":
        return duration(value)
    return grouped(value)


def percent(fraction: float, decimals: int = 1) -> str:
    """A fraction as percent. Adds decimals rather than round a value below 100 % up to it, or above 0 % down to it."""
    while decimals < 6 and round(100 * fraction, decimals) in (0.0, 100.0) and fraction not in (0.0, 1.0):
        decimals += 1
    return f"{100 * fraction:.{decimals}f}{SPACE}%"


def grouped(value: float) -> str:
    """Whole numbers in groups of three digits, others with four significant digits."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", SPACE)
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """`1.23 ms`, `4.1 s`, `3 min 20 s`, `2 h 05 min`; negative times give `0 s`."""
    seconds = max(seconds, 0)
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def counted(number: int, noun: str) -> str:
    """`1 variant`, `2 variants`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
