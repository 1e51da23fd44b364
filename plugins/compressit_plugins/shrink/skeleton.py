"""The shape of a structurally pruned model, with fresh weights. The one file here that uses Torch-Pruning."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

from compressit.errors import CompressitError
from compressit_plugins.shrink.student import reset_parameters


def skeleton(model: nn.Module, width: float, input_shape: tuple[int, ...], seed: int) -> nn.Module:
    """A copy of `model` that keeps the fraction `width` of every hidden layer's channels, on the model's device, in
    train mode, with fresh weights drawn from `seed`. The classifier keeps its outputs. `model` is left as it was.

    Structure by Fang et al., "DepGraph: Towards any structural pruning" (2023). Raises CompressitError when
    Torch-Pruning cannot trace the model or nothing could be pruned.
    """
    device = next(model.parameters()).device
    net = copy.deepcopy(model).cpu().eval().requires_grad_(True)
    inputs = torch.zeros(1, *input_shape)
    before = sum(p.numel() for p in net.parameters())
    torch.manual_seed(seed)
    with torch.enable_grad():
        try:
            pruner: Any = tp.pruner.BasePruner(
                net,
                (inputs,),
                importance=tp.importance.MagnitudeImportance(p=1),
                pruning_ratio=1 - width,
                ignored_layers=[_classifier(net, inputs)],
                num_heads={},  # fresh dicts: the defaults are shared between pruners and changed in place
                in_channel_groups={},
                out_channel_groups={},
            )
            pruner.step()
            net(inputs)
        except Exception as error:
            raise CompressitError(
                f"{type(model).__name__} could not be pruned structurally: {type(error).__name__}: {error}",
                "give its model plugin a `narrower` method",
            ) from error
    if sum(p.numel() for p in net.parameters()) == before:
        raise CompressitError(f"no channel of {type(model).__name__} could be removed at width {width:.3g}")
    reset_parameters(net)
    return net.to(device).train().requires_grad_(True)


def _classifier(net: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """The last linear or convolutional layer that runs: its outputs are the classes."""
    ran: list[nn.Module] = []
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    handles = [m.register_forward_hook(lambda module, args, output: ran.append(module)) for m in layers]
    try:
        with torch.no_grad():
            net(inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise CompressitError(f"{type(net).__name__} has no linear or convolutional layer")
    return ran[-1]
