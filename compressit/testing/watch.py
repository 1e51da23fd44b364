"""Compares models, data and process settings before and after a call: a plugin must not change them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Hashable, Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from compressit.checkpoint.tensors import same_bits
from compressit.running import process_state
from compressit.testing.check import none_found
from compressit.testing.fingerprint import changed, fingerprint
from compressit.testing.subject import Subject

_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_post_accumulate_grad_hooks",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


@dataclass(frozen=True)
class Lent:
    """A shared model or shared data, with their original state."""

    what: str  # "a model it asked for"
    value: object
    before: Mapping[str, Hashable]

    @staticmethod
    def of(what: str, value: object) -> Lent:
        """Records the current state."""
        return Lent(what, value, contents(value))

    def check(self) -> None:
        """Raises ConformanceError if tensors, layers, modes, hooks, gradients or attributes have changed."""
        none_found(
            changed(self.before, contents(self.value)),
            f"it changed {self.what}",
            "it is shared with other jobs: change a copy (x.clone(), copy.deepcopy(model)), and restore temporary "
            "changes in a `finally`; `ctx.compute.forward` restores modes itself",
        )


def contents(value: object) -> dict[str, Hashable]:
    """A fingerprint of each part of a model or data, by name."""
    found = {name: part for name, part in fingerprint(value).items() if not name.startswith("hooks on")}
    if isinstance(value, nn.Module):
        found |= left_on(value) | dict.fromkeys((f"the attribute {name}" for name in attributes(value)), 1)
    return found


def left_on(model: nn.Module) -> dict[str, int]:
    """The number of hooks per module or parameter, and which parameters have a gradient."""
    parameters = dict(model.named_parameters())
    counts = {
        f"a hook on {name or 'the model'}": sum(len(getattr(holder, kind, None) or ()) for kind in _HOOKS)
        for name, holder in {**dict(model.named_modules()), **parameters}.items()
    }
    counts |= {f"the gradient of {name}": 1 for name, value in parameters.items() if value.grad is not None}
    return {name: count for name, count in counts.items() if count}


def attributes(model: nn.Module) -> set[str]:
    """The attributes in each module's `__dict__`, as `0.stride`."""
    return {f"{at}.{name}".lstrip(".") for at, module in model.named_modules() for name in vars(module)}


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the model's state dict."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that differ in any bit, regardless of their device."""
    same = {name for name in one.keys() & other.keys() if same_bits(one[name].cpu(), other[name].cpu())}
    return [name for name in {**one, **other} if name not in same]


@contextlib.contextmanager
def quiet_place(subject: Subject) -> Generator[None]:
    """A block with one thread and the subject's own working folder. Process settings are restored afterwards."""
    folder = subject.folder / "working folder"
    folder.mkdir(exist_ok=True)
    before = process_state.read()
    torch.set_num_threads(1)  # results are only bit-equal with the same number of threads
    try:
        with patch.dict(os.environ), contextlib.chdir(folder):
            yield
    finally:
        process_state.put_back(before)


@contextlib.contextmanager
def watched() -> Generator[dict[str, Any]]:
    """Yields what the block left changed: process `settings`, which are restored, and environment `variables`."""
    left: dict[str, Any] = {}
    before, environment = process_state.read(), dict(os.environ)
    yield left
    left["settings"], left["variables"] = (
        process_state.put_back(before),
        changed(environment, dict(os.environ)),
    )
