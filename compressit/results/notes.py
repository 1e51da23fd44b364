"""What to know before believing a comparison, in a few plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compressit.formatting import number
from compressit.results.analysis import MAX_DROP, Analysis
from compressit.results.entries import ORIGINAL
from compressit.results.verdicts import Verdict

MOST_NAMES = 4  # in a sentence


def notes(analysis: Analysis) -> Iterator[str]:
    """Sentences for people, the most important first."""
    if analysis.results.missing:
        yield f"The run is not finished: {len(analysis.results.missing)} of its models are missing."
    if analysis.metric is None:
        yield "Nothing was measured, so nothing can be compared."
        return
    seeds = {seed for entry in analysis.entries for seed in entry.rows}
    if len(seeds) == 1:
        yield "There is one seed: no difference can be tested. Use three or more (seeds: [0, 1, 2])."
    else:
        strategies = [v for v in analysis.verdicts if not v.entry.control]
        yield from _against_baseline(analysis, [v for v in strategies if v.question == "baseline"])
        yield from _against_controls([v for v in strategies if v.question == "controls"])
    if analysis.one_parent and len(seeds) > 1:
        yield (
            "All seeds start from one given model: only the compression varied, and intervals say nothing of another "
            "original."
        )
    if analysis.selecting is None and (MAX_DROP in analysis.budget or len(analysis.strategies) > 1):
        yield (
            "There is no validation metric, so no strategy is chosen or marked by what it lost (data: validation: 0.1)."
        )
    for name, alike in dict.fromkeys(
        (entry.strategy, entry.alike) for entry in analysis.controls if entry.alike
    ):
        yield f"'{name}' stands for {_names(alike)} too: they have the same numbers."


def _against_baseline(analysis: Analysis, verdicts: Sequence[Verdict]) -> Iterator[str]:
    baseline = "the original" if analysis.baseline == ORIGINAL else f"'{analysis.baseline}'"
    same = [v for v in verdicts if v.different is False]
    if same:
        found = [v.detectable for v in same if v.detectable is not None]
        unit = analysis.results.metrics.get(analysis.metric or "", {}).get("unit")
        least = (
            " to ".join(dict.fromkeys(number(value, unit) for value in (min(found), max(found))))
            if found
            else ""
        )
        tests, seeds = same[0].tests, " or ".join(str(n) for n in sorted({v.n for v in same}))
        among = f"{seeds} seeds and {tests} tests" if tests > 1 else f"{seeds} seeds"
        power = (
            f" With {among}, a true difference of {least} would be found in 80 % of cases." if found else ""
        )
        yield f"{_names([v.entry.name for v in same])} cannot be told apart from {baseline}.{power}"
    untested: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.different is None:
            untested.setdefault(verdict.why, []).append(verdict.entry.name)
    for why, names in untested.items():
        yield f"{_names(names)} cannot be tested against {baseline}: {why}."


def _against_controls(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Which strategies do no better than a control."""
    for better, words in ((None, "cannot be told apart from"), (False, "is worse than")):
        found: dict[str, list[str]] = {}
        for v in verdicts:
            if v.different is not None and v.better is better:
                found.setdefault(v.entry.name, []).append(v.other.name)
        alike: dict[tuple[str, ...], list[str]] = {}
        for name, controls in found.items():
            alike.setdefault(tuple(controls), []).append(name)
        for controls, names in alike.items():
            verb = words.replace("is ", "are ") if len(names) > 1 else words
            whose = ("its" if len(names) == 1 else "their") + (
                " control" if len(controls) == 1 else " controls"
            )
            yield f"{_names(names)} {verb} {whose} {_names(controls)}."


def _names(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names[:MOST_NAMES]]
    if len(names) > MOST_NAMES:
        return f"{', '.join(quoted)} and {len(names) - MOST_NAMES} more"
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
