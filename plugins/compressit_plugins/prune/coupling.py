"""Which channels must go together: Torch-Pruning's dependency graph as plain values. The one file here that traces.

DepGraph: Fang et al., "DepGraph: Towards any structural pruning" (2023). Torch-Pruning is used for what it is good
at, the graph, the groups and their scores; which channels go (`selection`) and their removal (`surgery`) are ours.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch_pruning import ops

from compressit.errors import CompressitError, NoEffectError, did_you_mean
from compressit_plugins.prune.tracing import at_most

Scorer: TypeAlias = Callable[
    [Any], Tensor | None
]  # a Torch-Pruning importance: a group -> a score per channel

_ROOTS = (nn.modules.conv._ConvNd, nn.Linear)  # pyright: ignore[reportPrivateUsage]


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
    with at_most(
        time_limit,
        f"Torch-Pruning did not finish tracing {kind} within {time_limit:g} s",
        "raise `time_limit` if the network is just large; on some architectures (Swin, MaxViT) it never ends",
    ):
        try:
            trace = _Trace.of(model, example, scorer)
            groups, left = trace.groups(kept)
        except (Exception, RecursionError) as error:
            raise CompressitError(
                f"Torch-Pruning cannot trace {kind}: {type(error).__name__}: {error}",
                "its layers are coupled in a way it does not know; `prune.magnitude` works on any network",
            ) from error
    if not groups:
        raise none_left(kind, left)
    return groups, left


def none_left(kind: str, left: Mapping[str, str]) -> CompressitError:
    """What to say where no group can be pruned."""
    others = "every other layer" if left else "every layer"
    return CompressitError(
        f"{kind} has no width that could be pruned{': ' if left else ''}{reasons(left)}",
        f"{others} is ignored or coupled with the output, whose width is the number of classes; `prune.magnitude` "
        "works on any network",
    )


def reasons(left: Mapping[str, str]) -> str:
    """Why the first few layers are left alone, in one line."""
    more = f"; and {len(left) - 3} more" if len(left) > 3 else ""
    return "; ".join(f"'{name}': {reason}" for name, reason in list(left.items())[:3]) + more


@dataclass(frozen=True)
class _Trace:
    """A traced model: Torch-Pruning's pruner, and what its modules are called."""

    pruner: Any
    scorer: Scorer
    names: Mapping[int, str]  # modules and parameters by identity
    outputs: frozenset[int]  # modules and operations whose result the model returns
    heads: Mapping[nn.Module, int]
    tied: Mapping[str, str]  # modules that share a parameter, and with which

    @staticmethod
    def of(model: nn.Module, example: Tensor, scorer: Scorer) -> _Trace:
        returned: list[Any] = []

        def forward(net: nn.Module, inputs: tuple[Tensor]) -> Any:
            returned.append(net(*inputs))  # Torch-Pruning's own way hides errors
            return returned[-1]

        attributes = [(module, dict(vars(module))) for module in model.modules()]
        inputs: Any = (example,)  # a bare tensor would be unpacked along its batch
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about parameters outside layers: `_dimension` sees to them
            pruner = tp.pruner.BasePruner(
                model,
                inputs,
                scorer,
                forward_fn=forward,
                unwrapped_parameters=_maps(model),
                num_heads={m.qkv: m.num_heads for m in model.modules() if _is_attention(m)},  # pyright: ignore
                in_channel_groups={},  # the defaults are shared by all pruners of a process
                out_channel_groups={},
                root_module_types=[],  # it would walk all groups at once, and none is left if one fails
            )
        for module, before in attributes:  # what the net keeps of a forward pass cannot be copied
            vars(module).update(before)
            for name in set(vars(module)) - set(before):
                delattr(module, name)
        gradients = {id(out.grad_fn) for out in tree_leaves(returned) if isinstance(out, Tensor)}
        nodes = pruner.DG.module2node.items()
        heads: dict[nn.Module, int] = {
            m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)
        }
        return _Trace(
            pruner,
            scorer,
            {id(thing): name for name, thing in [*model.named_modules(), *model.named_parameters()]},
            frozenset(id(module) for module, node in nodes if id(node.grad_fn) in gradients),
            heads | pruner.num_heads,
            _tied(model),
        )

    def groups(self, kept: frozenset[str]) -> tuple[list[Group], dict[str, str]]:
        """All groups but those that reach an output or a layer of `kept`; and why others are left alone."""
        groups: list[Group] = []
        left: dict[str, str] = {}
        for name, found in self.found():
            try:
                if isinstance(found, Exception):
                    raise found
                if self.reaches(found, kept):
                    continue
                group = self.group(found)
            except (Exception, RecursionError) as error:  # noqa: BLE001 - it is told
                group = f"Torch-Pruning cannot follow its channels: {type(error).__name__}: {error}"
            if isinstance(group, Group):
                groups.append(group)
            else:
                left[name] = group
        return groups, left

    def found(self) -> Generator[tuple[str, Any]]:
        """Torch-Pruning's group of every layer that is not yet in one, or its error; and the layer's name."""
        visited: set[int] = set()
        for layer in list(self.pruner.DG.module2node):
            if not isinstance(layer, _ROOTS) or id(layer) in visited:
                continue
            pruner = self.pruner.DG.get_pruner_of_module(layer)
            try:
                channels = list(range(pruner.get_out_channels(layer)))
                found = self.pruner.DG.get_pruning_group(layer, pruner.prune_out_channels, channels)
            except (Exception, RecursionError) as error:  # noqa: BLE001 - it is told
                yield self.names[id(layer)], error
                continue
            visited |= {
                id(dep.target.module)
                for dep, _ in found
                if self.pruner.DG.is_out_channel_pruning_fn(dep.handler)
            }
            yield self.names[id(layer)], found

    def reaches(self, found: Any, kept: frozenset[str]) -> bool:
        """Whether an output, or a layer whose width is to stay, is among those that would become narrower."""
        return any(
            self.pruner.DG.is_out_channel_pruning_fn(dep.handler)
            and (id(dep.target.module) in self.outputs or self.names.get(id(dep.target.module)) in kept)
            for dep, _ in found
        )

    def group(self, found: Any) -> Group | str:
        """The group as plain values, or why it is left alone."""
        name = self.names[id(found[0].dep.target.module)]
        attention, _ = self.pruner._is_atten_group(found)
        if attention:  # the layer behind the heads numbers channels once, query, key and value three times
            self.pruner.root_module_types = list(_ROOTS)
            found = self.pruner._downstream_node_as_root_if_attention(found)
        if found is None or any(None in item.root_idxs for item in found.items):
            return "Torch-Pruning cannot tell its channels apart"
        members = [member for item in found.items if (member := self._member(item)) is not None]
        width = len(found[0].idxs)
        parts = math.lcm(*(self._parts(dep) for dep, _ in found))
        if width % parts:
            return f"its {width} channels cannot be divided into {parts} equal parts"
        shared = next((member.name for member in members if member.name in self.tied), None)
        if shared is not None:
            return f"'{shared}' shares its weight with '{self.tied[shared]}': pruning would give each its own"
        return Group(name, width, parts, members, self._scores(found, parts), self._pattern(found))

    def _member(self, item: Any) -> Member | None:
        dep, layer = item.dep, item.dep.target.module
        name = self.names.get(id(layer))
        dim = dep.target.pruning_dim
        if isinstance(layer, nn.Parameter):
            dim = _dimension(layer, len(item.idxs))
        if name is None or dim is None:
            return None  # an operation without weights, or a parameter that has none per channel
        return Member(name, dep.handler, dim, torch.tensor(item.idxs), torch.tensor(item.root_idxs))

    def _parts(self, dep: Any) -> int:
        layer = dep.target.module
        pruner = self.pruner.DG.get_pruner_of_module(layer)
        out = self.pruner.DG.is_out_channel_pruning_fn(dep.handler)
        if out and layer in self.heads:
            return self.heads[layer]
        if getattr(layer, "groups", 1) == getattr(layer, "out_channels", None):
            return 1  # a depthwise convolution has a group for each channel
        return pruner.get_out_channel_groups(layer) if out else pruner.get_in_channel_groups(layer)

    def _scores(self, found: Any, parts: int) -> Tensor | None:
        scores = self.scorer(found)
        if scores is None:
            return None
        return scores.detach().float().cpu().nan_to_num().view(parts, -1).mean(0)

    def _pattern(self, found: Any) -> Hashable:
        """Fang et al., "Isomorphic pruning for vision models" (2024): kinds of layers and the side they lose."""
        out = self.pruner.DG.is_out_channel_pruning_fn
        return tuple(
            (dep.source.type, dep.target.type, out(dep.trigger), out(dep.handler)) for dep, _ in found
        )


def _ignored(model: nn.Module, globs: Sequence[str]) -> frozenset[str]:
    names = [name for name, _ in model.named_modules() if name]
    kept: set[str] = set()
    for glob in globs:
        matched = {name for name in names if fnmatchcase(name, glob)}
        if not matched:
            raise NoEffectError(f"ignore: '{glob}' matches no layer of the model", did_you_mean(glob, names))
        kept |= {name for name in names if any(name == m or name.startswith(f"{m}.") for m in matched)}
    return frozenset(kept)


def _is_attention(module: nn.Module) -> bool:
    """Attention as timm writes it: query, key and value of all heads in one linear layer."""
    return isinstance(getattr(module, "qkv", None), nn.Linear) and isinstance(
        getattr(module, "num_heads", None), int
    )


def _tied(model: nn.Module) -> dict[str, str]:
    """Modules with a parameter that another module has as well, and that one's name."""
    owners: dict[int, dict[str, None]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), {})[name.rpartition(".")[0]] = None
    tied: dict[str, str] = {}
    for names in map(list, owners.values()):
        tied |= {name: names[0] if name != names[0] else names[1] for name in names if len(names) > 1}
    return tied


def _maps(model: nn.Module) -> Any:
    """Parameters (1, C, H, W) outside layers with the dimension of their channels: Torch-Pruning would take W."""
    return [
        (parameter, 1)
        for module in model.modules()
        if ops.module2type(module) == ops.OPTYPE.ELEMENTWISE
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 4 and parameter.shape[0] == 1 and parameter.shape[1] > 1
    ]


def _dimension(parameter: Tensor, width: int) -> int | None:
    """The dimension of a parameter outside layers that has an entry for each of `width` channels, if any: where
    several fit the second of four (images), else the last."""
    fitting = [dim for dim, size in enumerate(parameter.shape) if size == width]
    return 1 if parameter.ndim == 4 and 1 in fitting else max(fitting, default=None)
