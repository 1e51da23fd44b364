"""Checks that what an evaluator gave is what it declares, so that nothing it gives is lost."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from compressit.contract.context import StageContext
from compressit.contract.kinds import Evaluator
from compressit.contract.records import Array, Curve, Declared, File, Metric, Picture
from compressit.contract.tasks import Task
from compressit.errors import CompressitError
from compressit.host.declared import declared

_CALLS: Mapping[type[Any], str] = {
    Metric: "returned the number", Curve: "logged the curve", Array: "saved the array", Picture: "gave the picture",
    File: "kept the file",
}  # fmt: skip
_MOST_TOLD = 3


def check_recorded(plugin: Evaluator[Any], metrics: Mapping[str, float], ctx: StageContext) -> None:
    """Raises CompressitError for anything that the evaluator gave but did not declare, declares as something else, or
    gave in another shape, and for notes, which only stages have."""
    if ctx.notes:
        raise CompressitError(
            f"{plugin.name} noted '{next(iter(ctx.notes))}', which would be lost: only stages have notes",
            "return a metric, or save an array. To `fit` a probe, give it a context of its own: ctx.apart()",
        )
    kinds = declared(plugin, ctx.task)
    given: Mapping[type[Any], Mapping[str, Any]] = {
        Metric: metrics, Curve: ctx.curves, Array: ctx.arrays, Picture: ctx.pictures, File: ctx.files,
    }  # fmt: skip
    strange = [
        _told(name, kind, kinds.get(name))
        for kind, values in given.items()
        for name in values
        if type(kinds.get(name)) is not kind
    ]
    if strange:
        more = " …" if len(strange) > _MOST_TOLD else ""
        raise CompressitError(
            f"{plugin.name} {', '.join(strange[:_MOST_TOLD])}{more}, so it would be lost",
            "declare it in `metrics` or `declares`. What `fit` logs for a probe goes to a context of its own: "
            "ctx.apart()",
        )
    fault = next(_misshapen(kinds, ctx), None)
    if fault is not None:
        raise CompressitError(f"{plugin.name} {fault}", "give what it declares, or change `declares`")


def check_names_free(plugin: Evaluator[Any], task: Task[Any], taken: Collection[tuple[str, str]]) -> None:
    """Raises CompressitError if the judged stage recorded something by a name that the evaluator declares for the same
    kind of thing. `taken`: `Artifact.recorded` of the stage."""
    for name, what in declared(plugin, task).items():
        kind = type(what).__name__.lower()
        if (kind, name) in taken:
            raise CompressitError(
                f"{plugin.name} declares the {kind} '{name}', but the stage it measures recorded one too",
                "choose another name in the evaluator",
            )


def _told(name: str, kind: type[Any], known: Declared | None) -> str:
    wrong = "which it does not declare" if known is None else f"which it declares as {type(known).__name__}"
    return f"{_CALLS[kind]} '{name}', {wrong}"


def _misshapen(kinds: Mapping[str, Declared], ctx: StageContext) -> Iterator[str]:
    for name, array in ctx.arrays.items():
        axes = getattr(kinds[name], "axes", ())
        if axes and array.ndim != len(axes):
            yield f"saved '{name}' with shape {array.shape}, but declares the axes {', '.join(axes)}"
    for name, points in ctx.curves.items():
        wrong = next((step for step, _ in points if not math.isfinite(step)), None)
        if wrong is not None:
            yield f"logged '{name}' at {wrong}, which is no place on its axis"
