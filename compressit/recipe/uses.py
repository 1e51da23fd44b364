"""`uses` and `with`: a plugin's name and its options, checked against the plugin's own Config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from compressit.checkpoint.starting import Offer, check_fits
from compressit.config import ModelUse, absolute, dump, model_refs, model_uses, parse, put_at
from compressit.contract.kinds import Dataset
from compressit.contract.observer import Observer
from compressit.datasets.options import validation_fault
from compressit.errors import FOREIGN, CompressitError, Mark, did_you_mean, told
from compressit.recipe.envelope import INIT, RELATIVE, UseBlock
from compressit.recipe.model import Use
from compressit.recipe.names import elsewhere, stage_of
from compressit.recipe.scope import Reference, Scope
from compressit.recipe.task import check_does
from compressit.recipe.validation import dotted, place_of, shown, tree, validate
from compressit.recipe.yamlfile import Node

C = TypeVar("C", bound=BaseModel)


def read_data(node: Node, scope: Scope) -> tuple[Use | None, Offer | None]:
    """The dataset, and what it offers a model. None for either if it has a mistake, which is noted."""
    use = _read_block(node, "data", "dataset", scope)
    if use is None:
        return None, None
    dataset = cast("Dataset[Any]", use.plugin)
    where = node.at("uses").mark
    asked = "train_size"
    try:
        images = dataset.train_size
        asked = "doubts"
        dataset.doubts()
        asked = "has_validation"
        brought = dataset.has_validation
    except CompressitError as error:  # no such folder, or not what it should be
        scope.problem(f"data.uses: {error.message}", where, error.hint)
        return None, None
    except FOREIGN as error:  # third-party code
        message = f"data.uses: `{asked}` of {use.uses} fails: {told(error)}"
        scope.problem(message, where, "this is a bug in the plugin, not in the recipe")
        return None, None
    fault = validation_fault(dataset.config, images) if images else None
    if brought and dataset.config.validation:
        fault = "cuts a split, and the data have one of their own"
    if fault is not None:
        written = node.at("with").at("validation")
        scope.problem(f"data.with.validation {fault} (got {shown(written)})", written.mark)
        return None, None
    offer = scope.tried("data.uses", where, Offer.of, dataset)
    return use, offer


def read_uses(items: Node, path: str, kind: str, scope: Scope) -> tuple[Use, ...]:
    """A list of plugins, each a name or a block. A plugin listed twice with the same options is a mistake."""
    uses: list[Use] = []
    for index, item in enumerate(items.items):
        own, node = f"{path}.{index}", as_block(item)
        use = _read_block(node, own, kind, scope)
        if use is not None and not listed_twice(use, uses, own, node.mark, scope):
            uses.append(use)
    return tuple(uses)


def as_block(item: Node) -> Node:
    """An item of a list of plugins, its name alone turned into a block."""
    return Node({"uses": item}, item.mark, {"uses": item.mark}) if isinstance(item.value, str) else item


def listed_twice(use: Use, others: Sequence[Use], path: str, mark: Mark, scope: Scope) -> bool:
    """Whether the same plugin with the same options is among `others`; then the mistake is noted."""
    again = any(use.to_json() == other.to_json() for other in others)
    if again:
        scope.problem(f"{path}: {use.uses} is listed twice with the same options", mark)
    return again


def read_use(
    node: Node, path: str, kinds: tuple[str, ...], scope: Scope, references: list[Reference]
) -> Use | None:
    """The Use of a block whose envelope was checked; None if its options have mistakes, which are noted.

    The models it names are added to `references`.
    """
    uses, options = node.at("uses"), with_options(node).at("with")
    if not isinstance(uses.value, str) or not isinstance(options.value, Mapping):
        return None  # reported by the envelope's check
    try:
        plugin = scope.host.find(uses.value, *kinds).plugin
    except CompressitError as error:
        if scope.complete or uses.value in scope.host.names():
            scope.problem(f"{path}.uses: {error.message}", uses.mark, error.hint)
        return None
    config = validate(plugin.Config, options, f"{path}.with", scope.problems)
    if config is None:
        return None
    try:
        needing = () if scope.validation else tuple(config.needs_validation())
    except FOREIGN as error:  # third-party code
        scope.problem(f"{path}.with: `needs_validation` of the plugin fails: {told(error)}", uses.mark)
        return None
    for option in needing:
        scope.problem(
            f"{path}.with.{option} needs a validation split, and the data has none",
            place_of(options, (option,)),
            "split off some training images, for example `data: {with: {validation: 0.1}}`",
        )
    files: dict[tuple[str, ...], str] = {}
    models: list[str] = []
    for field_path, ref in model_refs(config):
        name = dotted(path, "with", *field_path)
        resolved = _resolve(ref, name, place_of(options, field_path), scope)
        if resolved is not None:
            references.append(resolved)
            models.append(resolved.name)
            files |= {field_path: resolved.name} if resolved.name != ref else {}
    if files:
        values = dump(config)
        for field_path, file in files.items():
            put_at(values, field_path, file)
        config = parse(plugin.Config, values)
    config = with_models(config, options, f"{path}.with", scope)
    if config is None:
        return None
    made = plugin(absolute(config, lambda at: scope.start(place_of(options, at))))
    check_does(made, path, options, uses.mark, scope)
    if isinstance(made, Observer):
        _check_works(made, path, uses.mark, scope)
    return Use(made, tuple(models))


def _check_works(observer: Observer[Any], path: str, mark: Mark, scope: Scope) -> None:
    """Notes a mistake if the observer could not work on this machine."""
    try:
        scope.tried(f"{path}.uses", mark, observer.check)
    except FOREIGN as error:  # third-party code
        scope.problem(f"{path}: `check` of {observer.name} fails: {told(error)}", mark)


def with_models(config: C, options: Node, path: str, scope: Scope) -> C | None:
    """A plugin's options, those of each model that they name (`ModelUse`) checked by that model's plugin: all defaults
    filled in, all paths absolute. None if one has mistakes, which are noted."""
    values, before = dump(config), len(scope.problems)
    found = list(model_uses(config))
    for where, given in found:
        block, own = _written_at(options, where, given), dotted(path, *where)
        use = read_use(block, own, ("model",), scope, [])
        if use is not None:
            put_at(values, where, {"uses": use.uses, "with": use.config})
    if len(scope.problems) > before:
        return None
    return parse(type(config), values) if found else config


def _written_at(options: Node, path: tuple[str, ...], given: ModelUse) -> Node:
    """The block as it was written; a default's, at the place of what is around it."""
    node = options
    for part in path:
        node = node.items[int(part)] if node.items else node.at(part)
    return node if node.mapping else tree(dump(given), place_of(options, path))


def with_options(node: Node) -> Node:
    """The block with an empty `with` added if it has none."""
    options = node.at("with")
    if not isinstance(node.value, Mapping) or options.value is not None:
        return node
    keys = {**node.keys, "with": node.keys.get("with", options.mark)}
    return Node({**node.value, "with": Node({}, options.mark)}, node.mark, keys)


def _read_block(node: Node, path: str, kind: str, scope: Scope) -> Use | None:
    """As `read_use`, for a block that is not a stage: checks its envelope too, and it must not name models."""
    validate(UseBlock, with_options(node), path, scope.problems)
    named: list[Reference] = []
    use = read_use(node, path, (kind,), scope, named)
    for reference in named:
        message = f"{path} names the model '{reference.name}': only stages and evaluators can name models"
        scope.problem(message, reference.mark)
    return use


def tensors_file(node: Node, path: str, scope: Scope) -> Path | None:
    """The path of an existing .safetensors file. Otherwise notes the mistake and returns None."""
    name = str(node.value)
    if not name.endswith(".safetensors"):
        saved = Path(name).suffix in (".pth", ".pt", ".bin", ".ckpt")
        hint = f"`compressit import {name}` makes one of it" if saved else None
        return scope.problem(f"{path} must be a .safetensors file (got '{name}')", node.mark, hint)
    return scope.tried(path, node.mark, scope.file, name, node.mark)


def _resolve(ref: str, path: str, mark: Mark, scope: Scope) -> Reference | None:
    """What a ModelRef says, a file's path made absolute. Otherwise notes the mistake, returns None.

    Whether the stage has that round or member, and what other seeds and variants have, is checked when all variants
    are read (`references`).
    """
    if ref.endswith(".safetensors"):
        found = tensors_file(Node(ref, mark), path, scope)
        if found is not None and scope.offer is not None:
            scope.tried(path, mark, check_fits, found, scope.offer, scope.host)
        return Reference(str(found), mark, path) if found else None
    of_variant = elsewhere(ref)[2] is not None
    if ref in RELATIVE or of_variant or stage_of(ref, (*scope.stages, INIT)) is not None:
        return Reference(ref, mark, path)
    known = {*scope.stages, INIT, *RELATIVE, "FILE.safetensors"}
    return scope.problem(f"{path} names no stage: '{ref}'", mark, did_you_mean(ref, known))
