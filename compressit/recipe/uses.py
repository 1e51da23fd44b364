"""`uses` and `with`: a plugin's name and its options, checked against the plugin's own Config."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from compressit.checkpoint.starting import Offer, check_fits
from compressit.config import absolute, dump, model_refs, parse, put_at
from compressit.contract.kinds import Dataset, Evaluator
from compressit.datasets.options import input_fault, validation_fault
from compressit.errors import FOREIGN, CompressitError, Mark, Problem, did_you_mean, told
from compressit.host.plugins import Host
from compressit.recipe.envelope import INIT, PREVIOUS, UseBlock
from compressit.recipe.model import Use
from compressit.recipe.validation import dotted, place_of, shown, validate
from compressit.recipe.yamlfile import Node

T = TypeVar("T")


@dataclass(frozen=True)
class Scope:
    """What a block is checked against, and the list of problems found."""

    host: Host
    folder: Path  # paths in the recipe are relative to it
    problems: list[Problem]
    stages: frozenset[str] = frozenset()  # stage names that a ModelRef may use
    complete: bool = True  # False: a plugin file was not loaded; it may define an unknown name
    validation: bool = True  # False: the data has no validation split, so no option may need one
    offer: Offer | None = None  # what the data offer a model; None: unknown, `data` has a mistake

    def problem(self, message: str, where: Mark, hint: str | None = None) -> None:
        """Notes a mistake."""
        self.problems.append(Problem(message, where, hint))

    def tried(self, path: str, where: Mark, call: Callable[..., T], *given: Any) -> T | None:
        """What the call returns. If it raises CompressitError, notes the mistake and returns None."""
        try:
            return call(*given)
        except CompressitError as error:
            return self.problem(f"{path}: {error.message}", where, error.hint)

    def file(self, name: str) -> Path:
        """The absolute path of a file that the recipe names. Raises CompressitError if it does not exist."""
        try:
            path = (self.folder / name).resolve()
            if path.is_file():
                return path
        except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a NUL
            pass
        raise CompressitError(f"there is no file {name}", f"looked in {self.folder}")


@dataclass(frozen=True)
class Reference:
    """A model that a block's options name, and the place of that name."""

    name: str
    mark: Mark


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
    except CompressitError as error:  # no such folder, or not what it should be
        scope.problem(f"data.uses: {error.message}", where, error.hint)
        return None, None
    except FOREIGN as error:  # third-party code
        message = f"data.uses: `{asked}` of {use.uses} fails: {told(error)}"
        scope.problem(message, where, "this is a bug in the plugin, not in the recipe")
        return None, None
    fault = validation_fault(dataset.config, images) if images else None
    if fault is not None:
        written = node.at("with").at("validation")
        scope.problem(f"data.with.validation {fault} (got {shown(written)})", written.mark)
        return None, None
    offer = scope.tried("data.uses", where, Offer.of, dataset)
    fault = input_fault(dataset.config, offer.inputs) if offer is not None else None
    if fault is not None:
        option, why = fault
        scope.problem(f"data.with.{option} {why}", node.at("with").at(option).mark)
        return None, None
    return use, offer


def read_uses(items: Node, path: str, kind: str, scope: Scope) -> tuple[Use, ...]:
    """A list of plugins, each a name or a block. A plugin listed twice with the same options is a mistake."""
    return tuple(use for use, _, _ in _items(items, path, kind, scope))


def read_evaluators(items: Node, scope: Scope) -> tuple[Use, ...]:
    """As `read_uses`. Two evaluators of one metric are a mistake too: a metric is one column of the results."""
    uses: list[Use] = []
    owners: dict[str, str] = {}
    for use, path, mark in _items(items, "evaluate", "evaluator", scope):
        metrics = cast("Evaluator[Any]", use.plugin).metrics
        again = {name: owners[name] for name in metrics if name in owners}
        if again:
            others = " and ".join(dict.fromkeys(again.values()))
            message = f"{path}: {use.uses} measures {', '.join(again)}, which {others} already measures"
            scope.problem(message, mark, "remove one of them: each metric is one column of the results")
        owners = {**dict.fromkeys(metrics, use.uses), **owners}
        uses.append(use)
    return tuple(uses)


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
    return Use(plugin(absolute(config, scope.folder)), tuple(models))


def with_options(node: Node) -> Node:
    """The block with an empty `with` added if it has none."""
    options = node.at("with")
    if not isinstance(node.value, Mapping) or options.value is not None:
        return node
    keys = {**node.keys, "with": node.keys.get("with", options.mark)}
    return Node({**node.value, "with": Node({}, options.mark)}, node.mark, keys)


def _items(items: Node, path: str, kind: str, scope: Scope) -> Iterator[tuple[Use, str, Mark]]:
    """The valid plugins of a list, each once, with path and place."""
    seen: set[str] = set()
    for index, node in enumerate(items.items):
        if isinstance(node.value, str):
            node = Node({"uses": node}, node.mark, {"uses": node.mark})
        own = f"{path}.{index}"
        use = _read_block(node, own, kind, scope)
        if use is None:
            continue
        identity = json.dumps(use.to_json(), sort_keys=True)
        if identity in seen:
            scope.problem(f"{own}: {use.uses} is listed twice with the same options", node.mark)
        else:
            yield use, own, node.mark
        seen.add(identity)


def _read_block(node: Node, path: str, kind: str, scope: Scope) -> Use | None:
    """As `read_use`, for a block that is not a stage: checks its envelope too, and it must not name models."""
    validate(UseBlock, with_options(node), path, scope.problems)
    named: list[Reference] = []
    use = read_use(node, path, (kind,), scope, named)
    for reference in named:
        message = f"{path} names the model '{reference.name}': only stages can name models"
        hint = "an evaluator can use the judged stage's own teacher: ctx.judged.reference"
        scope.problem(message, reference.mark, hint)
    return use


def tensors_file(node: Node, path: str, scope: Scope) -> Path | None:
    """The path of an existing .safetensors file. Otherwise notes the mistake and returns None."""
    name = str(node.value)
    if not name.endswith(".safetensors"):
        return scope.problem(f"{path} must be a .safetensors file (got '{name}')", node.mark)
    return scope.tried(path, node.mark, scope.file, name)


def _resolve(ref: str, path: str, mark: Mark, scope: Scope) -> Reference | None:
    """The model that a ModelRef names, a file's path made absolute. Otherwise notes the mistake, returns None."""
    if ref in (INIT, PREVIOUS) or ref in scope.stages:
        return Reference(ref, mark)
    if ref.endswith(".safetensors"):
        found = tensors_file(Node(ref, mark), path, scope)
        if found is not None and scope.offer is not None:
            scope.tried(path, mark, check_fits, found, scope.offer, scope.host)
        return Reference(str(found), mark) if found else None
    known = [*scope.stages, INIT, PREVIOUS, "FILE.safetensors"]
    return scope.problem(f"{path} names no stage: '{ref}'", mark, did_you_mean(ref, known))
