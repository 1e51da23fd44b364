"""What a training run keeps of itself so that a killed one goes on: taken up only when every part of it fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, NonNegativeInt, PositiveInt, ValidationError
from torch import Tensor, nn

from compressit.contract.context import StageContext
from compressit.contract.fit_options import FitConfig, OptimizerConfig
from compressit.errors import CompressitError


def _point(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


_Point = Annotated[tuple[float, float | None], BeforeValidator(_point)]  # null: a value that was not finite


class _Facts(BaseModel):
    """What is saved beside the tensors, as JSON values."""

    model_config = ConfigDict(strict=True, extra="forbid")

    fit: PositiveInt
    epoch: PositiveInt  # the next one
    images_seen: NonNegativeInt
    curves: dict[str, list[_Point]]
    notes: dict[str, Any]


def build_optimizer(model: nn.Module, options: OptimizerConfig, device: str) -> torch.optim.Optimizer:
    """A fused optimizer over the parameters that want gradients. Raises CompressitError where none does."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        count = sum(1 for _ in model.parameters())
        raise CompressitError(
            f"there is nothing to train: all {count} parameters of {type(model).__name__} are frozen"
            if count
            else f"there is nothing to train: {type(model).__name__} has no parameters",
            "let the layers learn that should: layer.requires_grad_(True)" if count else None,
        )
    common: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay}
    common["fused"] = all(p.is_floating_point() for p in parameters)  # there is none for complex ones
    if options.name == "sgd":
        return torch.optim.SGD(parameters, momentum=options.momentum, nesterov=options.nesterov, **common)
    kind = torch.optim.Adam if options.name == "adam" else torch.optim.AdamW
    return kind(parameters, betas=options.betas, **common)


class State:
    """What a resumed run needs: model, optimizer, losses so far, images seen, and what `on_epoch` keeps."""

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
        """Takes up a saved state; returns the epoch to go on with: 0 where there is none, or one that does not fit.

        A stage that trains several times repeats its finished runs: only the one that was killed has a state.
        """
        saved = ctx.progress.load()
        if saved is None:
            return 0
        try:
            facts = _Facts.model_validate(saved[1])
            if facts.fit != ctx.fits:
                return 0
            self._take(saved[0], facts, options)
        except ValidationError as error:
            ctx.progress.refuse(
                "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            )
            return 0
        except ValueError as error:
            ctx.progress.refuse(str(error))
            return 0
        for name, points in facts.curves.items():
            ctx.curves[name] = [(step, math.nan if value is None else value) for step, value in points]
        ctx.notes.update(facts.notes)
        ctx.emit({"resumed": facts.epoch})
        return facts.epoch

    def _take(self, tensors: Mapping[str, Tensor], facts: _Facts, options: FitConfig) -> None:
        """Raises ValueError, with nothing taken, unless everything fits."""
        losses = [value for _, value in sorted(_under(tensors, "losses/").items())]
        if facts.epoch >= options.epochs or len(losses) != facts.epoch:
            raise ValueError(f"{len(losses)} epochs of losses, {facts.epoch} of {options.epochs} epochs done")
        if not all(part.dtype == torch.float32 and part.ndim == 1 and len(part) for part in losses):
            raise ValueError("its losses are not a number for each step")
        values = _under(tensors, "model/")
        if _kinds(values) != _kinds(self.model.state_dict()):
            raise ValueError("its tensors are not the model's")
        slots = self._slots(_under(tensors, "optimizer/"), options.optimizer)
        self.model.load_state_dict(values)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.losses = losses
        self.steps = sum(len(part) for part in losses)
        self.kept.update(_under(tensors, "kept/"))
        self.images_seen = facts.images_seen

    def _slots(self, tensors: Mapping[str, Tensor], options: OptimizerConfig) -> dict[int, dict[str, Tensor]]:
        """The optimizer's tensors by the number of their parameter. Raises ValueError for others than it makes."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            index, _, slot = name.partition("/")
            slots.setdefault(int(index), {})[slot] = value
        for index, own in slots.items():
            if not 0 <= index < len(parameters) or _kinds(own) != _made_for(parameters[index], options):
                raise ValueError(f"its state of the optimizer for parameter {index} is none that it makes")
        return slots


def _made_for(parameter: Tensor, options: OptimizerConfig) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """What an optimizer keeps of one parameter after a step, by name."""
    alike = nn.ParameterList([torch.zeros_like(parameter)])
    alike[0].grad = torch.zeros_like(alike[0])
    optimizer = build_optimizer(alike, options, parameter.device.type)
    optimizer.step()
    return _kinds({k: v for k, v in optimizer.state[alike[0]].items() if isinstance(v, Tensor)})


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (value.dtype, value.shape) for name, value in tensors.items()}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
