"""Checks the names of models in a recipe, once all its variants are read: each must be one model that exists."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from compressit.checkpoint.starting import Offer
from compressit.datasets.specs import in_words, within
from compressit.errors import CompressitError, Mark, Problem, did_you_mean
from compressit.recipe.envelope import INIT, ORIGINAL, PREVIOUS, RELATIVE
from compressit.recipe.measures import Item
from compressit.recipe.model import Measure, Stage, Variant
from compressit.recipe.names import Named, Series, called, check_one, known, meaning, series_of, variant_of
from compressit.recipe.order import circle_in, sorted_by_need
from compressit.recipe.originals import has_original
from compressit.recipe.scope import Reference

Place = tuple[str, str]
"""A variant and one of its stages."""


@dataclass(frozen=True)
class Read:
    """What could be read of a variant, and its mistakes so far."""

    variant: str
    offer: Offer | None
    first: Collection[str]  # the models that no stage makes
    given: bool  # they were trained elsewhere
    originals: (
        Mapping[str, str | None] | None
    )  # of those models; None: unknown, `model` or `data` has a mistake
    stages: Sequence[Stage]
    named: Sequence[tuple[str, Reference]]  # stages, and the models that their options name
    items: Sequence[Item]
    whole: bool  # every stage could be read
    problems: list[Problem]

    def problem(self, message: str, mark: Mark, hint: str | None = None) -> None:
        """Notes a mistake."""
        self.problems.append(Problem(message, mark, hint))


def in_order(
    variants: Iterable[Variant], models: Mapping[str, Mapping[str, Series]]
) -> list[tuple[Variant, Stage]]:
    """All stages of valid variants, each after those whose models it needs."""
    places = {
        (variant.name, stage.name): (variant, stage) for variant in variants for stage in variant.stages
    }
    needs: dict[Place, list[Place]] = {}
    for variant, stage in places.values():
        names = (ref for ref in stage.refs if not ref.endswith(".safetensors"))
        wanted = (meaning(name, variant.name, models).place(variant.name) for name in names)
        needs[variant.name, stage.name] = [(variant.name, stage.needs), *wanted]
    return [places[place] for place in sorted_by_need(needs)]


def covered(measure: Measure, series: Series, given: bool) -> bool:
    """Whether any model of the series is measured. `given`: those that no stage makes were trained elsewhere."""
    if measure.stages is None:
        return given or series.stage != INIT
    return any(measure.covers(*called(series.stage, member, number)) for member, number in series.places())


def check_references(reads: Sequence[Read], seeds: Collection[int] | None) -> None:
    """Notes each name of a model that does not exist or is not one model, patterns of `stages` that match nothing,
    and stages of several variants that need each other in a circle. `seeds`: None if they have a mistake."""
    checks = _Checks({read.variant: read for read in reads}, seeds)
    for read in reads:
        for stage, reference in read.named:
            checks.named_by_stage(read, stage, reference)
        for item in read.items if read.whole else ():
            checks.item(read, item)
    checks.circle()


class _Checks:
    def __init__(self, reads: Mapping[str, Read], seeds: Collection[int] | None) -> None:
        self._reads = reads
        self._seeds = seeds
        self._models = {name: series_of(read.stages, read.first) for name, read in reads.items()}
        self._needs: dict[Place, dict[Place, Reference | None]] = {
            (name, stage.name): {(name, stage.needs): None}
            for name, read in reads.items()
            for stage in read.stages
        }

    def named_by_stage(self, read: Read, stage: str, reference: Reference) -> None:
        """Checks a model that a stage's options name."""
        own = self._models[read.variant].get(stage)
        if own is None or reference.name == PREVIOUS:
            return
        if reference.name == ORIGINAL:
            needs = [other.needs for other in read.stages if other.name == stage]
            return _check_original(
                read, reference, needs, "give the stage a trained model, or name another one here"
            )
        meant = self._meant(read, reference, own.members)
        if meant is not None:
            self._needs[read.variant, stage].setdefault(meant.place(read.variant), reference)

    def item(self, read: Read, item: Item) -> None:
        """Checks an evaluator's patterns, and the models that its options name."""
        own = self._models[read.variant]
        for pattern in item.node.at("stages").items:
            alone = Measure(item.measure.use, stages=(str(pattern.value),))
            if not any(covered(alone, series, read.given) for series in own.values()):
                message = f"{item.path}.stages: '{pattern.value}' matches no model"
                read.problem(message, pattern.mark, did_you_mean(str(pattern.value), known(own)))
        measured = [series for series in own.values() if covered(item.measure, series, read.given)]
        labels = {
            label: None
            for series in measured
            for label, number in series.places()
            if item.measure.stages is None or item.measure.covers(*called(series.stage, label, number))
        }
        for reference in item.named:
            if reference.name not in RELATIVE:
                self._meant(read, reference, labels)
            elif reference.name == ORIGINAL:
                of = [series.stage for series in measured]
                _check_original(
                    read, reference, of, "say by `stages` which models it measures, or name one here"
                )
            elif without := [series.stage for series in measured if series.stage in read.first]:
                message = (
                    f"{reference.path} names the model before each, and there is none before '{without[0]}'"
                )
                read.problem(message, reference.mark, "say by `stages` which models it measures")

    def _meant(self, read: Read, reference: Reference, labels: Iterable[str]) -> Named | None:
        """The model; None, with a mistake noted, if it does not exist or is not one. None too if that is unknown,
        because its stage has a mistake."""
        variant = variant_of(reference.name, read.variant, self._models)
        there = self._reads.get(variant)
        try:
            meant = meaning(reference.name, read.variant, self._models, self._seeds)
            check_one(reference.name, meant, self._models[variant][meant.stage], labels)
        except CompressitError as error:
            if there is None or there.whole:
                read.problem(f"{reference.path} {error.message}", reference.mark, error.hint)
            return None
        if there is not None and there.offer is not None and read.offer is not None:
            self._check_offers(read, reference, there.offer, read.offer)
        return meant

    def _check_offers(self, read: Read, reference: Reference, theirs: Offer, ours: Offer) -> None:
        """Notes a model of another variant that does not take the inputs of this one."""
        facts = {
            "inputs": (in_words(theirs.inputs), in_words(ours.inputs), within(ours.inputs, theirs.inputs)),
            "classes": (theirs.classes, ours.classes, theirs.classes == ours.classes),
            "scale": (theirs.scale, ours.scale, theirs.scale == ours.scale),
        }
        for what, (there, here, fits) in facts.items():
            if not fits:
                message = (
                    f"{reference.path} names '{reference.name}', whose data have the {what} {there}; "
                    f"those of '{read.variant}' have {here}"
                )
                read.problem(message, reference.mark, "name a model that takes the same inputs")
                return

    def circle(self) -> None:
        """Notes one circle of stages of several variants. Circles within a variant are known already."""
        done = {*sorted_by_need(self._needs)}
        waiting = {place: needs for place, needs in self._needs.items() if place not in done}
        if not waiting:
            return
        circle = circle_in(waiting)
        edges = zip(circle, [*circle[1:], circle[0]], strict=True)
        (variant, _), reference = next(
            (place, found) for place, wanted in edges if (found := waiting[place][wanted]) is not None
        )
        arrows = " -> ".join(f"{stage} ({name})" for name, stage in [*circle, circle[0]])
        self._reads[variant].problem(f"stages need each other in a circle: {arrows}", reference.mark)


def _check_original(read: Read, reference: Reference, of: Iterable[str], hint: str) -> None:
    """Notes a stage or first model among `of` whose models have no original, unless a mistake hides what they have."""
    if read.originals is None or not read.whole:
        return
    stages = {stage.name: stage for stage in read.stages}
    without = next((name for name in of if not has_original(name, stages, read.originals)), None)
    if without is not None:
        message = (
            f"{reference.path} names the trained model that each was made from, and '{without}' has none"
        )
        read.problem(message, reference.mark, hint)
