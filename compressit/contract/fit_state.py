"""The saved state of a training run, so that a killed run can resume."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressit.contract.context import StageContext
from compressit.contract.fit_average import Average
from compressit.contract.fit_options import FitConfig, OptimizerConfig
from compressit.errors import CompressitError


def build_optimizer(model: nn.Module, options: OptimizerConfig, device: str) -> torch.optim.Optimizer:
    """A fused optimizer over the parameters with requires_grad. Raises CompressitError if there are none."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        count = sum(1 for _ in model.parameters())
        raise CompressitError(
            f"there is nothing to train: all {count} parameters of {type(model).__name__} are frozen"
            if count
            else f"there is nothing to train: {type(model).__name__} has no parameters",
            "unfreeze the layers to train: layer.requires_grad_(True)" if count else None,
        )
    # there is no fused optimizer for complex numbers
    common: dict[str, Any] = {"lr": options.lr, "fused": all(p.is_floating_point() for p in parameters)}
    groups = _groups(parameters, options)
    if options.name == "sgd":
        return torch.optim.SGD(groups, momentum=options.momentum, nesterov=options.nesterov, **common)
    kind = torch.optim.Adam if options.name == "adam" else torch.optim.AdamW
    return kind(groups, betas=options.betas, **common)


def _groups(parameters: Sequence[nn.Parameter], options: OptimizerConfig) -> list[dict[str, Any]]:
    """The parameters with their weight decay. By default none for biases and norms, told by having fewer than two
    dimensions: He et al. 2019, "Bag of tricks for image classification", section 3.1; timm does the same."""
    decay = options.weight_decay
    if not decay or options.decay_all:
        return [{"params": list(parameters), "weight_decay": decay}]
    parts = ([p for p in parameters if p.ndim > 1], decay), ([p for p in parameters if p.ndim <= 1], 0.0)
    return [{"params": part, "weight_decay": value} for part, value in parts if part]


_WAITING = 1024  # losses: each takes hundreds of bytes as a tensor of its own


class Losses:
    """Every minibatch's loss, float32, in one growing array; the latest may still be on the device."""

    def __init__(self) -> None:
        self.count = 0
        self._fetched = array("f")
        self._waiting: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """A scalar without gradients. Rarely waits for the device."""
        self._waiting.append(loss)
        self.count += 1
        if len(self._waiting) == _WAITING:
            self._fetch()

    def extend(self, losses: Tensor) -> None:
        """Many, (S,) float32 on the CPU, at the end."""
        self._fetch()
        self._fetched.frombytes(losses.numpy().tobytes())
        self.count += len(losses)

    def mean(self, first: int) -> float:
        """Of all from the one at `first`; NaN if there are none."""
        self._fetch()
        if first == self.count - 1:
            return self._fetched[first]
        return float(torch.from_numpy(np.array(self._fetched[first:])).mean())

    def all(self) -> Tensor:
        """A copy of them all, (S,) on the CPU."""
        self._fetch()
        return torch.from_numpy(np.array(self._fetched))

    def _fetch(self) -> None:
        if len(self._waiting) == 1:  # no work for torch: epochs of one step are short
            self._fetched.append(self._waiting[0].item())
        elif self._waiting:
            self._fetched.frombytes(torch.stack(self._waiting).float().cpu().numpy().tobytes())
        self._waiting.clear()


class State:
    """What a resumed run needs: model, optimizer, losses so far, images seen, and the tensors of `on_epoch`."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, kept: dict[str, Tensor], average: Average
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.losses = Losses()
        self.images_seen = 0
        self.kept = kept
        self.average = average
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @property
    def steps(self) -> int:
        """Optimizer steps so far."""
        return self.losses.count

    def save(self, ctx: StageContext, epoch: int) -> None:
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            # `momentum_buffer` may be None before the first step; everything else is a tensor
            tensors |= {f"optimizer/{index}/{slot}": v for slot, v in slots.items() if isinstance(v, Tensor)}
        tensors["losses"] = self.losses.all()
        tensors |= {f"kept/{name}": value for name, value in self.kept.items()}
        tensors |= {f"average/{name}": value for name, value in self.average.tensors().items()}
        facts = {
            "fit": len(ctx.fits),
            "epoch": epoch,
            "steps": self.steps,
            "images_seen": self.images_seen,
            "curves": ctx.curves,
            "notes": ctx.notes,
        }
        ctx.progress.save(tensors, facts)

    def restore(self, ctx: StageContext, options: FitConfig) -> int:
        """Restores a saved state and returns the next epoch; 0 if there is no state of this training.

        The state is sealed, so it is what `save` wrote. A stage that trains several times repeats its finished runs;
        only the run that was killed has a saved state.
        """
        saved = ctx.progress.load()
        if saved is None or saved[1]["fit"] != len(ctx.fits):
            return 0
        tensors, facts = saved
        values, epoch = _under(tensors, "model/"), facts["epoch"]
        losses, steps = tensors["losses"], facts["steps"]
        fits = len(losses) == steps and not options.ended(epoch, steps)
        if not fits or _shapes(values) != _shapes(self.model.state_dict()):
            ctx.progress.refuse("it belongs to another training")
            return 0
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimizer/").items():
            index, _, slot = name.partition("/")
            slots.setdefault(int(index), {})[slot] = value
        self.model.load_state_dict(values)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.losses.extend(losses)
        self.kept.update(_under(tensors, "kept/"))
        self.average.restore(_under(tensors, "average/"))
        self.images_seen = facts["images_seen"]
        for name, points in facts["curves"].items():  # null: the value was not finite
            ctx.curves[name] = [(step, math.nan if value is None else value) for step, value in points]
        ctx.notes.update(facts["notes"])
        ctx.emit({"resumed": epoch})
        return epoch


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
