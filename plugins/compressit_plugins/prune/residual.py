"""Finds the residual blocks of a net by what it computes, whatever its layers are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from compressit import InputTensors
from compressit_plugins.prune.surgery import outputs

_ADDS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
_PASSES = {
    "relu", "relu_", "relu6", "hardtanh", "hardtanh_", "gelu", "silu", "silu_", "hardswish", "leaky_relu", "elu",
    "layer_norm", "batch_norm", "group_norm", "dropout",
}  # fmt: skip
"""Functions that may follow the sum in a block."""


def residual_blocks(model: nn.Module, example: InputTensors) -> tuple[list[str], dict[str, str]]:
    """The names of the residual blocks, in the order in which they run, and of those that `nn.Identity` cannot replace,
    with the reason. `model` must be in eval mode; `example`: one input (1, ...) on its device.

    A residual block takes a tensor and gives one of the same shape: a sum of the given tensor itself and of something
    computed from it, perhaps more such sums, activated or normed. Of blocks in blocks the smallest count where a block
    has several, otherwise the largest.
    """
    flow = _Flow()
    names = {name: module for name, module in model.named_modules() if name}
    handles: list[Any] = []
    for name, module in names.items():
        handles.append(module.register_forward_pre_hook(flow.entering(name), with_kwargs=True))
        handles.append(module.register_forward_hook(flow.leaving(name), always_call=True))
    fused: Any = torch.backends.mha
    before = fused.get_fastpath_enabled()
    try:
        fused.set_fastpath_enabled(False)  # a fused encoder layer hides its sums
        with flow:
            outputs(model, example)
    finally:
        fused.set_fastpath_enabled(before)
        for handle in handles:
            handle.remove()
    found = _whole([name for name in flow.found if flow.found[name]])
    reasons = {name: why for name in found if (why := flow.fault(name))}
    return [name for name in found if name not in reasons], reasons


def _whole(names: Sequence[str]) -> list[str]:
    """Of blocks in blocks: the inner ones where there are several side by side, else the outer one."""

    def inner(name: str) -> list[str]:
        below = [other for other in names if other.startswith(f"{name}.")]
        outermost = [o for o in below if not any(o.startswith(f"{other}.") for other in below)]
        found = [within for other in outermost for within in inner(other)]
        return found if len(found) > 1 else [name]

    top = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    chosen = {found for name in top for found in inner(name)}
    return [name for name in names if name in chosen]


@dataclass
class _Frame:
    """A module that runs, and what became of its input so far."""

    name: str
    given: Tensor | None
    computed: dict[int, Tensor] = field(
        default_factory=dict[int, Tensor]
    )  # from it; kept, since ids are reused
    sums: dict[int, Tensor] = field(default_factory=dict[int, Tensor])  # of it and something computed from it

    def follow(self, name: str, inputs: Sequence[Tensor], made: Sequence[Tensor]) -> None:
        among = [id(tensor) for tensor in inputs]
        stream = {id(self.given), *self.sums}
        if not any(at in self.computed or at == id(self.given) for at in among):
            return
        adds = name in _ADDS and len(among) == 2 and any(at in stream for at in among)
        adds = adds and any(at in self.computed for at in among)
        passes = name in _PASSES and bool(among) and among[0] in self.sums
        for tensor in made:
            if adds or passes:
                self.sums[id(tensor)] = tensor
            else:
                self.sums.pop(id(tensor), None)  # changed in place
            self.computed[id(tensor)] = tensor


class _Flow(TorchFunctionMode):
    """Follows what each running module computes from its input."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[_Frame] = []
        self.found: dict[
            str, bool
        ] = {}  # whether a module is a residual block, in the order in which they end
        self.calls: dict[str, int] = {}
        self.more: set[str] = set()  # modules that got more than one input

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for frame in self.running:
            frame.follow(getattr(func, "__name__", ""), inputs, made)
        return out

    def entering(self, name: str) -> Any:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            first = next((value for value in args if isinstance(value, Tensor)), None)
            self.running.append(_Frame(name, first))
            self.calls[name] = self.calls.get(name, 0) + 1
            if len(args) != 1 or kwargs:
                self.more.add(name)

        return enter

    def leaving(self, name: str) -> Any:
        def leave(module: nn.Module, args: Any, out: Any) -> None:
            frame = self.running.pop()
            given = frame.given
            self.found[name] = (
                given is not None
                and isinstance(out, Tensor)
                and id(out) in frame.sums
                and (out.shape, out.dtype) == (given.shape, given.dtype)
            )

        return leave

    def fault(self, name: str) -> str:
        """Why `nn.Identity` cannot replace this block; empty if it can."""
        if name in self.more:
            return "it gets more than one input, which nn.Identity does not take"
        return "it runs more than once" if self.calls[name] > 1 else ""
