"""Controls: what a strategy must beat to have shown anything. Variants that are made of variants.

Blalock et al., "What is the state of neural network pruning?" (2020), ask for random and magnitude pruning; Liu et
al., "Rethinking the value of network pruning" (2019), for the same shape from fresh weights and for a uniformly
narrower net.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from compressit.config import Config, dump, model_refs, parse
from compressit.contract.fit_options import FitConfig
from compressit.contract.kinds import Compressor
from compressit.contract.plugin import Plugin
from compressit.errors import FOREIGN, CompressitError, told
from compressit.host.plugins import Host
from compressit.recipe.envelope import INIT, PREVIOUS
from compressit.recipe.model import Measure, Stage, Strategy, Use, Variant
from compressit.recipe.names import elsewhere, series_of, stage_of
from compressit.recipe.references import covered
from compressit.recipe.ways import SCRATCH, Way, images_of, length, trainings, ways

KINDS = ("longer", "random", "magnitude", "scratch", "thin")
_LONGER, _THIN = "train.supervised", "shrink.thin"


@dataclass(frozen=True)
class Control:
    """A control, before it has a name: its variant is called as the first strategy that it serves."""

    kind: str
    variant: Variant
    of: tuple[str, ...]

    def named(self, alone: bool) -> Variant:
        """The variant under the control's name. `alone`: there is no other of its kind."""
        return replace(self.variant, name=self.kind if alone else f"{self.kind}-{self.of[0]}")


def with_controls(
    variants: Sequence[Variant], kinds: Collection[str], host: Host
) -> tuple[dict[str, Strategy], list[Variant]]:
    """What each variant is in the comparison, strategies first, and the controls' variants. A control of several
    strategies appears once, and one that is a strategy itself not at all.

    Raises CompressitError for a plugin that fails, and if one that a control needs is not installed.
    """
    found = list(_once([c for kind in KINDS if kind in kinds for c in _made(kind, variants, host)], variants))
    counts = {kind: sum(control.kind == kind for control in found) for kind in KINDS}
    controls = [control.named(counts[control.kind] == 1) for control in found]
    roles = {variant.name: _strategy(variant) for variant in variants}
    for control, variant in zip(found, controls, strict=True):
        whole = control.kind == "longer" and counts["longer"] == 1
        roles[variant.name] = _strategy(variant, control.kind, () if whole else control.of)
    return roles, controls


def _strategy(variant: Variant, control: str = "", of: tuple[str, ...] = ()) -> Strategy:
    found = ways(variant)
    final = tuple(way.final for way in found) or variant.model.names
    return Strategy(
        final, _most(way.epochs() for way in found), _most(way.recovery() for way in found), control, of
    )


def _most(epochs: Iterable[int | None]) -> int | None:
    known = list(epochs)
    return None if None in known else max(filter(None, known), default=0)


def _made(kind: str, variants: Sequence[Variant], host: Host) -> Iterator[Control]:
    """The controls of a kind. Those of several strategies may be equal."""
    if kind == "longer":
        yield from _longer(variants, host)
        return
    make = {"scratch": _scratch, "thin": _thin}.get(kind, partial(_other_choice, kind))
    for variant in variants:
        made = make(variant, host)
        if made is not None:
            yield Control(kind, made, (variant.name,))


def _once(controls: Sequence[Control], variants: Sequence[Variant]) -> Iterator[Control]:
    """Without those that are strategies; of equal ones the first, which serves the strategies of all."""
    strategies = {_content(variant) for variant in variants}
    grouped: dict[tuple[str, str], list[Control]] = {}
    for control in controls:
        content = _content(control.variant)
        if content not in strategies:
            grouped.setdefault((control.kind, content), []).append(control)
    for first, *others in grouped.values():
        served = [name for control in (first, *others) for name in control.of]
        yield replace(first, of=tuple(dict.fromkeys(served)))


# Each kind


def _longer(variants: Sequence[Variant], host: Host) -> Iterator[Control]:
    """For strategies of one original: that, trained on for as long as the one of them that trains longest."""
    groups: dict[str, list[Way]] = {}
    for variant in variants:
        for way in ways(variant):
            if way.original is not None:
                groups.setdefault(_content(_upto_original(way)), []).append(way)
    for found in groups.values():
        most = max(found, key=lambda way: way.recovery() or 0)
        base = next((options for way in found for options in _after(way)), None)
        if base is None or not most.recovery():
            continue
        start = _upto_original(found[0])
        name = _free("longer", start)
        use = _training(_LONGER, base, most.recovery() or 0, images_of(start), host)
        stage = _stage(name, use, cast("str", found[0].original))
        names = [other.name for other in start.stages]
        measures = [m for m in start.evaluate if all(_exists(ref, names) for ref in m.use.models)]
        longer = replace(start, stages=(*start.stages, stage), evaluate=tuple(measures))
        made = _measured(longer, found[0].variant, {way.final: name for way in found[:1]})
        yield Control("longer", made, tuple(dict.fromkeys(way.variant.name for way in found)))


def _other_choice(kind: str, variant: Variant, host: Host) -> Variant | None:
    """The strategy with the choices of its compressors made otherwise; None if none of them can."""
    stages = tuple(_replaced(stage, kind) for stage in variant.stages)
    return None if stages == variant.stages else replace(variant, stages=stages)


def _scratch(variant: Variant, host: Host) -> Variant | None:
    """The strategy, then its shape trained from fresh weights; None if it has no shape of its own, or does that."""
    added: dict[str, Stage] = {}
    found = [way for way in ways(variant) if way.compresses and way.stages[-1].use.uses != SCRATCH]
    for way in found:
        use = _from_fresh(way, host)
        if use is not None:
            name = _free("scratch", variant, way.final if len(found) > 1 else "")
            added[way.final] = _stage(name, use, way.final)
    if not added:
        return None
    grown = replace(variant, stages=(*variant.stages, *added.values()))
    return _measured(grown, variant, {final: stage.name for final, stage in added.items()})


def _thin(variant: Variant, host: Host) -> Variant | None:
    """The strategy, then a uniformly narrower net of what it costs, trained from fresh weights."""
    added: list[Stage] = []
    last: dict[str, str] = {}
    found = [
        way for way in ways(variant) if way.compresses and not any(s.use.uses == _THIN for s in way.stages)
    ]
    for way in found:
        use = _from_fresh(way, host)
        if use is not None:
            of = way.original or INIT
            suffix = way.final if len(found) > 1 else ""
            thin = _stage(_free("thin", variant, suffix), _use(_THIN, {"of": of}, host), way.final)
            added += [thin, _stage(_free("scratch", variant, suffix), use, thin.name)]
            last[way.final] = added[-1].name
    if not added:
        return None
    made = replace(variant, stages=(*variant.stages, *added))
    return _measured(made, variant, last, fresh=[stage.name for stage in added if stage.use.uses == _THIN])


# Their parts


def _after(way: Way) -> Iterator[FitConfig]:
    """The trainings after the original."""
    return (options for stage in way.after for _, use in stage.members for options in trainings(use))


def _from_fresh(way: Way, host: Host) -> Use | None:
    """The training of a shape from fresh weights, for as many epochs as its strategy trains in all; None if it does
    not train. Its options are those of the original's training, or, where that was given, of the recovery."""
    base = next((o for stage in way.stages for _, use in stage.members for o in trainings(use)), None)
    epochs = way.epochs()
    return _training(SCRATCH, base, epochs, images_of(way.variant), host) if base and epochs else None


def _training(name: str, base: FitConfig, epochs: int, images: int | None, host: Host) -> Use:
    """The trainer `name` with the options of `base` that it has, for so many epochs."""
    theirs = _plugin(name, host).Config.__mro__
    shared = next(config for config in theirs if issubclass(config, FitConfig) and isinstance(base, config))
    options = {key: value for key, value in dump(base).items() if key in shared.model_fields}
    longer = epochs / (length(base, images) or epochs)
    if base.steps is None:
        options["epochs"] = epochs
    else:
        options["steps"] = round(base.steps * longer)
    if base.schedule.milestones:
        moved = [round(milestone * longer) for milestone in base.schedule.milestones]
        options["schedule"] = {**options["schedule"], "milestones": moved}
    return _use(name, options, host)


def _use(name: str, options: Mapping[str, Any], host: Host) -> Use:
    plugin = _plugin(name, host)
    return _used(plugin(parse(plugin.Config, options)))


def _plugin(name: str, host: Host) -> type[Plugin[Any]]:
    """Raises CompressitError if it is not installed."""
    try:
        return host.find(name).plugin
    except CompressitError as error:
        hint = "choose others by `controls`, or `controls: false`"
        raise CompressitError(f"a control needs {name}: {error.message}", hint) from error


def _used(plugin: Plugin[Any]) -> Use:
    return Use(plugin, tuple(ref for _, ref in model_refs(plugin.config)))


def _stage(name: str, use: Use, needs: str) -> Stage:
    return Stage(name, use, needs, members=(("", use),), refs=use.models)


def _replaced(stage: Stage, kind: str) -> Stage:
    """The stage with each member's choice made in that way; the very same if none can or all do."""
    members = tuple((label, _alternative(use, kind) or use) for label, use in stage.members)
    same = all(new is old for (_, new), (_, old) in zip(members, stage.members, strict=True))
    return stage if same else replace(stage, use=members[0][1], members=members)


def _alternative(use: Use, kind: str) -> Use | None:
    plugin = use.plugin
    if not isinstance(plugin, Compressor):
        return None
    try:
        config: Config | None = plugin.alternatives().get(kind)
        changed = config is not None and dump(config) != use.config
        return _used(type(plugin)(parse(plugin.Config, dump(config)))) if changed and config else None
    except FOREIGN as error:  # third-party code
        raise CompressitError(
            f"`alternatives` of {plugin.name} fails: {told(error)}",
            "this is a bug in the plugin, not in the recipe",
        ) from error


def _upto_original(way: Way) -> Variant:
    """The variant without what follows the original."""
    return replace(way.variant, stages=() if way.original == INIT else way.stages[:1])


def _measured(made: Variant, like: Variant, last: Mapping[str, str], fresh: Collection[str] = ()) -> Variant:
    """`made`, whose stages `last[final]` are measured as `like` measures its `final`, and those of `fresh` weights
    only where patterns name them."""
    models = series_of(like.stages, like.model.names)
    first = [INIT] if made.model.given else []
    trained = (*first, *(stage.name for stage in made.stages if stage.name not in fresh))

    def measure(found: Measure) -> Measure:
        if found.stages is None:
            return replace(found, stages=trained) if fresh else found
        new = [name for final, name in last.items() if covered(found, models[final], like.model.given)]
        return replace(found, stages=(*found.stages, *new))

    return replace(made, evaluate=tuple(map(measure, made.evaluate)))


def _free(name: str, variant: Variant, suffix: str = "") -> str:
    """A name that no stage of the variant has, nor a round."""
    taken = [stage.name for stage in variant.stages]
    name = f"{name}-{suffix}" if suffix else name
    while stage_of(name, taken) is not None:
        name += "-control"
    return name


def _exists(ref: str, stages: Sequence[str]) -> bool:
    """Whether a model that a measure names is there, in a variant of these stages."""
    own = ref not in (INIT, PREVIOUS) and not ref.endswith(".safetensors") and elsewhere(ref)[2] is None
    return not own or stage_of(ref, stages) is not None


def _content(variant: Variant) -> str:
    """What its models depend on, to compare."""
    model = variant.model
    stages = [
        (s.name, s.needs, s.repeat, s.feed, [(label, use.to_json()) for label, use in s.members])
        for s in variant.stages
    ]
    first = [
        model.use and model.use.to_json(),
        model.checkpoint,
        model.weights,
        dump(model.init),
        model.files,
    ]
    return json.dumps([variant.data.to_json(), variant.task.to_json(), first, stages], default=str)
