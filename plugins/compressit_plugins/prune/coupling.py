"""Which channels must go together, as plain values.

Torch-Pruning is used for what it is good at, the graph (`depgraph`), the groups and their scores. Which channel of one
layer is which of another is checked against where they really go (`wiring`), and where the two differ that decides.
Which channels go (`selection`) and their removal (`surgery`) are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressit import CompressitError, NoEffectError, did_you_mean
from compressit_plugins.prune.depgraph import ROOTS, Trace
from compressit_plugins.prune.tracing import at_most
from compressit_plugins.prune.wired import Side, agreed, arranged, as_found, components, places
from compressit_plugins.prune.wiring import Wiring, wiring

Scorer: TypeAlias = Callable[
    [Any], Tensor | None
]  # a Torch-Pruning importance: a group -> a score per channel


@dataclass(frozen=True)
class Member:
    """One layer's share of a group: position i of its dimension goes when root channel `roots[i]` goes."""

    name: str  # of a module, or of a parameter that belongs to no layer
    prune: Callable[[Any, list[int]], Any]  # Torch-Pruning's function for this layer and side
    dim: int
    channels: Tensor  # (n,) int64: positions in the layer's own dimension
    roots: Tensor  # (n,) int64


@dataclass(frozen=True)
class Group:
    """Coupled layers that lose channels together."""

    name: str  # its first layer
    width: int  # root channels
    parts: int  # equal parts that must shrink alike: convolution groups, attention heads
    members: Sequence[Member]
    scores: Tensor | None  # (width / parts,) float32; None: this importance cannot score it
    pattern: Hashable  # equal for groups with the same kinds of layers
    followed: bool = False  # its channels were followed to all these places


def coupled(
    model: nn.Module, example: Tensor, scorer: Scorer, ignore: Sequence[str], time_limit: float
) -> tuple[list[Group], dict[str, str]]:
    """The groups whose channels may go, and why not those that nobody ignored, by their first layer.

    A group that reaches the model's output is left out: its channels are the classes. So is one whose output side
    has a layer that a glob of `ignore` matches. `model` must be in eval mode with gradients enabled.
    Raises CompressitError when Torch-Pruning fails or takes longer than `time_limit` seconds, or when nothing is
    left; NoEffectError for a glob that matches no module.
    """
    kept = _ignored(model, ignore)
    kind = type(model).__name__
    where = _wiring(model, example)
    found = _Found(model, scorer, where, kept)
    late = f"Torch-Pruning did not finish tracing {kind} within {time_limit:g} s"
    help_late = (
        "raise `time_limit` if the network is just large; on some architectures (Swin, MaxViT) it never ends"
    )
    failure: CompressitError | None = None
    try:
        with at_most(time_limit, late, help_late):
            found.by_dependencies(Trace.of(model, example))
    except CompressitError as error:
        failure = error
    except (Exception, RecursionError) as error:  # noqa: BLE001 - it is told
        failure = CompressitError(
            f"Torch-Pruning cannot trace {kind}: {type(error).__name__}: {error}",
            "its layers are coupled in a way it does not know; `prune.magnitude` works on any network",
        )
    if failure is not None:
        if where is None:
            raise failure
        found = _Found(model, scorer, where, kept)
    with at_most(time_limit, late, help_late):
        found.by_wiring()
    groups, left = found.groups, found.left
    if failure is not None and failure.message == late:  # elsewhere it may come to an end
        left[kind] = f"{late}: without its groups more layers may have been left alone"
    if not groups:
        raise none_left(kind, left, kept)
    return groups, left


def none_left(kind: str, left: Mapping[str, str], kept: Collection[str] = ()) -> CompressitError:
    """What to say where no group can be pruned. left: why not, by the first layer. kept: what `ignore` matched."""
    if left:
        hint = "these widths stay already, so `ignore` does not help, and every other layer is ignored or coupled with"
    elif kept:
        hint = f"leave a layer out of `ignore`, such as '{min(kept)}': every other one is coupled with"
    else:
        hint = "every layer is coupled with"
    return CompressitError(
        f"{kind} has no width that could be pruned{': ' if left else ''}{reasons(left)}",
        f"{hint} the output, whose width is the number of classes; `prune.magnitude` works on any network",
    )


def reasons(left: Mapping[str, str]) -> str:
    """Why the first few layers are left alone, in one line."""
    more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
    return "; ".join(f"'{name}': {reason}" for name, reason in list(left.items())[:3]) + more


class _Found:
    """What is found out about a model's groups."""

    def __init__(self, model: nn.Module, scorer: Scorer, where: Wiring | None, kept: frozenset[str]) -> None:
        self.model, self.scorer, self.where, self.kept = model, scorer, where, kept
        self.graph: Any = tp.DependencyGraph()  # for its functions; it traces nothing
        self.tied = _tied(model)
        self.roots = {name for name, module in model.named_modules() if isinstance(module, ROOTS)}
        self.groups: list[Group] = []
        self.left: dict[str, str] = {}
        self.doubtful: dict[str, str] = {}  # layers that Torch-Pruning got wrong, and the name of their group

    def by_dependencies(self, trace: Trace) -> None:
        """Torch-Pruning's groups but those that reach an output or a layer to be kept."""
        self.groups, self.left, self.doubtful = [], {}, {}
        for name, found in trace.found():
            members: list[Member] = []
            try:
                if isinstance(found, Exception):
                    raise found
                if trace.reaches(found, self.kept):
                    continue
                members = self.members(found, trace.names)
                apart = trace.told_apart(found)
                if apart is None:
                    self.doubt(name, members, "Torch-Pruning cannot tell its channels apart")
                    continue
                group = self.group(name, apart, trace.names, trace.parts(apart))
            except (Exception, RecursionError) as error:  # noqa: BLE001 - it is told
                reason = f"Torch-Pruning cannot follow its channels: {type(error).__name__}: {error}"
                self.doubt(name, members, reason)
                continue
            if isinstance(group, Group):
                self.groups.append(group)
            else:
                self.doubt(name, members, group)

    def by_wiring(self) -> None:
        """Groups of the layers that are in none yet, and are not coupled with the output."""
        if self.where is None:
            return
        settled = {member.name for group in self.groups for member in group.members if self.made(member)}
        for root_of in components(self.where, self.kept):
            at = places(self.where, root_of)
            layers = {name for name, side in at.roots if side != "in"}
            roots = sorted(layers & self.roots)
            if layers & settled or not roots:
                continue
            unknown = next((self.where.tainted[n] for n in root_of if n in self.where.tainted), None)
            if unknown is not None:
                self.leave(roots, f"it is not known how {unknown} moves its channels")
                continue
            found = as_found(self.model, at, self.graph.get_pruner_of_module, self.where.dims)
            if found is None:
                self.leave(roots, "no single layer makes all the channels that are bound together here")
                continue
            name, items = found
            names = {id(thing): own for own, thing in _things(self.model)}
            try:
                group = self.group(name, items, names, 1)
            except Exception as error:  # noqa: BLE001 - it is told
                group = f"its importance cannot score it: {type(error).__name__}: {error}"
            for layer in layers:
                self.left.pop(self.doubtful.get(layer, ""), None)
            if isinstance(group, Group):
                self.groups.append(group)
            else:
                self.left[name] = group

    def leave(self, layers: Sequence[str], reason: str) -> None:
        """Says why these are left alone, unless it was said."""
        if not any(layer in self.left or layer in self.doubtful for layer in layers):
            self.left[layers[0]] = reason

    def doubt(self, name: str, members: Sequence[Member], reason: str) -> None:
        self.left[name] = reason
        self.doubtful |= {member.name: name for member in members if self.made(member)} | {name: name}

    def made(self, member: Member) -> bool:
        """Whether the layer itself becomes narrower."""
        return self.graph.is_out_channel_pruning_fn(member.prune)

    def group(self, name: str, found: Any, names: Mapping[int, str], parts: int) -> Group | str:
        """The group as plain values, or why it is left alone."""
        members = self.members(found, names)
        width = len(found[0].idxs)
        if width % parts:
            return f"its {width} channels cannot be divided into {parts} equal parts"
        shared = next((member.name for member in members if member.name in self.tied), None)
        if shared is not None:
            return f"'{shared}' shares its weight with '{self.tied[shared]}': pruning would give each its own"
        order, right = torch.arange(width), None
        if self.where is not None:
            sides: dict[Side, tuple[list[int], list[int]]] = {}
            for member in members:
                positions, roots = sides.setdefault(self.side(member), ([], []))
                positions += member.channels.tolist()
                roots += member.roots.tolist()
            right = agreed(self.where, sides)
            if right is False:
                return "Torch-Pruning couples its channels with others than they meet"
            arrangement = arranged(self.where, sides, width, parts) if right else (order, parts)
            if arrangement is None:
                return "its channels are arranged in rows, as of heads or groups, in more than one way"
            order, parts = arrangement
        place = torch.empty_like(order)
        place[order] = torch.arange(width)
        members = [replace(member, roots=place[member.roots]) for member in members]
        scores = self.scores(found, order, parts)
        return Group(name, width, parts, members, scores, self.pattern(found), right is True)

    def side(self, member: Member) -> Side:
        assert self.where is not None
        both = (member.name, "both")
        return both if both in self.where.sides else (member.name, "out" if self.made(member) else "in")

    def members(self, found: Any, names: Mapping[int, str]) -> list[Member]:
        members: list[Member] = []
        for item in found.items:
            layer = item.dep.target.module
            name, dim = names.get(id(layer)), item.dep.target.pruning_dim
            if isinstance(layer, nn.Parameter):
                dim = _dimension(layer, len(item.idxs))
            if name is None or dim is None or None in item.root_idxs:
                continue  # an operation without weights, or a parameter that has none per channel
            channels, roots = torch.tensor(item.idxs), torch.tensor(item.root_idxs)
            members.append(Member(name, item.dep.handler, dim, channels, roots))
        return members

    def scores(self, found: Any, order: Tensor, parts: int) -> Tensor | None:
        scores = self.scorer(found)
        if scores is None:
            return None
        return scores.detach().float().cpu().nan_to_num()[order].view(parts, -1).mean(0)

    def pattern(self, found: Any) -> Hashable:
        """Fang et al., "Isomorphic pruning for vision models" (2024): kinds of layers and the side they lose."""
        out = self.graph.is_out_channel_pruning_fn
        return tuple(
            (dep.source.type, dep.target.type, out(dep.trigger), out(dep.handler)) for dep, _ in found
        )


def _wiring(model: nn.Module, example: Tensor) -> Wiring | None:
    try:
        return wiring(model, example)
    except Exception:  # noqa: BLE001 - Torch-Pruning's own pass says what is wrong
        return None


def _things(model: nn.Module) -> list[tuple[str, Any]]:
    return [*model.named_modules(), *model.named_parameters()]


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
    """Modules with a parameter that another module has as well, and that one's name."""
    owners: dict[int, dict[str, None]] = {}
    for at, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), {})[at] = None
    tied: dict[str, str] = {}
    for names in map(list, owners.values()):
        tied |= {name: names[0] if name != names[0] else names[1] for name in names if len(names) > 1}
    return tied


def _dimension(parameter: Tensor, width: int) -> int | None:
    """The dimension of a parameter outside layers that has an entry for each of `width` channels, if any: where
    several fit the second of four (images), else the last."""
    fitting = [dim for dim, size in enumerate(parameter.shape) if size == width]
    return 1 if parameter.ndim == 4 and 1 in fitting else max(fitting, default=None)
