"""What a search may choose: a strategy of the recipe, the order of its stages, and the values of their options."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from compressit.contract.kinds import Compressor
from compressit.errors import CompressitError
from compressit.recipe.model import Measure, Recipe, Stage, Variant, Vary
from compressit.recipe.names import elsewhere, stage_of
from compressit.recipe.search import ratio_of, reordered
from compressit.recipe.validation import checked


@dataclass(frozen=True)
class Parameter:
    """One thing to choose: a value of an option, or an order of stages. A range, or one of `choices` (JSON values)."""

    name: (
        str  # "stages.half.with.keep"; of a layer "stages.half.with.ratios[conv1]"; "order of prune and half"
    )
    place: tuple[str, ...] = ()  # the stage, and the path of its option; empty for an order
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def holds(self, value: Any) -> bool:
        """Whether this is one of the values to choose from."""
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Strategy:
    """A variant of the recipe, or one of several models that a variant ends in, with what may be changed in it."""

    name: str  # the variant's; with several last stages "real/prune"
    variant: Variant  # as the recipe has it, without the stages that its model does not need
    final: str  # the stage that makes its model
    parameters: tuple[Parameter, ...] = ()
    swaps: tuple[tuple[str, ...], ...] = ()  # stages that may swap places, each group a parameter
    layered: tuple[Vary, ...] = ()  # ratios per layer, while the names of the layers are unknown

    def written(self) -> dict[str, Any]:
        """The values of the recipe as it is written, as far as they are among those to choose from."""
        options = {stage.name: stage.use.config for stage in self.variant.stages}
        found = {parameter.name: _at(options, parameter.place) for parameter in self.parameters}
        found |= {_order_name(names): ", ".join(names) for names in self.swaps}
        return {p.name: found[p.name] for p in self.parameters if p.holds(found[p.name])}

    def with_layers(self, names: Mapping[str, Sequence[str]]) -> Strategy:
        """The same with a parameter for every layer. `names`: of the layers, by the option's name; one at least."""
        found = [
            replace(
                _parameter(vary),
                name=f"{option_name(vary)}[{layer}]",
                place=(vary.stage, *vary.option, layer),
            )
            for vary in self.layered
            for layer in names[option_name(vary)]
        ]
        return replace(self, parameters=(*self.parameters, *found), layered=())

    def at(self, values: Mapping[str, Any], name: str) -> tuple[Variant, str]:
        """The variant called `name` with these values, and the stage that makes its model.

        Raises CompressitError if a plugin does not take them.
        """
        stages, final = self.variant.stages, self.final
        for names in self.swaps:
            placed = str(values.get(_order_name(names), ", ".join(names))).split(", ")
            final = dict(zip(names, placed, strict=True)).get(final, final)
            swapped = reordered(stages, names, placed)
            if swapped is None:  # each group alone was tried when the recipe was read
                raise CompressitError(f"with {', '.join(placed)} the stages need each other in a circle")
            stages = swapped
        changes: dict[str, dict[tuple[str, ...], Any]] = {}
        for parameter in self.parameters:
            if parameter.place and parameter.name in values:
                stage, *option = parameter.place
                changes.setdefault(stage, {})[tuple(option)] = values[parameter.name]
        made = tuple(_changed(stage, changes.get(stage.name, {})) for stage in stages)
        return replace(self.variant, name=name, stages=made), final


def strategies_of(recipe: Recipe) -> tuple[Strategy, ...]:
    """The models that the recipe's variants end in, as far as something was compressed.

    Raises CompressitError if there are none, if one needs a model of another variant, or if nothing may vary.
    """
    roles = recipe.compare.strategies if recipe.compare is not None else {}
    own = [v for v in recipe.variants if v.name not in roles or not roles[v.name].control]
    found = tuple(strategy for variant in own for strategy in _strategies(variant, recipe))
    if not found:
        hint = "add a stage that compresses, such as prune.structured"
        raise CompressitError(f"{recipe.name} has nothing to search: no variant compresses anything", hint)
    varied = any(strategy.parameters or strategy.layered for strategy in found)
    if len(found) == 1 and not varied:
        raise CompressitError(
            f"{recipe.name} has nothing to search: no plugin of its stages marks a ratio",
            "say what may vary: `search: {stages.<stage>.with.<option>: {low: 0.2, high: 0.9}}`",
        )
    return found


def _strategies(variant: Variant, recipe: Recipe) -> Iterator[Strategy]:
    needs = {stage.name: _needed(stage, variant) for stage in variant.stages}
    taken = {name for wanted in needs.values() for name in wanted}
    last = [stage.name for stage in variant.stages if stage.name not in taken]
    for final in last:
        names = _closure(final, needs)
        stages = tuple(_single(stage) for stage in variant.stages if stage.name in names)
        if not any(isinstance(stage.use.plugin, Compressor) for stage in stages):
            continue
        dropped = {stage.name for stage in variant.stages} - names
        measures = tuple(kept for m in variant.evaluate if (kept := _kept(m, variant, dropped)) is not None)
        swaps = tuple(group for group in recipe.search.order if names >= {*group})
        ranges = _varied(variant, stages, recipe)
        own = [_parameter(vary) for vary in ranges if not vary.layers]
        yield Strategy(
            f"{variant.name}/{final}" if len(last) > 1 else variant.name,
            replace(variant, stages=stages, evaluate=measures),
            final,
            (*own, *(_order(group, stages) for group in swaps)),
            swaps,
            tuple(vary for vary in ranges if vary.layers),
        )


def _needed(stage: Stage, variant: Variant) -> set[str]:
    """The stages of its variant that a stage needs."""
    names = {other.name for other in variant.stages}
    for ref in stage.refs:
        if elsewhere(ref)[2] is not None:
            raise CompressitError(
                f"{variant.name}: {stage.name} names '{ref}', a model of another variant",
                "a search makes each trial alone: name a model of its own variant, or a checkpoint",
            )
    found = {stage_of(ref, names) for ref in stage.refs} | {stage.needs}
    return {name for name in found if name in names}


def _closure(final: str, needs: Mapping[str, Collection[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [final]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needs[name]
    return found


def _single(stage: Stage) -> Stage:
    """The stage without its `sweep`, with the options of its first member."""
    return replace(stage, sweep=(), members=(("", stage.use),))


def _kept(measure: Measure, variant: Variant, dropped: Collection[str]) -> Measure | None:
    """The measure without patterns that only name dropped stages; None if nothing is left, or if it names such a
    model."""
    names = {stage.name for stage in variant.stages}
    if any(stage_of(ref, names) in dropped for ref in measure.use.models):
        return None
    if measure.stages is None:
        return measure
    left = tuple(pattern for pattern in measure.stages if stage_of(pattern, names) not in dropped)
    return replace(measure, stages=left) if left else None


def _varied(variant: Variant, stages: Sequence[Stage], recipe: Recipe) -> list[Vary]:
    """What the recipe says, else the ratios that plugins mark; and the values of every `sweep`."""
    swept = {
        (stage.name, tuple(key.split(".")[1:])): values
        for stage in variant.stages
        for key, values in stage.sweep
        if any(stage.name == kept.name for kept in stages)
    }
    found = [Vary(stage, option, choices=tuple(values)) for (stage, option), values in swept.items()]
    asked = recipe.search.vary or tuple(_marked(stages))
    names = {stage.name for stage in stages}
    return found + [v for v in asked if v.stage in names and (v.stage, v.option) not in swept]


def _marked(stages: Sequence[Stage]) -> Iterator[Vary]:
    for stage in stages:
        for name in type(stage.use.plugin.config).model_fields:
            ratio = ratio_of(stage, (name,))
            if ratio is not None and not ratio.layers:
                yield Vary(stage.name, (name,), ratio.low, ratio.high)


def _parameter(vary: Vary) -> Parameter:
    place = (vary.stage, *vary.option)
    return Parameter(option_name(vary), place, vary.low, vary.high, vary.log, vary.whole, vary.choices)


def _order(names: Sequence[str], stages: Sequence[Stage]) -> Parameter:
    possible = [placed for placed in permutations(names) if reordered(stages, names, placed) is not None]
    return Parameter(_order_name(names), choices=tuple(", ".join(placed) for placed in possible))


def option_name(vary: Vary) -> str:
    """`stages.half.with.keep`."""
    return f"stages.{vary.stage}.with.{'.'.join(vary.option)}"


def _order_name(names: Sequence[str]) -> str:
    return f"order of {' and '.join(names)}"


def _changed(stage: Stage, changes: Mapping[tuple[str, ...], Any]) -> Stage:
    """The stage with these options, by their paths."""
    if not changes:
        return stage
    plugin = stage.use.plugin
    options = plugin.config.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for path, value in changes.items():
        here = options
        for part in path[:-1]:
            here = here.setdefault(part, {})
        here[path[-1]] = value
    use = replace(stage.use, plugin=type(plugin)(checked(plugin.Config, options, f"stages.{stage.name}")))
    return replace(stage, use=use, members=(("", use),))


def _at(options: Mapping[str, Any], place: Sequence[str]) -> Any:
    here: Any = options
    for part in place:
        here = here.get(part) if isinstance(here, Mapping) else None
    return here
