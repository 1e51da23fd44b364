"""Words of `report.twins`: plain sentences computed from the numbers, beside the post's conclusion.

The post: "Compressing neural networks to see if they learn" (Alok, 2018). Its protocol is the stage whose
noise has hard labels; other noise stages are described in the same terms. Missing numbers are named.
"""

from __future__ import annotations

from collections.abc import Callable

from compressit import counted, grouped, percent
from compressit_plugins.reports.twins_rows import Pair, Point, Twins

FITS = 0.9  # agreement with its teacher on the noise it was trained on, from which a student "fits its noise"
BEYOND = 0.5  # the same, judged by the share of what a constant answer gets wrong
CONSTANT = 0.8  # share of the commonest label from which labels are called almost constant
APART = 0.2  # difference in retention below which two students are not told apart

POST = (
    "The post concludes that the student of the real-labelled twin keeps converging at widths where the "
    "student of the fake-labelled twin no longer does, and reads this as real learning surviving "
    "compression while memorisation does not."
)


def paragraphs(twins: Twins) -> list[str]:
    """What the run says, in the order of the recipe; every number is taken from its rows."""
    if twins.missing:
        there = ", ".join(dict.fromkeys(row.variant for row in twins.results.rows)) or "none"
        absent = _listed(twins.missing)
        return [f"The twins cannot be compared: no model of {absent} is there (variants: {there})."]
    noisy = twins.noise_stages()
    texts = [_unfinished(twins), _in_short(twins, noisy), _reached(twins)]
    texts += [_of_stage(twins, stage) for stage in noisy]
    hard = [stage for stage in noisy if twins.about_noise(stage).get("labels") == "hard"]
    texts += [_beside_the_post(twins, hard, noisy) if noisy else ""]
    texts += [_strategies(twins)]
    return [text for text in texts if text]


def first_misfit(
    twins: Twins, stage: str, variant: str, fits: Callable[[Point], bool | None]
) -> Point | None:
    """The first round of a stage that does not fit; None when all that were measured do."""
    return next((point for point in twins.points(variant, stage) if fits(point) is False), None)


def fits_its_noise(point: Point) -> bool | None:
    """Agreement with the teacher on the noise it was trained on is at least FITS; None: not measured."""
    fit = point.mean("fit_agreement")
    return None if fit is None else fit >= FITS


def beats_a_constant(point: Point) -> bool | None:
    """At least BEYOND of the noise that the commonest label gets wrong is right; None: not measured, or the
    teacher gave one label only."""
    fit, most = point.mean("fit_agreement"), point.mean("noise_majority")
    return None if fit is None or most is None or most >= 1 else (fit - most) / (1 - most) >= BEYOND


def retention(twins: Twins, variant: str, point: Point | None) -> float | None:
    """What is left of the twin's lead over chance on the training labels it was given: 1 all, 0 nothing."""
    teacher, chance = twins.teacher(variant), twins.chance()
    kept = point.mean("train_accuracy") if point else None
    had = teacher.mean("train_accuracy") if teacher else None
    return None if kept is None or had is None or had <= chance else (kept - chance) / (had - chance)


def _unfinished(twins: Twins) -> str:
    count = len(twins.results.missing)
    if not count:
        return ""
    return f"This run is not complete: {counted(count, 'planned model')} not there yet, left out of what follows."


def _in_short(twins: Twins, stages: list[str]) -> str:
    """One sentence for those who read one: what half the width keeps of the labels, stage by stage."""
    kept: list[str] = []
    for stage in stages:
        half = _half_width(twins, twins.pairs(stage))
        kept.append(
            f"on {stage}, a student of {_place(half)} keeps "
            f"{_both(twins, half, 'train_accuracy')} of the training labels its twin was given"
        )
    return f"In short, at this budget: {'; '.join(kept)}." if kept else ""


def _reached(twins: Twins) -> str:
    teachers = (twins.teacher(twins.real), twins.teacher(twins.fake))
    seeds = f" Numbers are means of {twins.seeds} seeds." if twins.seeds > 1 else ""
    alone = "The twins differ in their labels alone. " if twins.differ_in_labels_alone() else ""
    return (
        f"{alone}At this budget the twins get "
        f"{_both(twins, teachers, 'train_accuracy')} of the training labels they were given right, and "
        f"{_both(twins, teachers, 'test_accuracy')} of the test set (chance: "
        f"{percent(twins.chance())}).{seeds}"
    )


def _of_stage(twins: Twins, stage: str) -> str:
    pairs = twins.pairs(stage)
    half = _half_width(twins, pairs)
    sentences = [
        f"Stage {stage}{_noise(twins, stage)}: {counted(len(pairs), 'round')}.",
        f"At {_place(half)} the students agree with their teachers on "
        f"{_both(twins, half, 'fit_agreement')} of the noise they were trained on and on "
        f"{_both(twins, half, 'noise_agreement')} of noise they never saw; of the original training labels "
        f"they keep {_both(twins, half, 'train_accuracy')}, on the test set "
        f"{_both(twins, half, 'test_accuracy')}{_after(twins, half)}.",
        _last(twins, pairs, half),
        _entropy(twins, half),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _last(twins: Twins, pairs: list[Pair], half: Pair) -> str:
    if pairs[-1] == half:
        return ""
    return (
        f"At the last round, {_place(pairs[-1])}, they keep {_both(twins, pairs[-1], 'train_accuracy')} of "
        "the original training labels."
    )


def _entropy(twins: Twins, pair: Pair) -> str:
    shares = {v: p.mean("noise_majority") for v, p in zip(twins.variants, pair, strict=True) if p}
    constant = [variant for variant, share in shares.items() if share is not None and share >= CONSTANT]
    if not shares or None in shares.values() or any(p and p.mean("noise_entropy_bits") is None for p in pair):
        return (
            "The entropy of the teachers' labels on this noise is missing, so a low loss on it may mislead."
        )
    carry = (
        f"The teachers' labels on this noise carry {_both(twins, pair, 'noise_entropy_bits')} bits; the "
        f"commonest label takes {_both(twins, pair, 'noise_majority')}."
    )
    if not constant:
        return carry
    return (
        f"{carry} For {_listed(constant)} these labels are almost constant: one answer to everything "
        f"already fits {_listed([percent(shares[variant] or 0) for variant in constant])}, so a low loss "
        "on the noise alone misleads."
    )


def _beside_the_post(twins: Twins, hard: list[str], noisy: list[str]) -> str:
    if hard:
        observed = (
            "Here a student counts as fitting its noise while it agrees with its teacher on at least "
            f"{percent(FITS, 0)} of what it was trained on. "
            f"{' '.join(_converged(twins, stage) for stage in hard)}"
        )
    else:
        observed = "No stage of this run has the post's hard labels, so its observation was not tried."
    survived = " ".join(_survived(twins, stage) for stage in noisy)
    return (
        f"{POST} {observed} What survived shows only on the original data, counted as what is left of a "
        f"twin's lead over chance on its own training labels. {survived}"
    )


def _converged(twins: Twins, stage: str) -> str:
    """Where each twin's students stop fitting, by both criteria, and whether that is what the post saw."""
    pairs = twins.pairs(stage)
    points = [point for pair in pairs for point in pair]
    if any(point is None or fits_its_noise(point) is None for point in points):
        return f"On {stage} that is not known for every round of both twins, so the question stays open."
    stops, verdict = _verdict(twins, stage, fits_its_noise)
    text = f"On {stage} {stops}: {verdict}."
    if any(point is None or beats_a_constant(point) is None for point in points):
        return text
    stops, strict = _verdict(twins, stage, beats_a_constant)
    if strict == verdict:
        return (
            f"{text} The same holds when a student must get right {percent(BEYOND, 0)} of what the "
            "commonest label gets wrong."
        )
    return (
        f"{text} But a constant answer counts towards that, in proportion to the commonest label "
        f"({_both(twins, pairs[0], 'noise_majority')}). When a student must get right {percent(BEYOND, 0)} "
        f"of what the commonest label gets wrong, {stops}: {strict}. So the verdict depends on the "
        "criterion."
    )


def _verdict(twins: Twins, stage: str, fits: Callable[[Point], bool | None]) -> tuple[str, str]:
    """Where each twin's students stop, in words, and how that stands to the post."""
    real, fake = (first_misfit(twins, stage, variant, fits) for variant in twins.variants)
    stops = f"{_stop(twins.real, real)} and {_stop(twins.fake, fake)}"
    last = twins.pairs(stage)[-1][0]
    end = (last.round or 0) + 1 if last else 0  # "none" comes after the last round
    at_real, at_fake = (point.round or 0 if point else end for point in (real, fake))
    if at_real == at_fake == end:
        return stops, "so this stage has too few rounds to try the post's observation"
    if at_fake < at_real:
        return stops, "this agrees with the post's observation"
    if at_fake == at_real:
        return stops, "both stop together, which does not agree with the post's observation"
    return stops, f"{twins.real} stops first, the reverse of the post's observation"


def _survived(twins: Twins, stage: str) -> str:
    half = _half_width(twins, twins.pairs(stage))
    real, fake = (retention(twins, v, p) for v, p in zip(twins.variants, half, strict=True))
    if real is None or fake is None:
        return f"On {stage} it is not known for both twins."
    if real - fake >= APART:
        meaning = "what the real labels taught passed further than memorised labels did, at this budget"
    elif fake - real >= APART:
        meaning = (
            "the memorised labels passed further, at this budget, which speaks against the post's reading"
        )
    elif max(real, fake) < 0.5:
        meaning = "little of either passed, so this stage does not tell learning from memorising"
    else:
        meaning = "both passed about equally, at this budget, which speaks against the post's reading"
    return (
        f"On {stage}, at {_place(half)}, {twins.real} keeps {percent(real)} and {twins.fake} "
        f"{percent(fake)}; {meaning}."
    )


def _strategies(twins: Twins) -> str:
    sentences = []
    for family in twins.strategies():
        smallest = [min(twins.points(v, family), key=_size, default=None) for v in twins.variants]
        pair: Pair = (smallest[0], smallest[1])
        sizes = {grouped(_size(point)) for point in pair if point and _size(point) < float("inf")}
        sentences.append(
            f"{family}, at its smallest ({' and '.join(sorted(sizes)) or 'unknown'} non-zero parameters): "
            f"{_both(twins, pair, 'train_accuracy')} of the training labels given, "
            f"{_both(twins, pair, 'test_accuracy')} of the test set."
        )
    return f"The other strategies, at this budget. {' '.join(sentences)}" if sentences else ""


def _half_width(twins: Twins, pairs: list[Pair]) -> Pair:
    """The round whose width is nearest to half the twins'; the first round where widths are not known."""
    teacher = twins.teacher(twins.real) or twins.teacher(twins.fake)
    widths = [next((p.width for p in pair if p and p.width), None) for pair in pairs]
    known = [
        (abs(width - teacher.width / 2), i)
        for i, width in enumerate(widths)
        if width and teacher and teacher.width
    ]
    return pairs[min(known)[1] if known else 0]


def _both(twins: Twins, pair: Pair, metric: str) -> str:
    """`95.4 % (real) and 9.8 % (fake)`."""
    values = [point.mean(metric) if point else None for point in pair]
    if values == [None, None]:
        return f"an unknown share ({metric} is missing)"
    show: Callable[[float], str] = (lambda bits: f"{bits:.2f}") if metric.endswith("_bits") else percent
    texts = ["unknown" if value is None else show(value) for value in values]
    return " and ".join(f"{text} ({variant})" for text, variant in zip(texts, twins.variants, strict=True))


def _after(twins: Twins, pair: Pair) -> str:
    seen = [point.images_seen if point else None for point in pair]
    if seen[0] is not None and seen[0] == seen[1]:
        return f", after {grouped(seen[0])} noise images"
    known = [f"{grouped(s)} ({v})" for s, v in zip(seen, twins.variants, strict=True) if s is not None]
    return f", after {' and '.join(known)} noise images" if known else ""


def _noise(twins: Twins, stage: str) -> str:
    noise = twins.about_noise(stage)
    redrawn = {"epoch": "drawn anew every epoch", "round": "drawn once a round", "never": "drawn once"}
    known = [redrawn[noise["redraw"]]] if noise.get("redraw") in redrawn else []
    if noise.get("statistics", "none") != "none":
        known.append(f"imitating statistics {noise['statistics']}, so not without data")
    return "".join([twins.described(stage), *(f", {fact}" for fact in known)])


def _place(pair: Pair) -> str:
    point = next(point for point in pair if point)
    return f"width {point.width:g}" if point.width else f"round {point.round}"


def _stop(variant: str, misfit: Point | None) -> str:
    if misfit is None:
        return f"every student of {variant} does"
    width = f" (width {misfit.width:g})" if misfit.width else ""
    return f"the first student of {variant} that does not is round {misfit.round}{width}"


def _size(point: Point) -> float:
    return point.mean("nonzero") or point.mean("parameters") or float("inf")


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
