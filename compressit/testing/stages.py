"""Checks of what is called with a model: trainers, compressors and evaluators."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from compressit.checkpoint.tensors import same_bits
from compressit.contract import measure
from compressit.contract.context import StageContext
from compressit.errors import CompressitError
from compressit.running.apply import dry_run_plugin
from compressit.store.objects import Store
from compressit.store.progress import StoredProgress
from compressit.testing.check import ConformanceError, NotApplicable, check, none_found
from compressit.testing.fingerprint import changed
from compressit.testing.stand import Called, Net, call, stand
from compressit.testing.subject import Subject
from compressit.testing.watch import attributes, differing, left_on, quiet_place, tensors

STAGES = ("trainer", "compressor")
KILLS = 4
SIZES: Mapping[str, Callable[[nn.Module, Sequence[int]], int]] = {
    "parameters": lambda model, shape: measure.parameters(model),
    "nonzero": lambda model, shape: measure.nonzero(model),
    "bytes": lambda model, shape: measure.tensor_bytes(model),
    "macs": measure.macs,
}
"""Metrics and notes by these names are sizes of the whole model: what `compressit.contract.measure` counts."""


@check("evaluator")
def metrics_described(subject: Subject) -> None:
    """Every metric has a unit, says what is better and what it means."""
    metrics = subject.plugin.metrics  # type: ignore[attr-defined]
    if not metrics:
        raise ConformanceError(
            "it declares no metric", 'metrics = {"mine": Metric("higher", "fraction", "…")}'
        )
    for name, metric in metrics.items():
        if not re.fullmatch(r"\w+", name):
            raise ConformanceError(f"the metric '{name}' cannot be a column", "use letters, digits and '_'")
        if metric.better not in ("higher", "lower", "neither"):
            raise ConformanceError(f"{name}: better is '{metric.better}'", "higher, lower or neither")
        if not metric.unit.strip():
            raise ConformanceError(f"{name} has no unit", "fraction, bits, nats, bytes, seconds, count …")
        if not metric.about.strip():
            raise ConformanceError(f"{name} has no about", "say what it means")


@check(*STAGES, "evaluator")
def runs(subject: Subject) -> None:
    """It gives what its kind must give: what a run itself would refuse, it does not do."""
    called, place = _called(subject), stand(subject)
    if subject.kind != "evaluator":
        with quiet_place(subject):
            shape = tuple(place.logits(called.result).shape)
        if shape != (len(place.data.split("test")), place.data.classes):
            raise ConformanceError(
                f"the model it returned gives outputs {shape} for {len(place.data.split('test'))} inputs"
            )


@check("evaluator", needs=[runs])
def finite(subject: Subject) -> None:
    """A number that is not defined is left out."""
    values = _called(subject).result
    wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    none_found(wrong, "not finite", "leave a metric out where it is not defined: an empty cell says so")


@check("evaluator", needs=[finite])
def same_seed_same_numbers(subject: Subject) -> None:
    """Called again, it gives the same numbers, unless it declares `per_host`."""
    _check_repeatable(subject)
    none_found(
        changed(_called(subject).result, _again(subject).result),
        "called twice, it gives two values of",
        "draw from ctx.streams.generator(purpose); times and the like need `per_host = True`",
    )


@check(*STAGES, needs=[runs])
def nothing_left(subject: Subject) -> None:
    """No hook or gradient of its own is left on the model."""
    none_found(
        left_on(_called(subject).result),
        "it left on the model",
        "remove hooks in a finally, gradients with zero_grad(set_to_none=True)",
    )


@check("trainer", needs=[runs])
def leaves_frozen(subject: Subject) -> None:
    """A trainer leaves the values of parameters that want no gradient."""
    called = _called(subject)
    frozen = [name for name, p in called.before.named_parameters() if not p.requires_grad]
    before, now = ({n: tensors(model)[n] for n in frozen} for model in (called.before, called.result))
    none_found(
        differing(before, now),
        "it trained what is frozen",
        "give the optimizer the parameters that `requires_grad`",
    )


@check(*STAGES, "evaluator", needs=[runs])
def leaves_models(subject: Subject) -> None:
    """Models that others are given too (teachers, parents, the one it measures) are left as they were."""
    for lent in _called(subject).models:
        lent.check()


@check(*STAGES, "evaluator", needs=[runs])
def leaves_data(subject: Subject) -> None:
    """The data are left as they were: others are given the same tensors."""
    _called(subject).data.check()


@check(*STAGES, "evaluator", needs=[runs])
def restores_environment(subject: Subject) -> None:
    """Environment variables are as before."""
    variables = _again(subject).variables  # what an import sets, the second call does not
    none_found(variables, "it left environment variables changed", "restore them in a finally")


@check(*STAGES, needs=[runs])
def restores_modes(subject: Subject) -> None:
    """The model is all in train or all in eval mode, `requires_grad` is as before."""
    called = _called(subject)
    whole = called.result.training
    none_found(
        (name for name, module in called.result.named_modules() if module.training != whole),
        "the model is half in train mode, other than the whole are",
        "call model.eval() or model.train() before returning it",
    )
    before, now = (
        {name: p.requires_grad for name, p in model.named_parameters()}
        for model in (called.before, called.result)
    )
    none_found(
        (name for name in before if name in now and before[name] != now[name]),
        "requires_grad is no longer what it was",
        "give it back: the next stage could not train (or would train what was frozen)",
    )


@check(*STAGES, needs=[runs])
def same_seed_same_result(subject: Subject) -> None:
    """Called again with the same seed, it gives the same result to the last bit, unless it declares `per_host`."""
    _check_repeatable(subject)
    none_found(
        differing(tensors(_called(subject).result), tensors(_again(subject).result)),
        "called twice with the same seed, it gives two results",
        "draw from ctx.streams.generator(purpose), never from a generator of your own",
    )


@check(*STAGES, needs=[runs, nothing_left])
def saves_and_reloads(subject: Subject) -> None:
    """The model is saved and loaded again: to the last bit, with all its attributes."""
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
        "leave none on the model; what a layer of your own needs, its ModuleType describes",
    )


@check(*STAGES, "evaluator", needs=[runs])
def honest_sizes(subject: Subject) -> None:
    """Parameters, non-zeros, bytes and MACs are what `compressit.contract.measure` counts."""
    called, shape = _called(subject), stand(subject).data.contract.shape
    measures = subject.kind == "evaluator"
    model, told = (called.model, called.result) if measures else (called.result, called.ctx.notes)
    counted = {name: count(model, shape) for name, count in SIZES.items() if name in told}
    none_found(
        (f"{name} = {told[name]}, which is {size}" for name, size in counted.items() if told[name] != size),
        "wrong sizes",
        "these names have one meaning in every report: count with compressit.contract.measure, or choose another",
    )


@check(*STAGES, needs=[same_seed_same_result])
def resumes(subject: Subject) -> None:
    """Killed after each save of its progress and called again, it ends with the very same result."""
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
    none_found(
        [
            *differing(tensors(whole.result), tensors(again.result)),
            *changed(_noted(whole.ctx), _noted(again.ctx)),
        ],
        "after a kill it ends with other results",
        "fetch everything it goes on with from ctx.progress.load(): weights, optimizer, what was drawn",
    )


@check("compressor", needs=[runs])
def dry_runs(subject: Subject) -> None:
    """What its dry run gives has the shapes of what it gives."""

    tried = call(subject, dry_run_plugin, "init").result
    if tried is None:
        raise NotApplicable("it does not say its shapes before it is trained")
    wanted, got = (
        {name: tuple(value.shape) for name, value in tensors(model).items()}
        for model in (_called(subject).result, tried)
    )
    none_found(
        (f"{name} with shape {got.get(name)}, not {wanted.get(name)}" for name in changed(wanted, got)),
        "its dry run gives",
        "return None from `dry_run` where the shapes depend on trained weights",
    )


@check("compressor", needs=[saves_and_reloads])
def climbs(subject: Subject) -> None:
    """With `repeat`, the second round gives a model that can be saved, or says why not."""
    first = _round(subject, 1, "train", "previous")
    if first is not None:
        stand(subject).nets["round"] = first
        _round(subject, 2, "round", "previous")
    _round(subject, 2, "train", "original")


def _round(subject: Subject, number: int, ref: str, feed: Literal["previous", "original"]) -> Net | None:
    """What a round on that model gives; None where it says that it cannot."""

    told = f"as round {number} with `feed: {feed}`"
    try:
        called = call(subject, ref=ref, number=number, feed=feed)
    except CompressitError:
        return None
    except Exception as error:
        raise ConformanceError(
            f"{told} it raises {type(error).__name__}: {error}",
            "ctx.round and ctx.times() say how often; raise CompressitError where once is enough",
        ) from error
    try:
        with quiet_place(subject):
            return stand(subject).reloaded(called.net())
    except CompressitError as error:
        raise ConformanceError(f"{told} it gives a model that cannot be saved: {error.message}") from error


class _Killed(BaseException):
    """What a kill is here: no plugin's `except Exception` stops it."""


class _Killing(StoredProgress):
    """Saves whenever it is asked, and is killed by it."""

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


def _noted(ctx: StageContext) -> Mapping[str, Hashable]:
    """What the training loop tells of itself."""
    notes = {f"the note {name}": ctx.notes.get(name) for name in ("images_seen", "epochs")}
    return notes | {f"the curve {name}": str(points) for name, points in ctx.curves.items()}


def _contiguous(model: nn.Module) -> nn.Module:
    """A copy, its tensors laid out as a file's are: strides choose the kernels, and so the last bits of the outputs."""
    copied = copy.deepcopy(model)
    for value in (*copied.parameters(), *copied.buffers()):
        value.data = value.data.clone(memory_format=torch.contiguous_format)
    return copied
