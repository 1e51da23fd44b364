"""The text of `report.twins`: the twins' accuracy, what half the width keeps, whether the post's observation holds.

The post is "Compressing neural networks to see if they learn" (Alok, 2018). Stages with hard labels on noise follow
its protocol.
"""

from __future__ import annotations

from compressit import percent
from compressit_plugins.twins.rows import Pair, Twins

FITS = 0.9  # a student "fits its noise" from this agreement with its teacher on the training noise
OBSERVATION = "the post's observation, that the twin which memorised stops fitting its noise first,"


def paragraphs(twins: Twins) -> list[str]:
    """Paragraphs with numbers from the run's rows. They say what is missing."""
    there = list(dict.fromkeys(row.variant for row in twins.results.rows))
    if missing := [variant for variant in twins.variants if variant not in there]:
        absent = " and ".join(missing)
        found = ", ".join(there) or "none"
        return [f"The twins cannot be compared: there is no model of {absent} (variants: {found})."]
    hard = [stage for stage in twins.noise_stages() if twins.noise(stage).get("labels") == "hard"]
    seen = [_seen(twins, stage) for stage in hard]
    not_tried = f"No stage fits students to hard labels on noise, so {OBSERVATION} was not tested."
    return [_reached(twins), *_kept(twins), *_assumed(twins), *(seen or [not_tried])]


def _reached(twins: Twins) -> str:
    seeds = f" Numbers are means of {twins.seeds} seeds." if twins.seeds > 1 else ""
    return (
        f"The twins' accuracy is {_both(twins, twins.teachers(), 'train_accuracy')} on their own training labels, "
        f"and {_both(twins, twins.teachers(), 'test_accuracy')} on the test set (chance: "
        f"{percent(twins.chance())}).{seeds}"
    )


def _kept(twins: Twins) -> list[str]:
    kept: list[str] = []
    for stage in twins.repeated():
        half = _half_width(twins, stage)
        kept.append(
            f"{twins.described(stage)}, {_place(half)}: {_both(twins, half, 'train_accuracy')} on the training "
            f"labels and {_both(twins, half, 'test_accuracy')} on the test set"
        )
    return [f"Accuracy at about half the width, with this budget: {'; '.join(kept)}."] if kept else []


def _assumed(twins: Twins) -> list[str]:
    """What the noise of each stage knows of the data, of those that noted it."""
    known: dict[str, list[str]] = {}
    for stage in twins.noise_stages():
        if statistics := twins.noise(stage).get("statistics"):
            known.setdefault(str(statistics), []).append(stage)
    told = [
        f"{' and '.join(stages)}: {'no statistic of the data' if statistics == 'none' else f'statistics {statistics}'}"
        for statistics, stages in known.items()
    ]
    return [f"What the noise is made of. {'; '.join(told)}."] if told else []


def _seen(twins: Twins, stage: str) -> str:
    """Whether students of the twin that memorised stop fitting their noise at a larger width than the other twin's."""
    pairs = twins.pairs(stage)
    fits = [[point.mean("fit_agreement") if point else None for point in pair] for pair in pairs]
    if any(None in pair for pair in fits):
        return f"On {stage}, {OBSERVATION} is undecided: fit_agreement is not known for every round of both twins."
    misfits = [[number for number, pair in enumerate(fits) if (pair[twin] or 0) < FITS] for twin in (0, 1)]
    real, fake = (found[0] if found else len(pairs) for found in misfits)
    if real == fake:
        verdict = (
            "was not seen: both stop together" if real < len(pairs) else "was not tested: too few rounds"
        )
    else:
        verdict = "was seen" if fake < real else f"was not seen: {twins.real} stops first"
    stops = [
        f"the first student of {variant} that does not has {_place(pairs[found[0]])}"
        if found
        else f"every student of {variant} does"
        for variant, found in zip(twins.variants, misfits, strict=True)
    ]
    return (
        f"On {stage}, a student fits its noise if it agrees with its teacher on {percent(FITS, 0)} of it (share of the "
        f"most frequent label: {_both(twins, pairs[0], 'noise_majority')}); {' and '.join(stops)}: {OBSERVATION} "
        f"{verdict}."
    )


def _half_width(twins: Twins, stage: str) -> Pair:
    """The round with the width nearest to half the twins'; the first round if widths are unknown."""
    pairs = twins.pairs(stage)
    whole = next((point.width for point in twins.teachers() if point and point.width), None)

    def distance(pair: Pair) -> float:
        width = next((point.width for point in pair if point and point.width), None)
        return abs(width - whole / 2) if width and whole else float("inf")

    return min(pairs, key=distance)


def _both(twins: Twins, pair: Pair, metric: str) -> str:
    """`95.4 % (real) and 9.8 % (fake)`."""
    values = [point.mean(metric) if point else None for point in pair]
    if values == [None, None]:
        return f"unknown ({metric} is missing)"
    texts = ["unknown" if value is None else percent(value) for value in values]
    return " and ".join(f"{text} ({variant})" for text, variant in zip(texts, twins.variants, strict=True))


def _place(pair: Pair) -> str:
    point = next(point for point in pair if point)
    return f"width {point.width:g}" if point.width else f"round {point.round}"
