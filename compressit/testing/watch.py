"""What a plugin must leave as it found it: models, data, settings of the process. Taken before, compared after."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from compressit.checkpoint.tensors import same_bits
from compressit.datasets.splits import Data
from compressit.running import settings
from compressit.testing.check import ConformanceError
from compressit.testing.subject import Subject

_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_post_accumulate_grad_hooks",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


@dataclass(frozen=True)
class Watched:
    """A model as it was."""

    model: nn.Module
    tensors: Mapping[str, Tensor]
    training: Mapping[str, bool]  # by module
    wants_gradient: Mapping[str, bool]  # by parameter
    extras: Mapping[str, int]  # what else hangs on it

    @staticmethod
    def of(model: nn.Module) -> Watched:
        """Copies of its tensors, and the rest by name."""
        tensors = {name: value.detach().clone() for name, value in state(model).items()}
        return Watched(model, tensors, modes(model), gradients(model), extras(model))

    def check_content(self, what: str) -> None:
        """Raises ConformanceError for other tensors, layers, hooks, gradients or attributes than before."""
        now = state(self.model)
        other = [n for n in {**self.tensors, **now} if not _equal(self.tensors.get(n), now.get(n))]
        if other:
            raise ConformanceError(
                f"it changed {what}: {', '.join(other[:5])}", "work on a copy.deepcopy of it"
            )
        if left := changed(self.extras, extras(self.model)):
            raise ConformanceError(f"it left on {what}: {', '.join(left[:5])}", "remove it in a finally")

    def check_modes(self, what: str) -> None:
        """Raises ConformanceError where train or eval mode, or `requires_grad`, is another than before."""
        if other := changed(self.training, modes(self.model)):
            raise ConformanceError(
                f"{what} is left in another mode, at {', '.join(name or 'the top' for name in other[:5])}",
                "restore each module's `training`; `ctx.compute.forward` does so itself",
            )
        if other := changed(self.wants_gradient, gradients(self.model)):
            raise ConformanceError(f"{what} is left with another requires_grad: {', '.join(other[:5])}")


@dataclass(frozen=True)
class WatchedData:
    """Data as they were."""

    data: Data
    tensors: Mapping[str, Tensor]

    @staticmethod
    def of(data: Data) -> WatchedData:
        """Copies of every split's tensors."""
        return WatchedData(data, {name: value.clone() for name, value in _split_tensors(data)})

    def check(self) -> None:
        """Raises ConformanceError for data that changed."""
        other = [
            name for name, value in _split_tensors(self.data) if not same_bits(value, self.tensors[name])
        ]
        if other:
            raise ConformanceError(
                f"it changed the data in place: {', '.join(other)}",
                "other stages and evaluations read these very tensors: work on new ones",
            )


def check_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raises ConformanceError for a setting of the process that is another."""
    if other := changed(before, after):
        told = ", ".join(f"{name} (now {after[name]})" for name in other)
        raise ConformanceError(
            f"it left settings of the process changed: {told}",
            "use a `with` block, or restore them in a finally",
        )


def check_environment(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Raises ConformanceError for an environment variable that is another."""
    if other := changed(before, after):
        raise ConformanceError(
            f"it left environment variables changed: {', '.join(other)}", "restore them in a finally"
        )


@contextlib.contextmanager
def quiet_place(subject: Subject) -> Generator[Path]:
    """One thread, a working folder of the subject's own, and the process's settings as they were afterwards."""
    folder = subject.folder / "working folder"
    folder.mkdir(exist_ok=True)
    before = settings.read()
    torch.set_num_threads(1)  # results are bit-equal only at the same number
    try:
        with patch.dict(os.environ), contextlib.chdir(folder):
            yield folder
    finally:
        settings.put_back(before)


def state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of its state dict."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def modes(model: nn.Module) -> dict[str, bool]:
    """Whether each module is in train mode."""
    return {name: module.training for name, module in model.named_modules()}


def gradients(model: nn.Module) -> dict[str, bool]:
    """Each parameter's requires_grad."""
    return {name: value.requires_grad for name, value in model.named_parameters()}


def left_on(model: nn.Module) -> dict[str, int]:
    """How many hooks there are, by the module or parameter they are on, and which parameters have a gradient."""
    parameters = dict(model.named_parameters())
    holders = {**dict(model.named_modules()), **parameters}
    counts = {
        f"a hook on {name or 'the model'}": sum(len(getattr(holder, kind, None) or ()) for kind in _HOOKS)
        for name, holder in holders.items()
    }
    counts |= {f"the gradient of {name}": 1 for name, value in parameters.items() if value.grad is not None}
    return {name: count for name, count in counts.items() if count}


def attributes(model: nn.Module) -> set[str]:
    """What each module has in its `__dict__`, as `0.stride`."""
    return {f"{at}.{name}".lstrip(".") for at, module in model.named_modules() for name in vars(module)}


def extras(model: nn.Module) -> dict[str, int]:
    """All that is on a model besides tensors and modes."""
    return left_on(model) | {f"the attribute {name}": 1 for name in attributes(model)}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names whose values differ, or that only one of the two has."""
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that are not the same to the last bit."""
    return [name for name in {**one, **other} if not _equal(one.get(name), other.get(name))]


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and same_bits(one.cpu(), other.cpu())  # wherever each is


def _split_tensors(data: Data) -> Iterator[tuple[str, Tensor]]:
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        if split is not None:
            yield f"{name} inputs", split.x
            yield f"{name} labels", split.y
