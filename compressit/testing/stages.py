"""Checks of trainers and compressors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.tensors import same_bits
from compressit.contract.kinds import Compressor
from compressit.running.apply import (
    check_changed,
    check_notes,
    check_plain,
    check_shapes_kept,
    dry_run_plugin,
)
from compressit.store.objects import Store
from compressit.store.progress import StoredProgress
from compressit.testing.check import ConformanceError, NotApplicable, check
from compressit.testing.sizes import wrong_sizes
from compressit.testing.stand import Called, call, given, stand
from compressit.testing.subject import Subject
from compressit.testing.watch import (
    attributes,
    changed,
    check_environment,
    check_settings,
    differing,
    gradients,
    left_on,
    quiet_place,
    state,
)

KILLS = 4


@check()
def runs(subject: Subject) -> None:
    """It gives back a model that computes logits."""
    result = _called(subject).result
    if not isinstance(result, nn.Module):
        kind = "nothing" if result is None else f"a {type(result).__name__}"
        raise ConformanceError(
            f"it returned {kind}, not a model", "return it, also where it was changed in place"
        )
    place = stand(subject)
    with quiet_place(subject):
        outputs = tuple(place.logits(result).shape)
    if outputs != (len(place.data.test), place.data.classes):
        raise ConformanceError(
            f"the model it returned gives outputs {outputs} for {len(place.data.test)} inputs"
        )


@check(runs)
def nothing_left(subject: Subject) -> None:
    """No hook, gradient or parametrization of its own is left on the model."""
    called = _called(subject)
    check_plain(subject.name, called.given.before, called.result)
    left = [what for what in left_on(called.result) if what not in called.given.watched.extras]
    if left:
        raise ConformanceError(
            f"it left on the model: {', '.join(left[:5])}",
            "remove hooks in a finally, gradients with zero_grad(set_to_none=True)",
        )


@check(runs)
def keeps_shapes(subject: Subject) -> None:
    """A trainer keeps the name and shape of every tensor."""
    called = _called(subject)
    check_shapes_kept(subject.name, called.given.before, called.result)


@check(keeps_shapes)
def leaves_frozen(subject: Subject) -> None:
    """A trainer leaves the values of parameters that want no gradient."""
    watched, now = _called(subject).given.watched, state(_called(subject).result)
    frozen = [name for name, wanted in watched.wants_gradient.items() if not wanted]
    names = differing(*({name: tensors[name] for name in frozen} for tensors in (watched.tensors, now)))
    if names:
        raise ConformanceError(
            f"it trained what is frozen: {', '.join(names)}",
            "give the optimizer the parameters that `requires_grad`",
        )


@check(runs)
def changes_something(subject: Subject) -> None:
    """A compressor changes the model."""
    called = _called(subject)
    check_changed(subject.name, called.given.before, called.result)


@check(runs)
def notes_are_json(subject: Subject) -> None:
    """What it notes can be written into results.json."""
    check_notes(subject.name, _called(subject).given.ctx.notes)


@check(runs)
def leaves_models(subject: Subject) -> None:
    """Teachers and parents it asks for are left as they were: others are given the same ones."""
    for other in _called(subject).given.others:
        other.check_content("a model it asked for")
        other.check_modes("a model it asked for")


@check(runs)
def leaves_data(subject: Subject) -> None:
    """The data are left as they were: others are given the same tensors."""
    _called(subject).given.data.check()


@check(runs)
def restores_modes(subject: Subject) -> None:
    """The model is all in train or all in eval mode, `requires_grad` and settings of the process are as before."""
    called = _called(subject)
    check_settings(*called.settings)
    check_environment(*_again(subject).environment)  # what an import sets, the second call does not
    mixed = [
        name for name, module in called.result.named_modules() if module.training != called.result.training
    ]
    if mixed:
        raise ConformanceError(
            f"the model is half in train mode: {', '.join(mixed[:5])} differ from the whole",
            "call model.eval() or model.train() before returning it",
        )
    now = gradients(called.result)
    kept = {name: wanted for name, wanted in called.given.watched.wants_gradient.items() if name in now}
    if other := changed(kept, {name: now[name] for name in kept}):
        raise ConformanceError(
            f"requires_grad is no longer what it was: {', '.join(other[:5])}",
            "give it back: the next stage could not train (or would train what was frozen)",
        )


@check(runs)
def same_seed_same_result(subject: Subject) -> None:
    """Called again with the same seed, it gives the same result to the last bit, unless it declares `per_host`."""
    _repeatable(subject)
    one, other = _called(subject).result, _again(subject).result
    _check_same(one, other, "called twice with the same seed, it gives two results")


@check(runs, nothing_left)
def saves_and_reloads(subject: Subject) -> None:
    """The model is saved and loaded again: to the last bit, with all its attributes."""
    called, place = _called(subject), stand(subject)
    path = subject.folder / "stand" / "result.safetensors"
    with quiet_place(subject):
        checkpoint.save(
            called.result, path, called.given.built_as(called.result), place.data.contract, subject.host
        )
        loaded = checkpoint.load(path, host=subject.host)
        wanted, got = place.logits(_contiguous(called.result)), place.logits(loaded)
    if not same_bits(wanted, got):
        raise ConformanceError(
            f"the loaded model's outputs differ by up to {float((wanted - got).abs().max()):.2g}"
        )
    lost = sorted(attributes(called.result) - attributes(loaded))
    if lost:
        raise ConformanceError(
            f"the loaded model has no attribute {', '.join(lost[:5])}",
            "leave none on the model; what a layer of your own needs, its ModuleType describes",
        )


@check(runs)
def honest_sizes(subject: Subject) -> None:
    """Sizes it notes are those of the model."""
    called, place = _called(subject), stand(subject)
    wrong = wrong_sizes(called.given.ctx.notes, called.result, place.data.contract.shape)
    if wrong:
        raise ConformanceError(
            f"it noted {wrong}", "count with compressit.contract.measure, or give the note a name of its own"
        )


@check(same_seed_same_result)
def resumes(subject: Subject) -> None:
    """Killed after each save of its progress and called again, it ends with the very same result."""
    _repeatable(subject)
    store = Store(subject.folder / "killed")
    whole, again = _called(subject), None
    for kill in range(KILLS + 1):
        try:
            again = call(subject, _Killing(store, kill < KILLS))
            break
        except _Killed:
            continue
    assert again is not None
    hint = "fetch everything it goes on with from ctx.progress.load(): weights, optimizer, what was drawn"
    _check_same(whole.result, again.result, "after a kill it ends with another result", hint)
    for name in ("images_seen", "epochs"):
        one, other = whole.given.ctx.notes.get(name), again.given.ctx.notes.get(name)
        if one != other:
            raise ConformanceError(f"after a kill it notes {name} = {other}, otherwise {one}", hint)
    if whole.given.ctx.curves != again.given.ctx.curves:
        curves = ", ".join(changed(whole.given.ctx.curves, again.given.ctx.curves))
        raise ConformanceError(f"after a kill these curves are others: {curves}", hint)


@check(runs)
def dry_runs(subject: Subject) -> None:
    """What its dry run gives has the shapes of what it gives."""
    plugin = subject.create()
    assert isinstance(plugin, Compressor)
    fresh = given(subject, "init")
    with quiet_place(subject):
        tried = dry_run_plugin(plugin, fresh.model, fresh.ctx)
    if tried is None:
        raise NotApplicable("it does not say its shapes before it is trained")
    wanted, got = _shapes(_called(subject).result), _shapes(tried)
    if other := changed(wanted, got):
        name = other[0]
        raise ConformanceError(
            f"its dry run gives {name} with shape {got.get(name)}, and gives {wanted.get(name)}",
            "return None from `dry_run` where the shapes depend on trained weights",
        )


_FIRST = (runs, nothing_left)
_THEN = (
    notes_are_json, leaves_models, leaves_data, restores_modes, same_seed_same_result, saves_and_reloads,
    honest_sizes, resumes,
)  # fmt: skip
TRAINER = (*_FIRST, keeps_shapes, leaves_frozen, *_THEN)
COMPRESSOR = (*_FIRST, changes_something, *_THEN, dry_runs)


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


def _repeatable(subject: Subject) -> None:
    if subject.per_host:
        raise NotApplicable("it measures this machine (`per_host`)")


def _called(subject: Subject) -> Called:
    return subject.keep("called", lambda: call(subject))


def _again(subject: Subject) -> Called:
    return subject.keep("called again", lambda: call(subject))


def _contiguous(model: nn.Module) -> nn.Module:
    """A copy, its tensors laid out as a file's are: strides choose the kernels, and so the last bits of the outputs."""
    copied = copy.deepcopy(model)
    for value in (*copied.parameters(), *copied.buffers()):
        value.data = value.data.clone(memory_format=torch.contiguous_format)
    return copied


def _check_same(one: nn.Module, other: nn.Module, message: str, hint: str | None = None) -> None:
    names = differing(state(one), state(other))
    if names:
        hint = hint or "draw from ctx.streams.generator(purpose), never from a generator of your own"
        raise ConformanceError(f"{message}: {', '.join(names[:5])}", hint)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state(model).items()}
