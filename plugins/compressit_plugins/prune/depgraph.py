"""Torch-Pruning's dependency graph of a model, which couples layers. Only this file here runs its tracing.

DepGraph: Fang et al., "DepGraph: Towards any structural pruning" (2023).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import torch_pruning as tp
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch_pruning import ops

from compressit import InputTensors, call

ROOTS = (nn.modules.conv._ConvNd, nn.Linear)  # pyright: ignore[reportPrivateUsage]


@dataclass(frozen=True)
class Trace:
    """A model traced by Torch-Pruning."""

    pruner: Any
    outputs: frozenset[int]  # modules and operations whose result the model returns
    heads: Mapping[nn.Module, int]

    @staticmethod
    def of(model: nn.Module, example: InputTensors) -> Trace:
        returned: list[Any] = []

        def forward(net: nn.Module, inputs: InputTensors) -> Any:
            returned.append(call(net, inputs))  # Torch-Pruning's default hides errors
            return returned[-1]

        attributes = [(module, dict(vars(module))) for module in model.modules()]
        inputs: Any = example
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about parameters outside layers, which `_dimension` handles
            pruner = tp.pruner.BasePruner(
                model,
                inputs,
                tp.importance.GroupMagnitudeImportance(),  # required but unused: scores are computed elsewhere
                forward_fn=forward,
                unwrapped_parameters=_maps(model),
                num_heads={m.qkv: m.num_heads for m in model.modules() if _is_attention(m)},  # pyright: ignore
                in_channel_groups={},  # the defaults are shared by all pruners of a process
                out_channel_groups={},
                root_module_types=[],  # otherwise it collects all groups at once, and one failure loses all
            )
        for module, before in attributes:  # drop results of the forward pass: they cannot be copied
            vars(module).update(before)
            for name in set(vars(module)) - set(before):
                delattr(module, name)
        gradients = {id(out.grad_fn) for out in tree_leaves(returned) if isinstance(out, Tensor)}
        nodes = pruner.DG.module2node.items()
        heads: dict[nn.Module, int] = {
            m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)
        }
        return Trace(
            pruner,
            frozenset(id(module) for module, node in nodes if id(node.grad_fn) in gradients),
            heads | pruner.num_heads,
        )

    def found(self) -> Generator[tuple[nn.Module, Any]]:
        """Torch-Pruning's group, or its error, for every layer that is not in an earlier group."""
        graph = self.pruner.DG
        visited: set[int] = set()
        for layer in list(graph.module2node):
            if not isinstance(layer, ROOTS) or id(layer) in visited:
                continue
            pruner = graph.get_pruner_of_module(layer)
            try:
                channels = list(range(pruner.get_out_channels(layer)))
                found = graph.get_pruning_group(layer, pruner.prune_out_channels, channels)
            except Exception as error:  # noqa: BLE001 - reported
                yield layer, error
                continue
            visited |= self.made(found)
            yield layer, found

    def made(self, found: Any) -> set[int]:
        """Identities of the layers and operations that would become narrower."""
        out = self.pruner.DG.is_out_channel_pruning_fn
        return {id(dep.target.module) for dep, _ in found if out(dep.handler)}

    def told_apart(self, found: Any) -> Any:
        """The group with a root layer whose channels determine all others; None if there is none."""
        attention, _ = self.pruner._is_atten_group(found)
        if (
            attention
        ):  # the layer after the heads has each channel once; query, key and value have it three times
            self.pruner.root_module_types = list(ROOTS)
            found = self.pruner._downstream_node_as_root_if_attention(found)
        return None if found is None or any(None in item.root_idxs for item in found.items) else found

    def parts(self, found: Any) -> int:
        """The number of equal parts, which must shrink alike, into which its layers divide the channels."""
        return math.lcm(*(self._parts(dep) for dep, _ in found))

    def _parts(self, dep: Any) -> int:
        layer = dep.target.module
        pruner = self.pruner.DG.get_pruner_of_module(layer)
        out = self.pruner.DG.is_out_channel_pruning_fn(dep.handler)
        if out and layer in self.heads:
            return self.heads[layer]
        if getattr(layer, "groups", 1) == getattr(layer, "out_channels", None):
            return 1  # a depthwise convolution has a group for each channel
        return pruner.get_out_channel_groups(layer) if out else pruner.get_in_channel_groups(layer)


def _is_attention(module: nn.Module) -> bool:
    """Attention as timm writes it: query, key and value of all heads in one linear layer."""
    return isinstance(getattr(module, "qkv", None), nn.Linear) and isinstance(
        getattr(module, "num_heads", None), int
    )


def _maps(model: nn.Module) -> Any:
    """Parameters (1, C, H, W) outside layers with their channel dimension: Torch-Pruning would use W."""
    return [
        (parameter, 1)
        for module in model.modules()
        if ops.module2type(module) == ops.OPTYPE.ELEMENTWISE
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 4 and parameter.shape[0] == 1 and parameter.shape[1] > 1
    ]
