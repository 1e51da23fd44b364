"""Feature hints: inner layers of a student learn the outputs of a teacher's layers.

Romero et al., "FitNets: hints for thin deep nets" (2015), with the outer loss at once instead of after it, and any
number of layers, as Tian et al., "Contrastive representation distillation" (2020), compare it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit import CompressitError, InputTensors, StageContext, counted, did_you_mean
from compressit_plugins.distill.options import HintsConfig


class Watched(nn.Module):
    """A net whose layers' outputs can be read after a forward pass. It has hooks only while it runs."""

    def __init__(self, net: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.net = net
        self.layers = tuple(layers)
        self._seen: dict[str, Tensor] = {}

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the net gives."""
        self._seen.clear()
        hooks = [self.net.get_submodule(name).register_forward_hook(self._keep(name)) for name in self.layers]
        try:
            return self.net(*inputs, **named)
        finally:
            for hook in hooks:
                hook.remove()

    def features(self) -> list[Tensor]:
        """The outputs of each layer in the last forward pass, once; of a layer that ran several times, the last.

        Raises CompressitError for a layer that did not run or does not give one tensor.
        """
        seen = dict(self._seen)
        self._seen.clear()
        for name in self.layers:
            if not isinstance(seen.get(name), Tensor):
                found = f"gives a {type(seen[name]).__name__}" if name in seen else "does not run"
                raise CompressitError(
                    f"hints: the layer '{name}' of {type(self.net).__name__} {found}, so it has no output to learn",
                    "name layers that give one tensor",
                )
        return [seen[name] for name in self.layers]

    def _keep(self, name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self._seen[name] = output

        return keep


class Hinted(Watched):
    """A student with an adapter for each layer: from its width to the teacher's. They are trained beside it."""

    def __init__(self, net: nn.Module, layers: Sequence[str], adapters: Sequence[nn.Module]) -> None:
        super().__init__(net, layers)
        self.adapters = nn.ModuleList(adapters)

    def adapted(self) -> list[Tensor]:
        """The features of the last forward pass, of the teacher's widths."""
        return [adapter(x) for adapter, x in zip(self.adapters, self.features(), strict=True)]


def hinted(
    student: nn.Module, teacher: nn.Module, options: HintsConfig, some: InputTensors, ctx: StageContext
) -> tuple[Hinted, Watched]:
    """The student and its teacher, whose features can be compared. `some`: a few inputs, to learn their shapes.

    Adapters are drawn from the stage's stream "adapters": none where widths agree, else a linear layer, for images a
    1 x 1 convolution. Raises CompressitError for a name that matches no layer, and features that cannot be compared.
    """
    pairs = paired(options.layers, student, teacher)
    ours, theirs = (Watched(net, [pair[i] for pair in pairs]) for i, net in enumerate((student, teacher)))
    shapes: list[list[torch.Size]] = []
    for watched in (ours, theirs):
        ctx.compute.forward(watched, some)
        shapes.append([feature.shape for feature in watched.features()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ctx.streams.number("adapters"))
        adapters = [
            _adapter(*pair, *both) for pair, both in zip(pairs, zip(*shapes, strict=True), strict=True)
        ]
    return Hinted(student, ours.layers, adapters), theirs


def with_hints(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor], student: Hinted, weight: float
) -> Callable[..., Tensor]:
    """`loss` plus `weight` times the mean squared error of the features, averaged over the layers."""

    def both(outputs: Tensor, wanted: Tensor, taught: Tensor, *features: Tensor) -> Tensor:
        errors = [
            F.mse_loss(ours.to(torch.promote_types(ours.dtype, torch.float32)), theirs)
            for ours, theirs in zip(student.adapted(), features, strict=True)
        ]
        return loss(outputs, wanted, taught) + weight * torch.stack(errors).mean()

    return both


def paired(layers: Mapping[str, str], student: nn.Module, teacher: nn.Module) -> list[tuple[str, str]]:
    """The names of layers that belong together. Raises CompressitError where a pattern matches no layer, or two of a
    pair do not match as many."""
    found: list[tuple[str, str]] = []
    for ours, theirs in layers.items():
        names = _matching(ours, student, "student"), _matching(theirs, teacher, "teacher")
        if len(names[0]) != len(names[1]):
            raise CompressitError(
                f"hints.layers: '{ours}' matches {counted(len(names[0]), 'layer')} of the student, "
                f"and '{theirs}' {len(names[1])} of the teacher",
                "let both match as many: they are paired in their order",
            )
        found += zip(*names, strict=True)
    return found


def _matching(pattern: str, net: nn.Module, whose: str) -> list[str]:
    names = [name for name, _ in net.named_modules() if name]
    found = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        message = f"hints.layers: '{pattern}' matches no layer of the {whose}, a {type(net).__name__}"
        raise CompressitError(message, did_you_mean(pattern, names))
    return found


def _adapter(ours: str, theirs: str, own: torch.Size, wanted: torch.Size) -> nn.Module:
    """A layer from features of shape `own` (N, ...) to `wanted`."""
    if own == wanted:
        return nn.Identity()
    if len(own) == len(wanted) == 4 and own[2:] == wanted[2:]:
        return nn.Conv2d(own[1], wanted[1], kernel_size=1)
    if len(own) == len(wanted) and len(own) in (2, 3) and own[:-1] == wanted[:-1]:
        return nn.Linear(own[-1], wanted[-1])
    raise CompressitError(
        f"hints.layers: '{ours}' of the student gives {tuple(own[1:])} for each example, and '{theirs}' of the teacher "
        f"{tuple(wanted[1:])}",
        "name layers that differ in width only: in channels of maps of one size, or in the last dimension",
    )
