"""What each layer of a recipe's model can lose, and ratios per layer that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compressit.contract.kinds import Evaluator
from compressit.contract.records import Metric
from compressit.contract.results import Results
from compressit.errors import CompressitError, did_you_mean
from compressit.host.plugins import Host
from compressit.python.arguments import create
from compressit.recipe.alone import alone
from compressit.recipe.envelope import INIT
from compressit.recipe.model import Measure, Recipe, Search, Stage, Use, Variant
from compressit.recipe.names import elsewhere, stage_of
from compressit.recipe.validation import checked
from compressit.recipe.written import yaml_of

EVALUATOR = "eval.sensitivity"
_SHARES = {"prune.structured": ("channels", "ratios"), "prune.magnitude": ("weights", "sparsities")}
"""By compressor: what its layers lose, and its option for single layers."""
_PLACES = 4  # decimals of a share


@dataclass(frozen=True)
class Question:
    """Which model is measured, and the stage that prunes it, if the recipe has one."""

    recipe: Recipe  # the measurement, and only what it needs
    stage: str
    pruning: Stage | None
    of: str  # "channels" or "weights"

    @staticmethod
    def about(recipe: Recipe, stage: str | None, options: Mapping[str, Any], host: Host) -> Question:
        """The question about the model of `stage` in the recipe's first variant and seed: by default the one that its
        first pruning stage gets, else the last. `options`: of the evaluator.

        Raises CompressitError for a stage that is not there, and for a model with fresh weights.
        """
        variant = recipe.variants[0]
        prunes = (s for s in variant.stages if s.use.uses in _SHARES and stage in (None, s.needs))
        pruning = next(prunes, None)
        names = [*variant.model.names, *(s.name for s in variant.stages)]
        asked = stage or (pruning.needs if pruning is not None else names[-1])
        if asked not in names:
            hint = did_you_mean(asked, names) or f"it has {', '.join(names)}"
            raise CompressitError(f"{recipe.name} has no model '{asked}'", hint)
        if asked == INIT and not variant.model.given:
            raise CompressitError(
                f"'{INIT}' of {recipe.name} has fresh weights, which tell nothing of its layers",
                "name the stage that trains it: --stage train",
            )
        of = _SHARES[pruning.use.uses][0] if pruning is not None else "channels"
        plugin = create(Evaluator, EVALUATOR, {"of": of, **options}, host)
        stages = _up_to(asked, variant)
        only = replace(variant, stages=stages, evaluate=(Measure(Use(plugin), "", (asked,)),))
        made = replace(
            recipe, name=f"{recipe.name}-sensitivity", variants=(only,), seeds=recipe.seeds[:1], report=(),
            search=Search(), compare=None,
        )  # fmt: skip
        return Question(made, asked, pruning, str(plugin.config.of))

    @property
    def option(self) -> str:
        """The option for shares of single layers."""
        return next(option for of, option in _SHARES.values() if of == self.of)

    def answer(self, results: Results) -> Sensitivities:
        """What the run of `recipe` measured."""
        variant = self.recipe.variants[0]
        row = next(row for row in results.rows if "sensitivity" in row.arrays)
        names = [bytes(line).rstrip(b"\0").decode() for line in results.array(row, "sensitivity_layers")]
        scores = results.array(row, "sensitivity").tolist()
        config: Any = variant.evaluate[0].use.plugin.config
        watched = variant.posed.watch
        layers = dict(zip(names, scores, strict=True))
        picture = str(row.pictures["sensitivity_picture"].file)
        return Sensitivities(
            watched, variant.posed.measures()[watched], (0.0, *config.ratios), layers, picture
        )

    def shares(self, found: Sensitivities, max_drop: float) -> dict[str, float]:
        """Shares of single layers as the compressor's option has them: to keep of channels, to zero of weights. The
        layers that can lose the most have none: they make up for what the others keep, so that a target is reached."""
        bearable = found.bearable(max_drop)
        least = {name: lost for name, lost in bearable.items() if lost < max(bearable.values())}
        scale = 10**_PLACES
        rounded = {name: math.floor(lost * scale) / scale for name, lost in least.items()}
        return {n: round(1 - lost, _PLACES) if self.of == "channels" else lost for n, lost in rounded.items()}


@dataclass(frozen=True)
class Sensitivities:
    """The scores of a model where one layer loses a part."""

    watched: str  # the task's measure
    metric: Metric
    ratios: Sequence[float]  # fractions lost, from 0
    layers: Mapping[str, Sequence[float]]  # scores for each of `ratios`
    picture: str  # its file, relative to the run folder

    def drops(self, layer: str) -> list[float]:
        """How much worse each score is than the whole model's; negative where it is better."""
        sign = 1 if self.metric.better == "lower" else -1
        return [sign * (score - self.layers[layer][0]) for score in self.layers[layer]]

    def ordered(self) -> list[str]:
        """The layers, the most sensitive (by the mean of its drops) first."""

        def lost(layer: str) -> float:
            return sum(drop if math.isfinite(drop) else math.inf for drop in self.drops(layer))

        return sorted(self.layers, key=lost, reverse=True)

    def bearable(self, max_drop: float) -> dict[str, float]:
        """The fraction that each layer can lose before the score falls by more than `max_drop`, on straight lines
        between what was measured; at most the largest fraction measured. A score that is not finite is too low."""
        return {layer: self._bearable(self.drops(layer), max_drop) for layer in self.layers}

    def _bearable(self, drops: Sequence[float], max_drop: float) -> float:
        for at in range(1, len(drops)):
            if not drops[at] <= max_drop:
                start, width = self.ratios[at - 1], self.ratios[at] - self.ratios[at - 1]
                rise = drops[at] - drops[at - 1]
                return start + width * (max_drop - drops[at - 1]) / rise if math.isfinite(rise) else start
        return self.ratios[-1]


def with_shares(recipe: Recipe, question: Question, shares: Mapping[str, float]) -> str:
    """The text of the recipe's first variant with these shares in the stage that prunes the measured model. Earlier
    ones of other layers stay. Raises CompressitError if there is no such stage, or if it does not take them."""
    pruning = question.pruning
    if pruning is None or _SHARES[pruning.use.uses][1] != question.option:
        raise CompressitError(
            f"{recipe.name} has no stage whose `{question.option}` could be set: none prunes '{question.stage}' so",
            f"add a stage {next(uses for uses, found in _SHARES.items() if found[1] == question.option)}",
        )
    plugin, option = pruning.use.plugin, question.option
    options = plugin.config.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    options[option] = {**options.get(option, {}), **shares}
    use = replace(pruning.use, plugin=type(plugin)(checked(plugin.Config, options, f"stages.{pruning.name}")))
    changed = replace(pruning, use=use, members=(("", use),), sweep=())
    variant = recipe.variants[0]
    stages = tuple(changed if stage.name == pruning.name else stage for stage in variant.stages)
    return yaml_of(alone(recipe, replace(variant, stages=stages), recipe.name, recipe.description))


def _up_to(name: str, variant: Variant) -> tuple[Stage, ...]:
    """The stages that the model of this one is made by."""
    names = {stage.name for stage in variant.stages}
    wanted = {name}
    for stage in reversed(variant.stages):
        if stage.name in wanted:
            other = next((ref for ref in stage.refs if elsewhere(ref)[2] not in (None, variant.name)), None)
            if other is not None:
                raise CompressitError(
                    f"{stage.name} names '{other}', a model of another variant",
                    "measure a checkpoint of that run: compressit sensitivity FILE --data …",
                )
            wanted |= {stage.needs, *(stage_of(ref, names) for ref in stage.refs)}
    return tuple(stage for stage in variant.stages if stage.name in wanted)
