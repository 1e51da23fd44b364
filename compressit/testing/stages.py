"""Checks of trainers and compressors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compressit import measure
from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import read_header
from compressit.execute.apply import (
    check_changed,
    check_notes,
    check_plain,
    check_shapes_kept,
    rehearse_plugin,
)
from compressit.execute.progress import StoredProgress
from compressit.kinds import Compressor
from compressit.store import Store
from compressit.testing.check import ConformanceError, NotApplicable, check
from compressit.testing.stand import Called, call, given, stand
from compressit.testing.subject import Subject
from compressit.testing.watch import changed, check_switches, differing, gradients, hooks, quiet_place, state

KILLS = 4
SIZES = {
    "parameters": measure.parameters, "nonzero": measure.nonzero, "bytes": measure.tensor_bytes,
}  # fmt: skip
"""Notes by these names are sizes of the whole model: what `compressit.measure` counts."""


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
    """No hook and no parametrization of its own is left on the model."""
    called = _called(subject)
    check_plain(subject.name, called.given.before, called.result)
    left = [name for name in hooks(called.result) if name not in called.given.watched.hooks]
    if left:
        raise ConformanceError(f"it left a hook on {', '.join(left[:5])}", "remove it in a finally")


@check(runs)
def keeps_shapes(subject: Subject) -> None:
    """A trainer keeps the name and shape of every tensor."""
    called = _called(subject)
    check_shapes_kept(subject.name, called.given.before, called.result)


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
    """The model is all in train or all in eval mode, `requires_grad` and torch's settings are as before."""
    called = _called(subject)
    check_switches(*called.switches)
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
    """Called again with the same seed, it gives the same result to the last bit."""
    one, other = _called(subject).result, call(subject).result
    _check_same(one, other, "called twice with the same seed, it gives two results")


@check(runs, nothing_left)
def saves_and_reloads(subject: Subject) -> None:
    """The model is saved and loaded again with the same tensors and outputs."""
    called, place = _called(subject), stand(subject)
    path = subject.folder / "stand" / "result.safetensors"
    with quiet_place(subject):
        checkpoint.save(
            called.result, path, called.given.built_as(called.result), place.data.contract, subject.host
        )
        loaded = checkpoint.load(path, host=subject.host)
        difference = (place.logits(called.result) - place.logits(loaded)).abs().max()
    _check_same(called.result, loaded, "the loaded model is another")
    if not float(difference) < 1e-4:
        raise ConformanceError(f"the loaded model's outputs differ by up to {float(difference):.2g}")


@check(saves_and_reloads)
def honest_sizes(subject: Subject) -> None:
    """Sizes it notes, and those its file states, are those of the model."""
    called = _called(subject)
    header = read_header(subject.folder / "stand" / "result.safetensors")
    counted = {name: count(called.result) for name, count in SIZES.items()}
    if header.manifest.parameters != counted["parameters"]:
        raise ConformanceError(
            f"its file states {header.manifest.parameters} parameters, the model has {counted['parameters']}"
        )
    stored = sum(stop - start for start, stop in (t.offsets for t in header.tensors.values()))
    if stored != counted["bytes"]:
        raise ConformanceError(f"its file holds {stored} bytes of tensors, the model {counted['bytes']}")
    wrong = {n: v for n, v in called.given.ctx.notes.items() if n in counted and v != counted[n]}
    if wrong:
        told = ", ".join(f"{name} = {value}, which is {counted[name]}" for name, value in wrong.items())
        raise ConformanceError(
            f"it noted {told}", "count with compressit.measure, or give the note a name of its own"
        )


@check(same_seed_same_result)
def resumes(subject: Subject) -> None:
    """Killed after each save of its progress and called again, it ends with the very same result."""
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
def rehearses(subject: Subject) -> None:
    """What it rehearses has the shapes of what it gives."""
    plugin = subject.create()
    assert isinstance(plugin, Compressor)
    fresh = given(subject, "init")
    with quiet_place(subject):
        tried = rehearse_plugin(plugin, fresh.model, fresh.ctx)
    if tried is None:
        raise NotApplicable("it does not say its shapes before it is trained")
    wanted, got = _shapes(_called(subject).result), _shapes(tried)
    if other := changed(wanted, got):
        name = other[0]
        raise ConformanceError(
            f"it rehearses {name} with shape {got.get(name)}, and gives {wanted.get(name)}",
            "return None from `rehearse` where the shapes depend on trained weights",
        )


_FIRST = (runs, nothing_left)
_THEN = (
    notes_are_json, leaves_models, leaves_data, restores_modes, same_seed_same_result, saves_and_reloads,
    honest_sizes, resumes,
)  # fmt: skip
TRAINER = (*_FIRST, keeps_shapes, *_THEN)
COMPRESSOR = (*_FIRST, changes_something, *_THEN, rehearses)


class _Killed(BaseException):
    """What a kill is here: no plugin's `except Exception` stops it."""


class _Killing(StoredProgress):
    """Saves whenever it is asked, and is killed by it."""

    def __init__(self, store: Store, kills: bool) -> None:
        super().__init__(store, "0" * 64, every=0)
        self._kills = kills

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        super().save(tensors, facts)
        if self._kills:
            raise _Killed


def _called(subject: Subject) -> Called:
    return subject.keep("called", lambda: call(subject))


def _check_same(one: nn.Module, other: nn.Module, message: str, hint: str | None = None) -> None:
    names = differing(state(one), state(other))
    if names:
        hint = hint or "draw from ctx.streams.generator(purpose), never from a generator of your own"
        raise ConformanceError(f"{message}: {', '.join(names[:5])}", hint)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state(model).items()}
