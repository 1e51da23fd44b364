"""The saved state of a training run, so that a killed run can resume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressit.contract.context import StageContext
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
    common: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay}
    common["fused"] = all(
        p.is_floating_point() for p in parameters
    )  # there is no fused optimizer for complex numbers
    if options.name == "sgd":
        return torch.optim.SGD(parameters, momentum=options.momentum, nesterov=options.nesterov, **common)
    kind = torch.optim.Adam if options.name == "adam" else torch.optim.AdamW
    return kind(parameters, betas=options.betas, **common)


class State:
    """What a resumed run needs: model, optimizer, losses so far, images seen, and the tensors of `on_epoch`."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, kept: dict[str, Tensor]) -> None:
        self.model = model
        self.optimizer = optimizer
        self.losses: list[Tensor] = []
        self.steps = 0
        self.images_seen = 0
        self.kept = kept
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def add(self, losses: Tensor, images: int) -> None:
        self.losses.append(losses)
        self.steps += len(losses)
        self.images_seen += images

    def save(self, ctx: StageContext, epoch: int) -> None:
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            # `momentum_buffer` may be None before the first step; everything else is a tensor
            tensors |= {f"optimizer/{index}/{slot}": v for slot, v in slots.items() if isinstance(v, Tensor)}
        tensors |= {f"losses/{i:06d}": part for i, part in enumerate(self.losses)}
        tensors |= {f"kept/{name}": value for name, value in self.kept.items()}
        facts = {
            "fit": ctx.fits,
            "epoch": epoch,
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
        if saved is None or saved[1]["fit"] != ctx.fits:
            return 0
        tensors, facts = saved
        values, epoch = _under(tensors, "model/"), facts["epoch"]
        losses = [value for _, value in sorted(_under(tensors, "losses/").items())]
        if not len(losses) == epoch < options.epochs or _shapes(values) != _shapes(self.model.state_dict()):
            ctx.progress.refuse("it belongs to another training")
            return 0
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimizer/").items():
            index, _, slot = name.partition("/")
            slots.setdefault(int(index), {})[slot] = value
        self.model.load_state_dict(values)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.losses, self.steps = losses, sum(len(part) for part in losses)
        self.kept.update(_under(tensors, "kept/"))
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
