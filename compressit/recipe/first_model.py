"""`model`: a plugin that builds the first model, with or without weights from a file, or a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, cast

from compressit.checkpoint import blank, fitting
from compressit.checkpoint.starting import start_of
from compressit.contract.init_options import InitConfig
from compressit.contract.kinds import Model
from compressit.errors import did_you_mean
from compressit.recipe.envelope import ModelBlock, WeightsBlock, name_fault
from compressit.recipe.model import ModelSpec, Use, Weights
from compressit.recipe.scope import Scope
from compressit.recipe.uses import read_use, tensors_file, with_options
from compressit.recipe.validation import validate
from compressit.recipe.yamlfile import Node


def read_model(node: Node, scope: Scope) -> ModelSpec | None:
    """`{uses, with, weights}` or `{from}`. Mistakes are noted; then None."""
    block = validate(ModelBlock, with_options(node), "model", scope.problems)
    if block is None:
        return None
    if (block.uses is None) == (block.from_ is None):
        hint = "give a model plugin or the path of a checkpoint"
        return scope.problem("model must have either 'uses' or 'from'", node.mark, hint)
    return _built(node, scope) if block.from_ is None else _saved(node, scope)


def _saved(node: Node, scope: Scope) -> ModelSpec | None:
    for key in ("with", "weights", "init"):
        if key in node.mapping:
            scope.problem(f"model.{key} works only with 'uses', not with 'from'", node.keys[key])
    written = node.at("from")
    if isinstance(written.value, str):
        checkpoint = _checkpoint(written, "model.from", scope)
        return ModelSpec(None, checkpoint) if checkpoint else None
    return _several(written, scope)


def _checkpoint(node: Node, path: str, scope: Scope) -> Path | None:
    """An existing checkpoint; notes what does not fit the data."""
    found = tensors_file(node, path, scope)
    if found is not None and scope.offer is not None:
        scope.tried(path, node.mark, start_of, found, None, scope.offer, scope.host)
    return found


def _several(written: Node, scope: Scope) -> ModelSpec | None:
    """Checkpoints that are measured, `[FILE, …]` or `{NAME: FILE, …}`. In a list, files are called by their stems."""
    named = [(name, node, f"model.from.{name}") for name, node in written.mapping.items()]
    stems = [PurePath(str(node.value)).stem for node in written.items]
    named += [(stem, written.items[at], f"model.from.{at}") for at, stem in enumerate(stems)]
    if not named:
        return scope.problem("model.from names no file", written.mark)
    found: dict[str, Path] = {}
    for name, node, path in named:
        file = _checkpoint(node, path, scope)
        fault = "is the name of another file too" if name in found else name_fault(name)
        if fault is not None:
            hint = None if name in written.mapping else "give the files names: `from: {NAME: FILE, …}`"
            message = f"{path}: its row would be called '{name}', which {fault}"
            scope.problem(message, written.keys.get(name, node.mark), hint)
        elif file is not None:
            found[name] = file
    return ModelSpec(None, files=tuple(found.items())) if len(found) == len(named) else None


def _built(node: Node, scope: Scope) -> ModelSpec | None:
    written, before = node.at("weights"), len(scope.problems)
    weights = _weights(written, scope) if written.value is not None else None
    use = read_use(node, "model", ("model",), scope, [])
    init = _init(node, scope)
    if use is not None and weights is not None and len(scope.problems) == before:
        _check_fits(use, weights, written, scope)
    return ModelSpec(use, weights=weights, init=init) if use and init else None


def _init(node: Node, scope: Scope) -> InitConfig | None:
    written = node.at("init")
    if written.value is None:
        return InitConfig()
    init = validate(InitConfig, written, "model.init", scope.problems)
    weights = node.at("weights")
    if init not in (None, InitConfig()) and weights.value is not None and not weights.at("fresh").items:
        hint = "remove one of the two, or leave a part of the model fresh: `weights: {file: …, fresh: […]}`"
        message = "model.init has no effect: `weights` fills the whole model"
        return scope.problem(message, node.keys["init"], hint)
    return init


def _weights(node: Node, scope: Scope) -> Weights | None:
    """`FILE` or `{file: FILE, fresh: [PATTERN, …]}`."""
    fresh: tuple[str, ...] = ()
    file, path = node, "model.weights"
    if isinstance(node.value, Mapping):
        block = validate(WeightsBlock, node, path, scope.problems)
        if block is None:
            return None
        fresh = tuple(sorted(set(block.fresh)))
        file, path = node.at("file"), "model.weights.file"
    found = tensors_file(file, path, scope)
    if scope.offer is not None:
        scope.tried(path, file.mark, start_of, None, found, scope.offer, scope.host, fresh)
    return Weights(found, fresh) if found else None


def _check_fits(use: Use, weights: Weights, node: Node, scope: Scope) -> None:
    """Notes what of the file does not fit the network, if that can be built here; else the run will tell."""
    if scope.offer is None:
        return
    from compressit.checkpoint.header import shapes_in

    net = blank.shapes_of(cast("Model[Any]", use.plugin), scope.offer.inputs, scope.offer.classes)
    file = scope.tried("model.weights", node.mark, shapes_in, weights.file)
    if net is None or file is None:
        return
    for item in node.at("fresh").items:
        if fitting.idle([str(item.value)], net, file):
            scope.problem(
                f"model.weights.fresh names no tensor: '{item.value}'",
                item.mark,
                did_you_mean(str(item.value), net),
            )
    fault = fitting.misfit(net, file, weights.fresh, use.uses)
    if fault is not None:
        where = node.at("file") if isinstance(node.value, Mapping) else node
        scope.problem(f"model.weights: {weights.file.name}: {fault.message}", where.mark, fault.hint)
