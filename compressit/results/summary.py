"""What the page says first: one sentence, and a short table of strategies, of an `Analysis`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from compressit.errors import CompressitError, sound
from compressit.formatting import EMPTY, counted, number
from compressit.results.analysis import MAX_DROP, Analysis
from compressit.results.entries import ORIGINAL, Entry
from compressit.results.front import NAME_CHARACTERS, label
from compressit.results.notes import notes
from compressit.results.statistics import Estimate

MOST_ROWS = 12  # of the short table
MOST_MORE = 200  # below it, folded
USUAL_DROP = 0.01  # without a budget
SIZES = ("nonzero", "parameters", "bytes")
"""What `× smaller` counts: the first of these that was measured. Zeros count as removed, so pruned weights do too."""


@dataclass(frozen=True)
class Head:
    """A column's words, and what it means."""

    text: str
    about: str = ""


@dataclass(frozen=True)
class Line:
    """A row of the short table."""

    name: str
    cells: Sequence[str]
    chosen: bool = False


@dataclass(frozen=True)
class Summary:
    """The page's first words and its short table; no `rows` where there is nothing to compare."""

    sentence: str
    caption: str = ""
    first: str = "strategy"
    heads: Sequence[Head] = ()
    rows: Sequence[Line] = ()
    controls: Sequence[Line] = ()
    more: Sequence[Line] = ()
    left_out: int = 0
    notes: Sequence[str] = ()


def summary(analysis: Analysis) -> Summary:
    """The sentence and the table of any run."""
    if not analysis.entries or analysis.metric is None:
        return Summary(_uncompared(analysis))
    chosen, sentence = _verdict(analysis)
    columns = _columns(analysis)
    first, more = _shown(analysis, chosen)

    def line(entry: Entry) -> Line:
        cells = [cell(entry) for _, cell in columns]
        return Line(sound(entry.name, NAME_CHARACTERS), cells, entry is chosen)

    return Summary(
        sentence,
        _caption(analysis),
        "strategy" if analysis.results.config.get("compare") else "model",
        [head for head, _ in columns],
        [line(entry) for entry in (*analysis.originals[:MOST_ROWS], *first)],
        [line(entry) for entry in analysis.controls[:MOST_MORE]],
        [line(entry) for entry in more[:MOST_MORE]],
        max(0, len(more) - MOST_MORE),
        tuple(notes(analysis)),
    )


def _caption(analysis: Analysis) -> str:
    seeds = max(len(entry.rows) for entry in analysis.entries)
    means = f"Means over {seeds} seeds, ± half of the change's 95 % interval." if seeds > 1 else "One seed."
    told = [f"{text.removeprefix('× ').capitalize()}: {label(name)}." for text, name in _savings(analysis)]
    return " ".join([means, *(words for words in told if "MACs" not in words)])


def _uncompared(analysis: Analysis) -> str:
    """Where no model was made of another, or nothing was measured."""
    rows = analysis.results.rows
    if not rows:
        return "No models yet."
    metric = analysis.metric
    known = [row for row in rows if metric and row.metrics.get(metric) is not None]
    if metric is None or not known:
        return f"{counted(len(rows), 'model')} {'was' if len(rows) == 1 else 'were'} made, and nothing was measured."
    values = [row.metrics[metric] for row in known]
    if len(known) == 1:
        return (
            f"Nothing was compressed: '{sound(known[0].name, 80)}' has {_value(analysis, metric, values[0])}."
        )
    return f"Nothing was compressed: {len(known)} models have {_span(analysis, metric, values)}."


def _verdict(analysis: Analysis) -> tuple[Entry | None, str]:
    """The strategy that is chosen, and the sentence about it. Chosen by the selecting metric alone."""
    metric, cost = str(analysis.metric), analysis.main_cost
    limit = analysis.budget.get(MAX_DROP, USUAL_DROP if _is_fraction(analysis, metric) else None)
    comparable = len(analysis.originals) == 1 and not analysis.results.missing
    if analysis.selecting is None or limit is None or cost is None or not comparable:
        return None, _described(analysis, metric, cost)
    try:
        choice = analysis.choose(limit, cost)
    except CompressitError:  # nothing measured what is chosen by
        return None, _described(analysis, metric, cost)
    chosen = next((entry for entry in analysis.strategies if entry.name == choice.name), None)
    if chosen is None:
        return None, sound(choice.reason[:1].upper() + choice.reason[1:], 400) + "."
    others = len(analysis.strategies)
    among = f"the cheapest of {others} strategies" if others > 1 else "the only strategy, and"
    verb = "that lose" if others > 1 else "it loses"
    allowed = f"at most {_points(analysis, analysis.selecting, limit)} of {label(analysis.selecting)}"
    saved, change = _ratio_words(analysis, chosen, cost), _change_words(analysis, chosen, metric)
    return chosen, f"'{sound(chosen.name, 80)}' is {among} {verb} {allowed}: {saved}, {change}."


def _described(analysis: Analysis, metric: str, cost: str | None) -> str:
    """What there is, where nothing can be chosen."""
    found = [known.mean for entry in analysis.strategies if (known := analysis.estimate(entry, metric))]
    count = counted(len(analysis.strategies), "compressed model")
    if len(found) == 1:
        entry = next(entry for entry in analysis.strategies if analysis.estimate(entry, metric))
        saved = f"{_ratio_words(analysis, entry, cost)}, " if cost else ""
        return f"'{sound(entry.name, 80)}' has {saved}{_change_words(analysis, entry, metric)}."
    if not found:
        return f"{count}, and no {label(metric)} of them."
    ratios = [ratio for entry in analysis.strategies if cost and (ratio := analysis.ratio(entry, cost))]
    saved = f" with up to {max(ratios):.3g}× fewer {label(str(cost))}" if ratios and max(ratios) > 1 else ""
    return f"{count} have {_span(analysis, metric, found)}{saved}."


def _ratio_words(analysis: Analysis, entry: Entry, cost: str) -> str:
    """`4× fewer MACs`."""
    ratio = analysis.ratio(entry, cost)
    less = "lower" if analysis.results.metrics[cost].get("unit") == "seconds" else "fewer"
    if ratio is None:
        return f"{label(cost)} unknown"
    return f"{ratio:.3g}× {less} {label(cost)}" if ratio > 1 else f"no {less} {label(cost)}"


def _change_words(analysis: Analysis, entry: Entry, metric: str) -> str:
    """`and 94.7 % test accuracy, 0.4 ± 0.3 points below the original`."""
    own, change = analysis.estimate(entry, metric), analysis.change(entry)
    if own is None:
        return f"and unknown {label(metric)}"
    words = f"and {_value(analysis, metric, own.mean)}"
    if change is None:
        return words
    if change.mean == 0:
        return f"{words}, as the original"
    verdict = analysis.verdict(entry)
    alike = verdict is not None and verdict.different is False
    size = _signed(change, _is_fraction(analysis, metric)).lstrip("−+")
    points = " points" if _is_fraction(analysis, metric) else ""
    where = "below" if change.mean < 0 else "above"
    told = " (not significant)" if alike else ""
    return f"{words}, {size}{points} {where} the original{told}"


def _points(analysis: Analysis, metric: str, limit: float) -> str:
    if not _is_fraction(analysis, metric):
        return _number(analysis, metric, limit)
    return f"{100 * limit:.3g} {'point' if limit == 0.01 else 'points'}"


def _shown(analysis: Analysis, chosen: Entry | None) -> tuple[list[Entry], list[Entry]]:
    """The strategies of the short table, and the others: where there are many, the chosen one and the front."""
    entries = list(analysis.strategies)
    if len(entries) <= MOST_ROWS:
        return entries, []
    front = analysis.pareto(analysis.main_cost) if analysis.main_cost else []
    first = dict.fromkeys(id(entry) for entry in [*([chosen] if chosen else []), *front, *entries])
    wanted = set(islice(first, MOST_ROWS))
    kept = [entry for entry in entries if id(entry) in wanted]
    return kept, [entry for entry in entries if id(entry) not in wanted]


Column = tuple[Head, Callable[[Entry], str]]


def _columns(analysis: Analysis) -> list[Column]:
    metric = str(analysis.metric)
    fraction = _is_fraction(analysis, metric)
    about = str(analysis.results.metrics.get(metric, {}).get("about", ""))
    found: list[Column] = [
        (Head(label(metric), sound(about, 300)), lambda entry: _mean(analysis, entry, metric)),
        (
            Head(f"change{' (points)' if fraction else ''}", f"of {label(metric)} from the original"),
            lambda entry: _signed(analysis.change(entry), fraction),
        ),
    ]
    for text, cost in _savings(analysis):
        about = f"{label(cost)} of the original / own"
        found.append((Head(text, about), lambda entry, cost=cost: _share(analysis, entry, cost)))
    against = "the original" if analysis.baseline == ORIGINAL else f"'{analysis.baseline}'"
    tested = f"from {against}: paired t-test over seeds at 5 %, corrected by Holm"
    found.append((Head("significant", sound(tested, 300)), lambda entry: _tested(analysis, entry)))
    if analysis.budget:
        limits = ", ".join(
            f"{label(name)} {number(share, 'fraction')}" for name, share in analysis.budget.items()
        )
        found.append((Head("in budget", limits), lambda entry: _kept(analysis, entry)))
    if any(analysis.spent(entry, "epochs") is not None for entry in analysis.entries):
        spent = Head("epochs", "of all trainings, the original's too")
        found.append((spent, lambda entry: number(analysis.spent(entry, "epochs"))))
    return found


def _savings(analysis: Analysis) -> list[tuple[str, str]]:
    """Heads and costs: what smaller means, and faster, by a measured time where there is one."""
    sizes = [("× smaller", name) for name in SIZES if name in analysis.costs]
    times = [n for n in analysis.costs if analysis.results.metrics[n].get("unit") == "seconds"]
    works = [("× faster", name) for name in times] or [
        ("× fewer MACs", name) for name in analysis.costs if name == "macs"
    ]
    return [*sizes[:1], *works[:1]]


def _mean(analysis: Analysis, entry: Entry, name: str) -> str:
    found = analysis.estimate(entry, name)
    return _number(analysis, name, found.mean) if found else EMPTY


def _signed(found: Estimate | None, fraction: bool) -> str:
    """`−0.42 ± 0.31`: the mean and half of its interval, of fractions in points."""
    if found is None:
        return EMPTY
    scale = 100 if fraction else 1
    half = (
        None
        if found.low is None or found.high is None
        else max(found.mean - found.low, found.high - found.mean)
    )
    digits = f"{abs(found.mean) * scale:.2f}" if fraction else number(abs(found.mean))
    sign = "−" if found.mean < 0 else "+" if found.mean > 0 else ""
    spread = "" if half is None else f" ± {half * scale:.2f}" if fraction else f" ± {number(half)}"
    return f"{sign}{digits}{spread}"


def _share(analysis: Analysis, entry: Entry, cost: str) -> str:
    ratio = analysis.ratio(entry, cost)
    return EMPTY if ratio is None else f"{ratio:.3g}×"


def _tested(analysis: Analysis, entry: Entry) -> str:
    verdict = analysis.verdict(entry)
    if verdict is None or verdict.different is None:
        return EMPTY
    return ("better" if verdict.better else "worse") if verdict.different else "no"


def _kept(analysis: Analysis, entry: Entry) -> str:
    kept = analysis.within_budget(entry) if entry.originals else None
    return EMPTY if kept is None else "yes" if kept else "no"


def _value(analysis: Analysis, metric: str, value: float) -> str:
    return f"{_number(analysis, metric, value)} {label(metric)}"


def _span(analysis: Analysis, metric: str, values: Sequence[float]) -> str:
    ends = dict.fromkeys(_number(analysis, metric, value) for value in (min(values), max(values)))
    return f"{' to '.join(ends)} {label(metric)}"


def _number(analysis: Analysis, name: str, value: float) -> str:
    return number(value, analysis.results.metrics.get(name, {}).get("unit"))


def _is_fraction(analysis: Analysis, name: str) -> bool:
    return analysis.results.metrics.get(name, {}).get("unit") == "fraction"
