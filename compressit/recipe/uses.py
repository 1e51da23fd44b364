"""`uses` and `with`: a plugin's name and its options, checked against the plugin's own Config."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from compressit.checkpoint.starting import Offer, check_fits, start_of
from compressit.config import Config, dump, model_refs, parse
from compressit.contract.kinds import Dataset, Evaluator
from compressit.datasets.options import DataConfig, validation_fault
from compressit.errors import FOREIGN, CompressitError, Mark, Problem, did_you_mean, told
from compressit.host.plugins import Host
from compressit.recipe.envelope import INIT, PREVIOUS, ModelBlock, UseBlock
from compressit.recipe.model import ModelSpec, Use
from compressit.recipe.validation import dotted, place_of, shown, validate
from compressit.recipe.yamlfile import Node


@dataclass(frozen=True)
class Scope:
    """What a block is checked against, and where its mistakes go."""

    host: Host
    folder: Path  # paths in the recipe are relative to it
    problems: list[Problem]
    stages: frozenset[str] = frozenset()  # the names a ModelRef may use
    complete: bool = True  # False: a plugin file was not loaded, so an unknown name may be its
    validation: bool = True  # False: the data has no validation split, so no option may need one
    offer: Offer | None = None  # what the data give a model; None: unknown, since they have a mistake

    def problem(self, message: str, where: Mark, hint: str | None = None) -> None:
        """Notes a mistake."""
        self.problems.append(Problem(message, where, hint))

    def file(self, name: str) -> Path:
        """An existing file the recipe names, absolute. Raises CompressitError."""
        try:
            path = (self.folder / name).resolve()
            if path.is_file():
                return path
        except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a NUL
            pass
        raise CompressitError(f"there is no file {name}", f"looked in {self.folder}")


@dataclass(frozen=True)
class Reference:
    """A model that a block's options name, and where."""

    name: str
    mark: Mark


def read_block(node: Node, path: str, kind: str, scope: Scope) -> Use | None:
    """The resolved Use of `{uses, with}`; None with every mistake noted."""
    validate(UseBlock, with_options(node), path, scope.problems)
    named: list[Reference] = []
    use = read_use(node, path, (kind,), scope, named)
    for reference in named:
        scope.problem(
            f"{path} names the model '{reference.name}': only a stage can",
            reference.mark,
            "an evaluator compares with the judged stage's own teacher: ctx.judged.reference",
        )
    return use


def read_data(node: Node, scope: Scope) -> Use | None:
    """As `read_block`; a validation split is checked against the number of images, where that is known."""
    use = read_block(node, "data", "dataset", scope)
    if use is None:
        return None
    options = parse(scope.host.find(use.uses, "dataset").plugin.Config, use.config)
    images = _train_size(use, scope)
    fault = validation_fault(options, images) if isinstance(options, DataConfig) and images else None
    if fault is not None:
        written = node.at("with").at("validation")
        scope.problem(f"data.with.validation {fault} (got {shown(written)})", written.mark)
        return None
    return use


def read_offer(node: Node, use: Use, scope: Scope) -> Offer | None:
    """What the data of this block give a model; None, with the mistake noted, where the dataset cannot say it."""
    try:
        return Offer.of(cast("Dataset[Any]", scope.host.create(Dataset, use.uses, use.config)))
    except CompressitError as error:
        scope.problem(f"data.uses: {error.message}", node.at("uses").mark, error.hint)
        return None


def read_uses(items: Node, path: str, kind: str, scope: Scope) -> tuple[Use, ...]:
    """A list of plugins, each a name or a block; the same one twice is a mistake."""
    return tuple(item.use for item in _items(items, path, kind, scope))


def read_evaluators(items: Node, scope: Scope) -> tuple[Use, ...]:
    """As `read_uses`; a metric is one column of the results, so two evaluators of it are a mistake too."""
    found = list(_items(items, "evaluate", "evaluator", scope))
    owners: dict[str, str] = {}
    for item in found:
        plugin = cast("type[Evaluator[Any]]", scope.host.find(item.use.uses, "evaluator").plugin)
        again = {name: owners[name] for name in plugin.metrics if name in owners}
        if again:
            metrics, others = ", ".join(again), " and ".join(dict.fromkeys(again.values()))
            scope.problem(
                f"{item.path}: {item.use.uses} measures {metrics} again, after {others}",
                item.mark,
                "leave one of them out: a metric is one column of the results",
            )
        owners = {**dict.fromkeys(plugin.metrics, item.use.uses), **owners}
    return tuple(item.use for item in found)


def read_use(
    node: Node, path: str, kinds: tuple[str, ...], scope: Scope, references: list[Reference] | None = None
) -> Use | None:
    """The resolved Use of a block whose envelope was checked; None with every mistake in its options noted.

    The models it names are added to `references`; their files are made absolute.
    """
    uses, options = node.at("uses"), with_options(node).at("with")
    if not isinstance(uses.value, str) or not isinstance(options.value, Mapping):
        return None  # the envelope's check says so
    try:
        plugin = scope.host.find(uses.value, *kinds).plugin
    except CompressitError as error:
        if scope.complete or uses.value in scope.host.names():
            scope.problem(f"{path}.uses: {error.message}", uses.mark, error.hint)
        return None
    config = validate(plugin.Config, options, f"{path}.with", scope.problems)
    if config is None:
        return None
    for option in () if scope.validation else _needs_validation(config, f"{path}.with", uses.mark, scope):
        scope.problem(
            f"{path}.with.{option} needs a validation split, and the data has none",
            place_of(options, (option,)),
            "cut one from the training images, for example `data: {with: {validation: 0.1}}`",
        )
    values = dump(config)
    for field_path, ref in model_refs(config):
        resolved = _resolve(ref, dotted(path, "with", *field_path), place_of(options, field_path), scope)
        if resolved is not None:
            _put(values, field_path, resolved.name)
            if references is not None:
                references.append(resolved)
    return Use(uses.value, values)


def with_options(node: Node) -> Node:
    """The block with a `with`, empty where there is none or nothing in it."""
    options = node.mapping.get("with")
    if not isinstance(node.value, Mapping) or (options is not None and options.value is not None):
        return node
    mark = options.mark if options is not None else node.mark
    return Node(
        {**node.value, "with": Node({}, mark)}, node.mark, {**node.keys, "with": node.keys.get("with", mark)}
    )


def read_model(node: Node, scope: Scope) -> ModelSpec | None:
    """`{uses, with, weights}` or `{from}`."""
    block = validate(ModelBlock, with_options(node), "model", scope.problems)
    if block is None:
        return None
    if (block.uses is None) == (block.from_ is None):
        scope.problem(
            "model must have either 'uses' or 'from'", node.mark, "a model plugin, or a checkpoint's path"
        )
        return None
    if block.from_ is not None:
        for key in ("with", "weights"):
            if key in node.mapping:
                scope.problem(f"model.{key} goes with 'uses', not with 'from'", node.keys[key])
        checkpoint = _tensors(node.at("from"), "model.from", scope)
        _check_start(node.at("from"), "model.from", checkpoint, None, scope)
        return ModelSpec(None, checkpoint=checkpoint) if checkpoint else None
    weights = _tensors(node.at("weights"), "model.weights", scope) if block.weights is not None else None
    _check_start(node.at("weights"), "model.weights", None, weights, scope)
    use = read_use(node, "model", ("model",), scope)
    return ModelSpec(use, weights=weights) if use else None


def _check_start(node: Node, path: str, checkpoint: Path | None, weights: Path | None, scope: Scope) -> None:
    try:
        if scope.offer is not None:
            start_of(checkpoint, weights, scope.offer, scope.host)
    except CompressitError as error:
        scope.problem(f"{path}: {error.message}", node.mark, error.hint)


@dataclass(frozen=True)
class _Item:
    """One of a list of plugins."""

    use: Use
    path: str
    mark: Mark


def _items(items: Node, path: str, kind: str, scope: Scope) -> Iterator[_Item]:
    """Those of a list that are right, each once."""
    seen: set[str] = set()
    for index, node in enumerate(items.items):
        if isinstance(node.value, str):
            node = Node({"uses": node}, node.mark, {"uses": node.mark})
        item_path = f"{path}.{index}"
        use = read_block(node, item_path, kind, scope)
        if use is None:
            continue
        identity = json.dumps([use.uses, use.config], sort_keys=True)
        if identity in seen:
            scope.problem(f"{item_path}: {use.uses} stands here twice with the same options", node.mark)
        else:
            yield _Item(use, item_path, node.mark)
        seen.add(identity)


def _needs_validation(config: Config, path: str, mark: Mark, scope: Scope) -> Sequence[str]:
    try:
        return tuple(config.needs_validation())
    except FOREIGN as error:  # somebody's code
        scope.problem(f"{path}: the plugin cannot say what `needs_validation`: {told(error)}", mark)
        return ()


def _train_size(use: Use, scope: Scope) -> int | None:
    try:
        return scope.host.create(Dataset, use.uses, use.config).train_size
    except Exception:  # noqa: BLE001 - somebody's code: what it says is of use only where it says it
        return None


def _tensors(node: Node, path: str, scope: Scope) -> Path | None:
    """The path of an existing .safetensors file, or None with the mistake noted."""
    name = str(node.value)
    if not name.endswith(".safetensors"):
        scope.problem(f"{path} must be a .safetensors file (got '{name}')", node.mark)
        return None
    try:
        return scope.file(name)
    except CompressitError as error:
        scope.problem(f"{path}: {error.message}", node.mark, error.hint)
        return None


def _resolve(ref: str, path: str, mark: Mark, scope: Scope) -> Reference | None:
    """A ModelRef, a checkpoint's path made absolute; None, with the mistake noted, where it names nothing."""
    if ref in (INIT, PREVIOUS) or ref in scope.stages:
        return Reference(ref, mark)
    if ref.endswith(".safetensors"):
        found = _tensors(Node(ref, mark), path, scope)
        try:
            if found is not None and scope.offer is not None:
                check_fits(found, scope.offer, scope.host)
        except CompressitError as error:
            scope.problem(f"{path}: {error.message}", mark, error.hint)
        return Reference(str(found), mark) if found else None
    scope.problem(
        f"{path} names no stage: '{ref}'",
        mark,
        did_you_mean(ref, [*scope.stages, INIT, PREVIOUS, "FILE.safetensors"]),
    )
    return None


def _put(values: Any, path: tuple[str, ...], value: str) -> None:
    """Sets a value in nested dicts and lists."""
    for part in path[:-1]:
        values = values[int(part) if isinstance(values, list) else part]
    values[int(path[-1]) if isinstance(values, list) else path[-1]] = value
