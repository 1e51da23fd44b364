"""The ways from a variant's first model to its last ones: which stages lie on them, and for how long they train."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compressit.contract.fit_options import FitConfig
from compressit.contract.kinds import Compressor, Trainer, images_after
from compressit.recipe.envelope import INIT
from compressit.recipe.model import Stage, Use, Variant
from compressit.recipe.names import elsewhere, stage_of

SCRATCH = "train.scratch"
"""The trainer that forgets what was trained before it."""


@dataclass(frozen=True)
class Way:
    """The stages from the first model to a last one, in order."""

    variant: Variant
    stages: tuple[Stage, ...]

    @property
    def final(self) -> str:
        """The name of the last stage."""
        return self.stages[-1].name

    @property
    def original(self) -> str | None:
        """What was compressed: a model that was given, else the first stage, if it trains; None without one. The rule
        is that of `Row.dense`."""
        if self.variant.model.given:
            return INIT
        return self.stages[0].name if isinstance(self.stages[0].use.plugin, Trainer) else None

    @property
    def after(self) -> tuple[Stage, ...]:
        """The stages after the original."""
        return self.stages if self.original in (INIT, None) else self.stages[1:]

    @property
    def compresses(self) -> bool:
        """Whether a stage is a compressor."""
        return any(isinstance(use.plugin, Compressor) for stage in self.stages for _, use in stage.members)

    def epochs(self) -> int | None:
        """Passes over the training set that made its last model; of several, the most. None if unknown."""
        since = [at for at, stage in enumerate(self.stages) if stage.use.uses == SCRATCH]
        return self._epochs(self.stages[since[-1] if since else 0 :])

    def recovery(self) -> int | None:
        """Those after the original."""
        return self._epochs(self.after)

    def _epochs(self, stages: Iterable[Stage]) -> int | None:
        found = [epochs_of(stage, self.variant) for stage in stages]
        return None if None in found else sum(filter(None, found))


def ways(variant: Variant) -> tuple[Way, ...]:
    """One for each stage that no other stage of the variant needs, or names in its options."""
    stages = {stage.name: stage for stage in variant.stages}
    needed = {stage.needs for stage in variant.stages}
    for stage in variant.stages:
        own = (ref for ref in stage.refs if elsewhere(ref)[2] is None)
        needed |= {found for ref in own if (found := stage_of(ref, stages)) is not None}
    return tuple(Way(variant, _upto(name, stages)) for name in stages if name not in needed)


def trainings(use: Use) -> Sequence[FitConfig]:
    """The options of a plugin's trainings: its own, or those of nested blocks."""
    config = use.plugin.config
    if isinstance(config, FitConfig):
        return [config]
    nested = (getattr(config, name) for name in type(config).model_fields)
    return [value for value in nested if isinstance(value, FitConfig)]


def images_of(variant: Variant) -> int | None:
    """The number of training examples, if it is known without loading them."""
    return images_after(variant.dataset.config, variant.dataset.train_size)


def length(options: FitConfig, images: int | None) -> int | None:
    """Epochs of a training; None if it counts steps, of an unknown number of examples."""
    if images is None:
        return options.epochs if options.steps is None else None
    return options.total_epochs(images)


def epochs_of(stage: Stage, variant: Variant) -> int | None:
    """Epochs that a stage adds to a model: of the member that trains longest, and of all rounds that go on from each
    other."""
    images = images_of(variant)
    rounds = stage.repeat if stage.repeat and stage.feed == "previous" else 1
    most = 0
    for _, use in stage.members:
        found = [length(options, images) for options in trainings(use)]
        if None in found:
            return None
        most = max(most, sum(filter(None, found)))
    return most * rounds


def _upto(name: str, stages: dict[str, Stage]) -> tuple[Stage, ...]:
    way: list[Stage] = []
    while name in stages:
        way.append(stages[name])
        name = stages[name].needs
    return tuple(reversed(way))
