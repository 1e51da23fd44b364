"""Checks of plugins that are called with a model: trainers, compressors and evaluators."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from compressit.checkpoint.tensors import same_bits
from compressit.config import dump, parse
from compressit.contract import measure
from compressit.contract.context import StageContext
from compressit.contract.records import Curve, File, Metric
from compressit.datasets.specs import Inputs
from compressit.errors import CompressitError
from compressit.host.declared import declared
from compressit.running.apply import dry_run_plugin
from compressit.store.objects import Store
from compressit.store.progress import StoredProgress
from compressit.testing.check import ConformanceError, NotApplicable, check, none_found
from compressit.testing.fingerprint import changed
from compressit.testing.stand import Called, Net, call, check_task, stand
from compressit.testing.subject import Subject
from compressit.testing.watch import attributes, differing, left_on, quiet_place, tensors

STAGES = ("trainer", "compressor")
KILLS = 4
SIZES: Mapping[str, Callable[[nn.Module, Inputs], int]] = {
    "parameters": lambda model, inputs: measure.parameters(model),
    "nonzero": lambda model, inputs: measure.nonzero(model),
    "bytes": lambda model, inputs: measure.tensor_bytes(model),
    "macs": measure.macs,
}
"""Metrics and notes with these names are sizes of the whole model, as `compressit.contract.measure` counts them."""


@check("evaluator")
def results_described(subject: Subject) -> None:
    """All that it declares has a description; numbers have a unit and a direction, curves labels of both axes."""
    check_task(subject.create())
    found = declared(subject.create(), stand(subject).task)
    if not found:
        raise ConformanceError(
            "it declares nothing", 'set metrics = {"mine": Metric("higher", "fraction", "…")}'
        )
    for name, what in found.items():
        if not isinstance(what, File) and not re.fullmatch(r"\w+", name):
            raise ConformanceError(f"'{name}' is not a valid name", "use letters, digits and '_'")
        if isinstance(what, Metric) and what.better not in ("higher", "lower", "neither"):
            raise ConformanceError(f"{name}: better is '{what.better}'", "use higher, lower or neither")
        if isinstance(what, Metric) and not what.unit.strip():
            raise ConformanceError(f"{name} has no unit", "use fraction, bits, nats, bytes, seconds, count …")
        if isinstance(what, Curve) and not (what.x.strip() and what.y.strip()):
            raise ConformanceError(f"{name} has no labels", 'Curve("epoch", "cross-entropy (nats)", "…")')
        if not what.about.strip():
            raise ConformanceError(f"{name} has no description", "set `about` to what it means")


@check(*STAGES, "evaluator")
def runs(subject: Subject) -> None:
    """It returns a valid result for its kind, as a run requires."""
    called, place = _called(subject), stand(subject)
    if subject.kind != "evaluator":
        with quiet_place(subject):
            shape = tuple(place.logits(called.result).shape)
        if shape != (len(place.data.split("test")), place.data.classes):
            raise ConformanceError(
                f"the returned model gives outputs of shape {shape} for {len(place.data.split('test'))} inputs"
            )


@check("evaluator", needs=[runs])
def finite(subject: Subject) -> None:
    """All returned metrics and logged points are finite."""
    called = _called(subject)
    points = [(name, value) for name, curve in called.ctx.curves.items() for _, value in curve]
    values = [*called.result.items(), *points]
    wrong = [f"{name} is {value}" for name, value in values if not math.isfinite(value)]
    none_found(wrong, "not finite", "omit what is not defined: a cell stays empty, a line has a gap")


@check("evaluator", needs=[finite])
def same_seed_same_numbers(subject: Subject) -> None:
    """Calling it twice gives the same numbers, curves, arrays and pictures, unless it declares `per_host`."""
    _check_repeatable(subject)
    none_found(
        changed(_given(_called(subject)), _given(_again(subject))),
        "calling it twice gives different values of",
        "draw from ctx.streams.generator(purpose); set `per_host = True` for times and the like",
    )


@check(*STAGES, needs=[runs])
def nothing_left(subject: Subject) -> None:
    """It leaves no hooks or gradients on the model."""
    none_found(
        left_on(_called(subject).result),
        "it left on the model",
        "remove hooks in a `finally`, and gradients with zero_grad(set_to_none=True)",
    )


@check("trainer", needs=[runs])
def leaves_frozen(subject: Subject) -> None:
    """It does not change parameters with `requires_grad=False`."""
    called = _called(subject)
    frozen = [name for name, p in called.before.named_parameters() if not p.requires_grad]
    before, now = ({n: tensors(model)[n] for n in frozen} for model in (called.before, called.result))
    none_found(
        differing(before, now),
        "it changed frozen parameters",
        "pass only parameters with requires_grad=True to the optimizer",
    )


@check(*STAGES, "evaluator", needs=[runs])
def leaves_models(subject: Subject) -> None:
    """It leaves shared models (teachers, parents, the model it measures) unchanged."""
    for lent in _called(subject).models:
        lent.check()


@check(*STAGES, "evaluator", needs=[runs])
def leaves_data(subject: Subject) -> None:
    """It leaves the data unchanged, since other jobs share the tensors."""
    _called(subject).data.check()


@check(*STAGES, "evaluator", needs=[runs])
def restores_environment(subject: Subject) -> None:
    """It leaves environment variables unchanged."""
    variables = _again(subject).variables  # of the second call: imports may set some in the first
    none_found(variables, "it changed environment variables", "restore them in a `finally`")


@check(*STAGES, needs=[runs])
def restores_modes(subject: Subject) -> None:
    """The whole model is in train or in eval mode, and `requires_grad` is unchanged."""
    called = _called(subject)
    whole = called.result.training
    none_found(
        (name for name, module in called.result.named_modules() if module.training != whole),
        "parts of the model are in another mode than the whole",
        "call model.eval() or model.train() before returning it",
    )
    before, now = (
        {name: p.requires_grad for name, p in model.named_parameters()}
        for model in (called.before, called.result)
    )
    none_found(
        (name for name in before if name in now and before[name] != now[name]),
        "requires_grad was changed",
        "restore it: otherwise the next stage cannot train, or trains frozen parameters",
    )


@check(*STAGES, needs=[runs])
def same_seed_same_result(subject: Subject) -> None:
    """The same seed gives the same result bit for bit, unless it declares `per_host`."""
    _check_repeatable(subject)
    none_found(
        differing(tensors(_called(subject).result), tensors(_again(subject).result)),
        "calling it twice with the same seed gives different tensors",
        "draw from ctx.streams.generator(purpose), never from your own generator",
    )


@check(*STAGES, needs=[runs, nothing_left])
def saves_and_reloads(subject: Subject) -> None:
    """After saving and loading, the model has the same outputs, bit for bit, and attributes."""
    called, place = _called(subject), stand(subject)
    with quiet_place(subject):
        loaded = place.reloaded(called.net()).module
        wanted, got = place.logits(_contiguous(called.result)), place.logits(loaded)
    if not same_bits(wanted, got):
        raise ConformanceError(
            f"the loaded model's outputs differ by up to {float((wanted - got).abs().max()):.2g}"
        )
    none_found(
        sorted(attributes(called.result) - attributes(loaded)),
        "the loaded model lacks the attributes",
        "do not set attributes on the model; describe those of custom layers in their ModuleType",
    )


@check(*STAGES, "evaluator", needs=[runs])
def honest_sizes(subject: Subject) -> None:
    """Parameters, non-zeros, bytes and MACs match `compressit.contract.measure`."""
    called, inputs = _called(subject), stand(subject).data.contract.inputs
    measures = subject.kind == "evaluator"
    model, told = (called.model, called.result) if measures else (called.result, called.ctx.notes)
    counted = {name: count(model, inputs) for name, count in SIZES.items() if name in told}
    none_found(
        (f"{name} = {told[name]}, not {size}" for name, size in counted.items() if told[name] != size),
        "wrong sizes",
        "these names have a fixed meaning: count with compressit.contract.measure, or use another name",
    )


@check(*STAGES, "evaluator", needs=[same_seed_same_result, same_seed_same_numbers])
def resumes(subject: Subject) -> None:
    """If killed after each save of its progress and resumed, it gives exactly the same result."""
    _check_repeatable(subject)
    store = Store(subject.folder / "killed")
    whole, again = _called(subject), None
    for kill in range(KILLS + 1):
        try:
            again = call(subject, progress=_Killing(store, kill < KILLS))
            break
        except _Killed:
            continue
    assert again is not None
    measures = subject.kind == "evaluator"
    none_found(
        changed(_given(whole), _given(again))
        if measures
        else [
            *differing(tensors(whole.result), tensors(again.result)),
            *changed(_noted(whole.ctx), _noted(again.ctx)),
        ],
        "resuming after a kill gives different results",
        "restore everything from ctx.progress.load(): weights, optimizer state, random draws",
    )


@check("compressor", needs=[runs])
def dry_runs(subject: Subject) -> None:
    """Its dry run gives the same shapes as the real result."""

    tried = call(subject, dry_run_plugin, "init").result
    if tried is None:
        raise NotApplicable("it does not know its shapes before training")
    wanted, got = (
        {name: tuple(value.shape) for name, value in tensors(model).items()}
        for model in (_called(subject).result, tried)
    )
    none_found(
        (f"{name} with shape {got.get(name)}, not {wanted.get(name)}" for name in changed(wanted, got)),
        "its dry run gives",
        "return None from `dry_run` if the shapes depend on trained weights",
    )


@check("compressor")
def alternatives_valid(subject: Subject) -> None:
    """What it offers as controls are options of its own."""
    plugin = subject.create()
    for kind, config in plugin.alternatives().items():
        if kind not in ("random", "magnitude"):
            raise ConformanceError(f"`alternatives` has '{kind}'", "the controls are random and magnitude")
        if not isinstance(config, plugin.Config):
            raise ConformanceError(
                f"`alternatives` gives {type(config).__name__} for '{kind}', not {plugin.Config.__name__}",
                'return self.config.model_copy(update={"score": "random"})',
            )
        parse(plugin.Config, dump(config))
        again = type(plugin)(config).alternatives().get(kind)
        if again != config:
            raise ConformanceError(f"the alternative of its alternative '{kind}' is another one")


@check("compressor", needs=[saves_and_reloads])
def climbs(subject: Subject) -> None:
    """With `repeat`, the second round returns a model that can be saved, or raises CompressitError."""
    first = _round(subject, 1, "train", "previous")
    if first is not None:
        stand(subject).nets["round"] = first
        _round(subject, 2, "round", "previous")
    _round(subject, 2, "train", "original")


def _round(subject: Subject, number: int, ref: str, feed: Literal["previous", "original"]) -> Net | None:
    """The result of a round on that model; None if the plugin raises CompressitError."""

    told = f"in round {number} with `feed: {feed}`"
    try:
        called = call(subject, ref=ref, number=number, feed=feed)
    except CompressitError:
        return None
    except Exception as error:
        raise ConformanceError(
            f"{told} it raises {type(error).__name__}: {error}",
            "see ctx.round and ctx.times(); raise CompressitError if only one round is possible",
        ) from error
    try:
        with quiet_place(subject):
            return stand(subject).reloaded(called.net())
    except CompressitError as error:
        raise ConformanceError(f"{told} it returns a model that cannot be saved: {error.message}") from error


class _Killed(BaseException):
    """Simulates a kill; a plugin's `except Exception` does not catch it."""


class _Killing(StoredProgress):
    """Saves at every opportunity, then simulates a kill."""

    def __init__(self, store: Store, kills: bool) -> None:
        super().__init__(store, "0" * 64, 0.0, _refuse)
        self._kills = kills

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        super().save(tensors, facts)
        if self._kills:
            raise _Killed


def _refuse(text: str) -> None:
    raise ConformanceError(text)


def _check_repeatable(subject: Subject) -> None:
    if subject.per_host:
        raise NotApplicable("it measures this machine (`per_host`)")


def _called(subject: Subject) -> Called:
    return subject.keep("called", lambda: call(subject))


def _again(subject: Subject) -> Called:
    return subject.keep("called again", lambda: call(subject))


def _given(called: Called) -> dict[str, Hashable]:
    """All that an evaluator gave: numbers, curves, arrays and pictures."""
    found: dict[str, Hashable] = dict(called.result)
    found |= {f"the curve {name}": str(points) for name, points in called.ctx.curves.items()}
    found |= {f"the picture {name}": png for name, png in called.ctx.pictures.items()}
    found |= {f"the file {name}": content for name, content in called.ctx.files.items()}
    arrays = called.ctx.arrays.items()
    return found | {f"the array {name}": (a.dtype.name, a.shape, a.tobytes()) for name, a in arrays}


def _noted(ctx: StageContext) -> Mapping[str, Hashable]:
    """The notes and curves of the training loop."""
    notes = {f"the note {name}": ctx.notes.get(name) for name in ("images_seen", "epochs")}
    return notes | {f"the curve {name}": str(points) for name, points in ctx.curves.items()}


def _contiguous(model: nn.Module) -> nn.Module:
    """A copy with contiguous tensors, as loaded from a file: strides affect the last bits of outputs."""
    copied = copy.deepcopy(model)
    for value in (*copied.parameters(), *copied.buffers()):
        value.data = value.data.clone(memory_format=torch.contiguous_format)
    return copied
