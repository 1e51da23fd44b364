"""Finds the channels that must be removed together, as plain values.

Torch-Pruning provides the graph (`depgraph`), the groups and their scores. Its mapping of channels between layers is
checked by following the channels (`channel_flow`), which wins if the two differ. The choice of channels (`selection`)
and their removal (`surgery`) are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressit import CompressitError, InputTensors, NoEffectError, did_you_mean
from compressit_plugins.prune.channel_flow import Wiring, wiring
from compressit_plugins.prune.channel_groups import (
    Positions,
    Side,
    agreed,
    arranged,
    as_found,
    components,
    places,
)
from compressit_plugins.prune.depgraph import ROOTS, Trace
from compressit_plugins.prune.tracing import at_most

Scorer: TypeAlias = Callable[
    [Any], Tensor | None
]  # a Torch-Pruning importance: a group -> a score per channel


@dataclass(frozen=True)
class Member:
    """One layer in a group: `channels[i]` of its dimension is removed together with root channel `roots[i]`."""

    name: str  # of a module, or of a parameter outside layers
    prune: Callable[[Any, list[int]], Any]  # Torch-Pruning's function for this layer and side
    dim: int
    channels: Tensor  # (n,) int64: positions in the layer's own dimension
    roots: Tensor  # (n,) int64


@dataclass(frozen=True)
class Group:
    """Coupled layers that lose channels together."""

    name: str  # of its first layer
    width: int  # number of root channels
    parts: int  # equal parts that must shrink alike: convolution groups, attention heads
    members: Sequence[Member]
    scores: Tensor | None  # (width / parts,) float32; None: this importance cannot score it
    pattern: Hashable  # equal for groups with the same kinds of layers
    followed: bool = False  # `channel_flow` confirmed where its channels go


def coupled(
    model: nn.Module, example: InputTensors, scorer: Scorer, ignore: Sequence[str], time_limit: float
) -> tuple[list[Group], dict[str, str]]:
    """The groups that can be pruned, and for other groups that are not ignored the reason, by their first layer.

    Excludes groups that reach the model's output, whose channels are the classes, and groups with an output of a layer
    that a glob of `ignore` matches. `model` must be in eval mode with gradients enabled.
    Raises CompressitError if Torch-Pruning fails or takes longer than `time_limit` seconds, or if no group remains;
    NoEffectError for a glob that matches no module.
    """
    kept = _ignored(model, ignore)
    kind = type(model).__name__
    try:
        where = wiring(model, example)
    except Exception:  # noqa: BLE001 - Torch-Pruning's pass reports the error
        where = None
    found = _Found(model, scorer, where, kept)
    late = f"Torch-Pruning did not finish tracing {kind} within {time_limit:g} s"
    slow = "raise `time_limit` for a large network; for some architectures (Swin, MaxViT) tracing never ends"
    over: dict[str, str] = {}
    try:
        with at_most(time_limit, late, slow):
            found.by_dependencies(Trace.of(model, example))
    except Exception as error:
        ended = isinstance(error, CompressitError)
        if where is None and ended:
            raise
        if where is None:
            raise CompressitError(
                f"Torch-Pruning cannot trace {kind}: {type(error).__name__}: {error}",
                "it does not know how the layers are coupled; `prune.magnitude` works on any network",
            ) from error
        if ended:  # on another machine it may finish
            over[kind] = f"{late}: more layers than necessary may keep their widths"
        found = _Found(model, scorer, where, kept)
    if where is not None:
        with at_most(time_limit, late, slow):
            found.by_wiring(where)
    left = found.left | over
    if not found.groups:
        raise none_left(kind, left, kept)
    return found.groups, left


def of_groups(groups: Sequence[Group], ratios: Mapping[str, float]) -> dict[str, float]:
    """The ratios of groups, by name: those of globs that match a layer whose outputs are among its channels. Of several
    the last counts. Raises NoEffectError for a glob that matches no such layer."""
    layers = {group.name: {group.name, *(m.name for m in group.members if m.dim == 0)} for group in groups}
    found: dict[str, float] = {}
    for glob, share in ratios.items():
        own = {name: share for name, among in layers.items() if any(fnmatchcase(n, glob) for n in among)}
        if not own:
            hint = did_you_mean(glob, layers)
            raise NoEffectError(f"'{glob}' matches no layer whose width can be pruned", hint)
        found |= own
    return found


def none_left(kind: str, left: Mapping[str, str], kept: Collection[str] = ()) -> CompressitError:
    """The error if no group can be pruned. left: the reasons, by first layer. kept: layers that `ignore` matched."""
    if left:
        hint = "`ignore` does not help, since these widths stay anyway; every other layer is ignored or coupled with"
    elif kept:
        hint = f"remove a layer from `ignore`, such as '{min(kept)}': every other layer is coupled with"
    else:
        hint = "every layer is coupled with"
    return CompressitError(
        f"{kind} has no width that can be pruned{': ' if left else ''}{reasons(left)}",
        f"{hint} the output, whose width is the number of classes; `prune.magnitude` works on any network",
    )


def reasons(left: Mapping[str, str]) -> str:
    """The reasons of the first few layers, on one line."""
    more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
    return "; ".join(f"'{name}': {reason}" for name, reason in list(left.items())[:3]) + more


class _KeptError(Exception):
    """The reason why a group keeps its width."""


class _Found:
    """The groups of a model found so far."""

    def __init__(self, model: nn.Module, scorer: Scorer, where: Wiring | None, kept: frozenset[str]) -> None:
        self.model, self.scorer, self.where, self.kept = model, scorer, where, kept
        self.graph: Any = tp.DependencyGraph()  # used only for its functions
        self.names = {id(thing): name for name, thing in (*model.named_modules(), *model.named_parameters())}
        self.tied = _tied(model)
        self.groups: list[Group] = []
        self.left: dict[str, str] = {}
        self.doubtful: dict[str, str] = {}  # layers that Torch-Pruning got wrong -> the name of their group

    def by_dependencies(self, trace: Trace) -> None:
        """Adds Torch-Pruning's groups, except those that reach an output or a layer to keep."""
        for layer, found in trace.found():
            name = self.names[id(layer)]
            narrower = {name}
            try:
                if isinstance(found, Exception):
                    raise found
                made = trace.made(found)
                if made & trace.outputs or self.kept & {self.names.get(thing, "") for thing in made}:
                    continue
                narrower |= {member.name for member in self.members(found) if self.out(member.prune)}
                apart = trace.told_apart(found)
                if apart is None:
                    raise _KeptError("Torch-Pruning cannot distinguish its channels")
                self.groups.append(self.group(name, apart, trace.parts(apart)))
            except Exception as error:  # noqa: BLE001 - reported
                self.left[name] = _why(error, "Torch-Pruning cannot follow its channels")
                self.doubtful |= dict.fromkeys(narrower, name)

    def by_wiring(self, where: Wiring) -> None:
        """Adds groups of layers that are in no group yet and not coupled with the output."""
        settled = {m.name for group in self.groups for m in group.members if self.out(m.prune)}
        for root_of in components(where, self.kept):
            at = places(where, root_of)
            layers = {name for name, side in at if side != "in"}
            roots = sorted(name for name in layers if isinstance(self.layer(name), ROOTS))
            if layers & settled or not roots:
                continue
            unknown = next((where.tainted[n] for n in root_of if n in where.tainted), None)
            found = None if unknown else as_found(self.model, at, len(root_of), self.graph, where.dims)
            if found is None:
                if not any(layer in self.left or layer in self.doubtful for layer in roots):
                    self.left[roots[0]] = (
                        f"it is unknown how {unknown} moves its channels"
                        if unknown
                        else "no single layer has all the channels that are coupled here"
                    )
                continue
            for layer in layers:
                self.left.pop(self.doubtful.get(layer, ""), None)
            name = self.names[id(found[0].dep.target.module)]
            try:
                self.groups.append(self.group(name, found, 1))
            except Exception as error:  # noqa: BLE001 - reported
                self.left[name] = _why(error, "the importance cannot score it")

    def out(self, prune: Any) -> bool:
        """Whether this function of Torch-Pruning removes output channels."""
        return self.graph.is_out_channel_pruning_fn(prune)

    def group(self, name: str, found: Any, parts: int) -> Group:
        """The group as plain values. Raises _KeptError if it keeps its width."""
        members = self.members(found)
        width = len(found[0].idxs)
        if width % parts:
            raise _KeptError(f"its {width} channels cannot be divided into {parts} equal parts")
        shared = next((member.name for member in members if member.name in self.tied), None)
        if shared is not None:
            raise _KeptError(
                f"'{shared}' shares its weight with '{self.tied[shared]}', and pruning would untie them"
            )
        order = torch.arange(width)
        root_of = None if self.where is None else agreed(self.where, self.positions(members, self.where))
        if root_of is False:
            raise _KeptError("Torch-Pruning couples its channels with the wrong ones")
        if self.where is not None and root_of is not None:
            arrangement = arranged(self.where, root_of, width, parts)
            if arrangement is None:
                raise _KeptError(
                    "its channels are arranged in rows (such as heads or groups) in more than one way"
                )
            order, parts = arrangement
        place = torch.empty_like(order)
        place[order] = torch.arange(width)
        members = [replace(member, roots=place[member.roots]) for member in members]
        scores = self.scorer(found)
        if scores is not None:
            scores = scores.detach().float().cpu().nan_to_num()[order].view(parts, -1).mean(0)
        # Fang et al., "Isomorphic pruning for vision models" (2024): types of layers and pruned sides
        pattern = tuple(
            (dep.source.type, dep.target.type, self.out(dep.trigger), self.out(dep.handler))
            for dep, _ in found
        )
        return Group(name, width, parts, members, scores, pattern, root_of is not None)

    def members(self, found: Any) -> list[Member]:
        members: list[Member] = []
        for item in found.items:
            layer = item.dep.target.module
            name, dim = self.names.get(id(layer)), item.dep.target.pruning_dim
            if isinstance(layer, nn.Parameter):
                dim = _dimension(layer, len(item.idxs))
            if name is None or dim is None or None in item.root_idxs:
                continue  # an operation without weights, or a parameter without a channel dimension
            channels, roots = torch.tensor(item.idxs), torch.tensor(item.root_idxs)
            members.append(Member(name, item.dep.handler, dim, channels, roots))
        return members

    def positions(self, members: Sequence[Member], where: Wiring) -> Positions:
        sides: dict[Side, tuple[list[int], list[int]]] = {}
        for member in members:
            both = (member.name, "both")
            side = both if both in where.sides else (member.name, "out" if self.out(member.prune) else "in")
            positions, roots = sides.setdefault(side, ([], []))
            positions += member.channels.tolist()
            roots += member.roots.tolist()
        return sides

    def layer(self, name: str) -> Any:
        parent, _, last = name.rpartition(".")
        return getattr(self.model.get_submodule(parent), last) if name else self.model


def _why(error: Exception, what: str) -> str:
    return str(error) if isinstance(error, _KeptError) else f"{what}: {type(error).__name__}: {error}"


def _ignored(model: nn.Module, globs: Sequence[str]) -> frozenset[str]:
    names = [name for name, _ in model.named_modules() if name]
    kept: set[str] = set()
    for glob in globs:
        matched = {name for name in names if fnmatchcase(name, glob)}
        if not matched:
            raise NoEffectError(f"ignore: '{glob}' matches no layer of the model", did_you_mean(glob, names))
        kept |= {name for name in names if any(name == m or name.startswith(f"{m}.") for m in matched)}
    return frozenset(kept)


def _tied(model: nn.Module) -> dict[str, str]:
    """Modules that share a parameter -> the name of another module that has it."""
    owners: dict[int, dict[str, None]] = {}
    for at, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), {})[at] = None
    tied: dict[str, str] = {}
    for names in map(list, owners.values()):
        tied |= {name: names[0] if name != names[0] else names[1] for name in names if len(names) > 1}
    return tied


def _dimension(parameter: Tensor, width: int) -> int | None:
    """The dimension of size `width` in a parameter outside layers, or None. If several fit: the second of four
    (images), else the last."""
    fitting = [dim for dim, size in enumerate(parameter.shape) if size == width]
    return 1 if parameter.ndim == 4 and 1 in fitting else max(fitting, default=None)
