"""Makes a structurally pruned model with fresh weights. Only this file here uses Torch-Pruning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from torch import nn

from compressit import (
    CompressitError,
    InitConfig,
    Inputs,
    InputTensors,
    call,
    copied,
    zero_inputs,
)
from compressit_plugins.models.widths import narrowed
from compressit_plugins.prune.tracing import refuse_unprunable
from compressit_plugins.train.fresh_weights import redraw

Weighted: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def skeleton(
    model: nn.Module,
    width: float,
    inputs: Inputs,
    seed: int,
    times: int = 1,
    init: InitConfig | None = None,
    built: nn.Module | None = None,
) -> nn.Module:
    """A copy of `model` with every hidden layer's channels times `width`, rounded up, `times` times in a row. It is on
    the model's device, in train mode, with fresh weights, see `redraw`. The classifier keeps its
    outputs, grouped layers keep their groups. Does not change `model` or torch's random state.

    Finds layers that must shrink together with DepGraph (Fang et al., "DepGraph: Towards any structural pruning",
    2023). Raises CompressitError if Torch-Pruning cannot trace the model or nothing can be removed.
    """
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    refuse_unprunable(model)
    net = _learning(copied(model).cpu().float().eval())
    example = zero_inputs(inputs, 1)
    before = sum(p.numel() for p in net.parameters())
    classifier = output_layer(net, lambda: call(net, example))
    try:
        with torch.enable_grad():
            _narrow(net, example, classifier, width, times)
        call(net, example)
    except Exception as error:
        raise CompressitError(
            f"{type(model).__name__} could not be pruned structurally: {type(error).__name__}: {error}",
            "give its model plugin a `with_width` method",
        ) from error
    if sum(p.numel() for p in net.parameters()) == before:
        raise CompressitError(f"no channel of {type(model).__name__} could be removed at width {width:.3g}")
    redraw(net, seed, init, built)
    return _learning(net.to(first.device, first.dtype).train())


def _learning(net: nn.Module) -> nn.Module:
    """Turns gradients on for every parameter that can have them."""
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    return net


def _narrow(net: nn.Module, example: InputTensors, classifier: nn.Module, width: float, times: int) -> None:
    """Removes the last channels of each group of coupled layers. Which ones does not matter: weights are redrawn.

    We do not use tp.pruner: it rounds down, and does not shrink a layer if that gives zero.
    """
    forward: Any = call  # Torch-Pruning declares fewer kinds of inputs than it takes
    given: Any = example
    graph: Any = tp.DependencyGraph().build_dependency(net, given, forward_fn=forward)
    coupled = [
        (group[0].dep.target.module, group[0].dep.handler, _parts(graph, group))
        for group in graph.get_all_groups(ignored_layers=[classifier])
    ]
    for layer, prune, parts in coupled:
        each = kept = graph.get_out_channels(layer) // parts
        for _ in range(times):
            kept = narrowed(kept, width)
        gone = [part * each + channel for part in range(parts) for channel in range(kept, each)]
        if gone:
            graph.get_pruning_group(layer, prune, gone).prune()


def _parts(graph: Any, group: Any) -> int:
    """The number of equal parts of these channels (grouped convolutions, group norm), which must shrink alike."""
    parts = 1
    for dep, _ in group:
        layer, pruner = dep.target.module, graph.get_pruner_of_module(dep.target.module)
        if pruner is None or getattr(layer, "groups", 1) == getattr(layer, "out_channels", None):
            continue  # a depthwise convolution has a group per channel
        out = graph.is_out_channel_pruning_fn(dep.handler)
        parts = max(
            parts, pruner.get_out_channel_groups(layer) if out else pruner.get_in_channel_groups(layer)
        )
    return parts


def output_layer(net: nn.Module, forward: Callable[[], object]) -> Weighted:
    """The last linear or convolutional layer that runs in a forward pass; its outputs are the classes."""
    ran: list[Any] = []
    layers = [m for m in net.modules() if isinstance(m, Weighted)]
    handles = [m.register_forward_hook(lambda module, args, output: ran.append(module)) for m in layers]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise CompressitError(f"{type(net).__name__} has no linear or convolutional layer")
    return ran[-1]
