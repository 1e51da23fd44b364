"""What an evaluator declares, checked: the names and kinds of all that it may give."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from compressit.contract.kinds import Evaluator
from compressit.contract.pictures import is_file_name
from compressit.contract.records import Array, Curve, Declared, File, Metric, Picture
from compressit.contract.results import RESERVED
from compressit.contract.tasks import Task
from compressit.errors import FOREIGN, CompressitError, place_in, told

OF_TRAININGS = frozenset({"loss", "accuracy"})
"""Curves and arrays that `fit` records with a trained model, so that an evaluator's cannot be called so."""
_TEXTS: Mapping[type[Any], tuple[str, ...]] = {
    Metric: ("better", "unit", "about"),
    Curve: ("x", "y", "about"),
    Picture: ("about",),
    Array: ("about",),
    File: ("about",),
}
_HINT = 'for example {"mine": Metric("higher", "fraction", "what it means")}'


def declared(plugin: Evaluator[Any], task: Task[Any]) -> dict[str, Declared]:
    """What this evaluator may give with its options for models of a task, by name.

    Raises CompressitError if that is not a valid declaration.
    """
    where = f"`declares` of {plugin.name}"
    try:
        found: Any = plugin.declares(task)
    except FOREIGN as error:
        place = place_in(error, [Path(inspect.getfile(type(plugin)))])
        raise CompressitError(
            f"{where} fails: {told(error)}{place}", "this is a bug in the plugin, not in the recipe"
        ) from error
    fault = declaration_fault(where, found)
    if fault is not None:
        raise CompressitError(*fault)
    return dict(found)


def declaration_fault(where: str, found: Any, only: type[Any] | None = None) -> tuple[str, str] | None:
    """What is wrong with a declaration, and what to do; None if nothing is. `where` begins the message; `only`: the
    one kind that is allowed."""
    if not isinstance(found, Mapping):
        return f"{where} is a {type(found).__name__}, not a mapping", _HINT
    kinds = (only,) if only else tuple(_TEXTS)
    faults = (_fault(where, name, what, kinds) for name, what in cast("Mapping[Any, Any]", found).items())
    return next((fault for fault in faults if fault is not None), None)


def _fault(where: str, name: Any, what: Any, kinds: Sequence[type[Any]]) -> tuple[str, str] | None:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.@%/+-]{0,99}", name):
        return (
            f"{where} has {name!r:.120}, which cannot be a column name",
            "use letters, digits and '_', 100 at most",
        )
    if name in RESERVED:
        return f"{where} has '{name}', a column that every run has", "choose another name"
    kind = type(what)
    texts = [getattr(what, part, None) for part in _TEXTS.get(kind, ())]
    if kind not in kinds or not all(isinstance(text, str) for text in texts):
        return f"{where}['{name}'] is {what!r:.120}", _HINT
    if kind is not Metric and not is_file_name(name):
        return (
            f"{where} has '{name}', which a {kind.__name__} cannot be called",
            "use letters, digits and '_'",
        )
    if kind in (Curve, Array) and name in OF_TRAININGS:
        return f"{where} has '{name}', which trainings record themselves", "choose another name"
    return None
