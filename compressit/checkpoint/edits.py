"""Edits: the differences between a model and a freshly built one, recorded as data and applied again.

Edits record public attributes whose value is a number (int, float, bool), None, or a tuple or list of these.
They never record strings: a file may set numbers, but nothing that a module could use as a path or function name.
Other changes (private attributes, strings, new attributes) are caught by comparing outputs when saving.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn

from compressit.checkpoint.manifest import ReplaceEdit, SetEdit, strict_json
from compressit.checkpoint.modules import children, submodule, unsaved_buffers
from compressit.checkpoint.tensors import same_bits
from compressit.contract.module_types import ModuleType, by_class, by_name, same_class
from compressit.errors import CompressitError
from compressit.files.sealed import canonical

Edit: TypeAlias = SetEdit | ReplaceEdit
_SEQUENCES = (tuple, list, torch.Size)
_MISSING = object()


@dataclass(frozen=True)
class Changes:
    """What edits changed in a built model."""

    before: dict[tuple[nn.Module, str], Any] = field(
        default_factory=dict
    )  # old values of the attributes that were set
    made: set[nn.Module] = field(default_factory=set)  # layers built from a file's arguments


def diff(fresh: nn.Module, model: nn.Module, module_types: Sequence[ModuleType]) -> list[Edit]:
    """The edits that give `fresh` the module types and numbers of `model`. Shapes are not included.

    Raises CompressitError for a layer of a different type without a ModuleType, and for a layer that only one of
    the two models has.
    """
    if not same_class(type(fresh), type(model)):
        raise CompressitError(
            f"the model is a {type(model).__name__}, but its builder makes a {type(fresh).__name__}",
            "save the module that the builder made, without a wrapper",
        )
    return list(_differences(fresh, model, "", module_types))


def snapshot(model: nn.Module, module_types: Sequence[ModuleType]) -> list[Edit]:
    """Every registered type and every number of a model that has no builder to compare with."""
    found: list[Edit] = []
    for at, module in model.named_modules():
        rule = by_class(module_types, type(module)) if at else None
        if rule is not None:
            found.append(ReplaceEdit(at=at, type=rule.name, args=_described(rule, module, at)))
        attrs = {name: plain(value) for name, value in numbers(module)}
        if attrs:
            found.append(SetEdit(at=at, attrs=attrs))
    return found


def apply(model: nn.Module, edits: Sequence[Edit], module_types: Sequence[ModuleType]) -> Changes:
    """Applies edits in place, in order, and returns what they changed.

    Raises CompressitError for a path or attribute that does not exist, is not public, or has another type.
    """
    changes = Changes()
    for edit in edits:
        module = submodule(model, edit.at)
        if module is None:
            raise _unfit(edit.at, "there is no such layer")
        if isinstance(edit, ReplaceEdit):
            _replace(model, module, edit, module_types, changes)
        else:
            for name, value in edit.attrs.items():
                _set(module, edit.at, name, value, changes)
    return changes


def unrecorded(fresh: nn.Module, model: nn.Module) -> list[str]:
    """Attributes and buffers outside the state dict that differ: the likely cause of different outputs."""
    found: list[str] = []
    others = dict(fresh.named_modules())
    for at, module in model.named_modules():
        other = others.get(at)
        if other is None:
            continue
        for name, value in vars(module).items():
            simple = isinstance(value, (str, int, float, *_SEQUENCES))
            if simple and repr(value) != repr(vars(other).get(name)):
                found.append(_join(at, name))
        its = unsaved_buffers(other)
        for name, mine in unsaved_buffers(module).items():
            if name not in its or not same_bits(mine, its[name]):
                found.append(_join(at, name))
    return found


def numbers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The module's public attributes that edits can record."""
    for name, value in vars(module).items():
        if _public(name) and _recordable(value):
            yield name, value


def plain(value: Any) -> Any:
    """A recordable value as JSON holds it: tuples become lists."""
    return [plain(v) for v in value] if isinstance(value, _SEQUENCES) else value


def _differences(
    fresh: nn.Module, model: nn.Module, at: str, module_types: Sequence[ModuleType]
) -> Iterator[Edit]:
    if not same_class(type(fresh), type(model)):
        rule = by_class(module_types, type(model))
        if rule is None:
            raise CompressitError(
                f"no ModuleType is registered for {type(model).__name__} at {at}",
                "return one from the hook compressit_module_types in the plugin that inserts the layer",
            )
        args = _described(rule, model, at)
        yield ReplaceEdit(at=at, type=rule.name, args=args)
        fresh = _built(rule, args, at)
    attrs = {
        name: plain(value)
        for name, value in numbers(model)
        if (old := _attribute(fresh, name)) is not _MISSING and _differs(old, value)
    }
    if attrs:
        yield SetEdit(at=at, attrs=attrs)
    layers, fresh_layers = children(model), children(fresh)
    for name in sorted(layers.keys() ^ fresh_layers.keys()):
        state = "was added" if name in layers else "was removed"
        raise CompressitError(
            f"the layer {_join(at, name)} {state} since the model was built",
            "replace layers instead (nn.Identity removes one), and register a ModuleType for the new type",
        )
    for name, child in layers.items():
        yield from _differences(fresh_layers[name], child, _join(at, name), module_types)


def _replace(
    model: nn.Module,
    current: nn.Module,
    edit: ReplaceEdit,
    module_types: Sequence[ModuleType],
    changes: Changes,
) -> None:
    parent, _, name = edit.at.rpartition(".")
    if current is model:
        raise _unfit(edit.at, "the model itself cannot be replaced")
    rule = by_name(module_types, edit.type)
    if not same_class(type(current), rule.cls()):
        built = _built(rule, edit.args, edit.at)
        setattr(model.get_submodule(parent), name, built)
        changes.made.update(built.modules())


def _set(module: nn.Module, at: str, name: str, value: Any, changes: Changes) -> None:
    if not _public(name):
        raise _unfit(at, f"{name!r} is not a public attribute")
    old = _attribute(module, name)
    if old is _MISSING:
        raise _unfit(at, f"{type(module).__name__} has no number or tuple named {name!r}")
    if not (_recordable(value) and _same_type(old, value)):
        raise _unfit(at, f"{name!r} is {old!r} and cannot become {value!r}")
    if _differs(old, value):
        kind = type(old) if isinstance(old, _SEQUENCES) else tuple
        setattr(module, name, _frozen(value, kind) if isinstance(value, list) else value)
        changes.before.setdefault((module, name), old)


def _public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_") and name != "training"


def _attribute(module: nn.Module, name: str) -> Any:
    """The number or tuple of that name on the module or its class, ignoring properties and methods."""
    value = inspect.getattr_static(module, name, _MISSING)
    return value if _recordable(value) else _MISSING


def _recordable(value: Any, depth: int = 4) -> bool:
    if type(value) in _SEQUENCES:
        return depth > 0 and all(_recordable(v, depth - 1) for v in value)
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is int or type(value) is bool or value is None


def _same_type(old: Any, new: Any) -> bool:
    """Whether the JSON value `new` may replace `old`. None matches any type, int matches float."""
    if old is None or new is None:
        return True
    if isinstance(old, _SEQUENCES) or isinstance(new, _SEQUENCES):
        return isinstance(old, _SEQUENCES) and isinstance(new, _SEQUENCES)
    return isinstance(old, bool) == isinstance(new, bool)


def _differs(old: Any, new: Any) -> bool:
    return _same_type(old, new) and repr(plain(old)) != repr(plain(new))


def _frozen(value: Any, kind: Any) -> Any:
    return kind(_frozen(v, kind) for v in value) if isinstance(value, list) else value


def _described(rule: ModuleType, module: nn.Module, at: str) -> dict[str, Any]:
    try:
        return strict_json(canonical(dict(rule.describe(module))), "its description")
    except Exception as error:
        raise CompressitError(
            f"module type '{rule.name}' cannot describe {at or 'the model'}: {error}"
        ) from error


def _built(rule: ModuleType, args: dict[str, Any], at: str) -> nn.Module:
    try:
        built = rule.build(args)
    except Exception as error:
        raise CompressitError(
            f"module type '{rule.name}' cannot build {at}: {type(error).__name__}: {error}"
        ) from error
    if not same_class(type(built), rule.cls()):
        raise CompressitError(f"module type '{rule.name}' built a {type(built).__name__} for {at}")
    return built


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _unfit(at: str, reason: str) -> CompressitError:
    return CompressitError(f"an edit does not fit the model at {at or 'the top level'}: {reason}")
