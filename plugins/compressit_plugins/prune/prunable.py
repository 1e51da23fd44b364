"""Finds the groups of channels that a net can lose, and makes the net ready for it."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compressit import InputTensors, each_tensor
from compressit_plugins.prune.coupling import Group, none_left
from compressit_plugins.prune.faults import faulty, half
from compressit_plugins.prune.surgery import Given


def sound(
    model: nn.Module, given: Given, example: InputTensors, groups: Sequence[Group], left: dict[str, str]
) -> Sequence[Group]:
    """The groups that can be pruned; the others are added to `left`, with the reason. `given` is that of `model`.
    Raises CompressitError if none can."""
    kind = type(model).__name__
    groups = without(groups, _unread(given, groups), left, kind)
    if not all(group.followed for group in groups):
        groups = without(groups, unfit(model, given.empty, groups, example), left, kind)
    return groups


def unfit(
    model: nn.Module, empty: nn.Module, groups: Sequence[Group], example: InputTensors
) -> dict[str, str]:
    """The groups that cannot be pruned, whichever channels are removed, and why. `empty`: as for `faulty`."""
    return faulty(model, empty, groups, list(map(half, groups)), inputs_like(example)[:1])[0]


def without(
    groups: Sequence[Group], faults: Mapping[str, str], left: dict[str, str], kind: str
) -> Sequence[Group]:
    """The groups without the faulty ones, which are added to `left`. Raises CompressitError if none remains."""
    left |= faults
    groups = [group for group in groups if group.name not in faults]
    if not groups:
        raise none_left(kind, left)
    return groups


def _unread(given: Given, groups: Sequence[Group]) -> dict[str, str]:
    """Groups that a layer may read without the trace having seen it, and the reason to think so."""
    reasons: dict[str, str] = {}
    for group in groups:
        widths = {group.width, *(len(member.channels) for member in group.members)}
        layer = next((name for name, sizes in given.silent.items() if sizes & widths), None)
        if layer is not None:
            reasons[group.name] = f"'{layer}' did not run on the example, and may read these channels"
    return reasons


def inputs_like(example: InputTensors) -> list[InputTensors]:
    """Bright and dark inputs like `example`, to detect computations that depend on the input; of whole numbers those of
    `example` in another order, since others may not be valid."""
    generator = torch.Generator().manual_seed(0)

    def bright(x: Tensor) -> Tensor:
        return torch.rand(x.shape, generator=generator).to(x) if x.is_floating_point() else mixed(x)

    def dark(x: Tensor) -> Tensor:
        return (
            (torch.randn(x.shape, generator=generator) * 3 - 1).to(x) if x.is_floating_point() else mixed(x)
        )

    def mixed(x: Tensor) -> Tensor:
        return x.flatten()[torch.randperm(x.numel(), generator=generator).to(x.device)].view_as(x)

    return [each_tensor(example, bright), each_tensor(example, dark)]


@contextmanager
def traceable(model: nn.Module) -> Generator[None]:
    """Sets eval mode and enables all gradients, as Torch-Pruning needs; restores both afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        model.train()  # some nets drop results of a forward pass here
        for module, mode in modes:
            module.training = mode
        for name, parameter in model.named_parameters():
            parameter.grad = None
            parameter.requires_grad_(name not in frozen)
