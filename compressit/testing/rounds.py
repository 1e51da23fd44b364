"""A check of compressors: what comes after the first round of a repeated stage."""

from __future__ import annotations

from typing import Literal

from compressit.checkpoint import model as checkpoint
from compressit.errors import CompressitError
from compressit.running.apply import apply_plugin
from compressit.testing.check import ConformanceError, check
from compressit.testing.stages import changes_something, notes_are_json, saves_and_reloads
from compressit.testing.stand import given, stand
from compressit.testing.subject import Subject
from compressit.testing.watch import quiet_place


@check(changes_something, notes_are_json, saves_and_reloads)
def climbs(subject: Subject) -> None:
    """With `repeat`, the second round gives a model that can be saved, or says why not."""
    if _round(subject, 1, "train", "previous"):
        _round(subject, 2, "round", "previous")
    _round(subject, 2, "train", "original")


def _round(subject: Subject, number: int, ref: str, feed: Literal["previous", "original"]) -> bool:
    """Carries out a round on that model, and keeps what it gives as `round`; False where it says that it cannot."""
    inputs, place = given(subject, ref, number, feed), stand(subject)
    told = f"as round {number} with `feed: {feed}`"
    try:
        with quiet_place(subject):
            result = apply_plugin(subject.create(), inputs.model, inputs.ctx)
    except CompressitError:
        return False
    except Exception as error:
        raise ConformanceError(
            f"{told} it raises {type(error).__name__}: {error}",
            "ctx.round and ctx.times() say how often; raise CompressitError where once is enough",
        ) from error
    try:
        with quiet_place(subject):
            architecture = inputs.built_as(result)
            checkpoint.save(result, place.file("round"), architecture, place.data.contract, subject.host)
    except CompressitError as error:
        raise ConformanceError(f"{told} it gives a model that cannot be saved: {error.message}") from error
    return True
