"""Options of everything that trains, implemented in `compressit.contract.fit`. Does not import torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator, model_validator

from compressit.config import Config, changed, misplaced
from compressit.datasets.batching import batch_count

Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Config):
    """SGD, Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019), from torch.optim."""

    name: Literal["sgd", "adam", "adamw"] = Field(default="sgd", description="the optimizer")
    lr: float = Field(default=0.01, gt=0, description="learning rate")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="momentum (sgd only)")
    nesterov: bool = Field(default=False, description="Nesterov momentum (sgd only)")
    betas: tuple[Decay, Decay] = Field(
        default=(0.9, 0.999), description="decay rates of the two moments (adam, adamw)"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="L2 penalty (sgd, adam) or decoupled decay (adamw)"
    )
    decay_all: bool = Field(
        default=False,
        description="decay biases and the parameters of norms too: by default `weight_decay` leaves out parameters "
        "of fewer than two dimensions",
    )

    @field_validator("momentum", "nesterov", "betas")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.data.get("name")
        theirs = ("sgd",) if info.field_name != "betas" else ("adam", "adamw")
        if name is not None and name not in theirs and changed(cls, info, value):
            raise ValueError(f"has no effect with {name}: it is an option of {' and '.join(theirs)}")
        return value

    @field_validator("decay_all")
    @classmethod
    def _decays(cls, decay_all: bool, info: ValidationInfo) -> bool:
        if decay_all and info.data.get("weight_decay") == 0:
            raise ValueError("needs a `weight_decay` above 0")
        return decay_all

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise ValueError("needs a momentum above 0")
        return nesterov


class ScheduleConfig(Config):
    """A factor for the learning rate that depends only on progress, in epochs, or in steps if these are given."""

    name: Literal["constant", "cosine", "linear", "step"] = Field(
        default="constant",
        description="constant; cosine or linear: to zero at the end of the training; step: times `gamma` at "
        "`milestones`",
    )
    warmup: float = Field(
        default=0.0,
        ge=0,
        description="epochs (or steps) of linear warm-up; the first step has a rate above 0",
    )
    milestones: tuple[PositiveInt, ...] = Field(
        default=(), description="epochs (or steps) after which `step` multiplies the rate by gamma"
    )
    gamma: float = Field(default=0.1, gt=0, description="factor of `step`")

    @field_validator("milestones", "gamma")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        name = info.data.get("name", "step")
        if name != "step" and changed(cls, info, value):
            raise ValueError(f"has no effect with the schedule `{name}`: it is an option of `step`")
        return value

    @model_validator(mode="after")
    def _steps(self) -> ScheduleConfig:
        if self.name == "step" and not self.milestones:
            raise ValueError("the schedule `step` needs milestones, like [30, 60]")
        return self


class FitConfig(Config):
    """Options of a training run."""

    epochs: int = Field(default=10, ge=1, description="passes over the training set")
    steps: int | None = Field(
        default=None,
        ge=1,
        description="optimizer steps, instead of `epochs`; the training may end in mid-epoch",
    )
    batch_size: PositiveInt | Literal["all"] = Field(
        default=128,
        description="examples per optimizer step; a single last example joins the previous step. `all`: the whole "
        "training set in each step, in its stored order",
    )
    optimizer: OptimizerConfig = Field(
        default_factory=OptimizerConfig, description="optimizer and its options"
    )
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="learning-rate schedule")
    clip: float | None = Field(
        default=None, gt=0, description="clip the gradient norm to this; default: no clipping"
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="keep an exponential moving average of weights and running statistics with this decay per step, "
        "lower in the first steps; the average is what is validated and what the training gives. Default: none",
    )

    @field_validator("steps")
    @classmethod
    def _instead_of_epochs(cls, steps: int | None, info: ValidationInfo) -> int | None:
        default = cls.model_fields["epochs"].default  # resolved options include it
        if steps is not None and info.data.get("epochs", default) != default:
            raise ValueError("stands beside `epochs`, and a training has one of them: leave the other out")
        return steps

    @field_validator("schedule")
    @classmethod
    def _warms_up_in_time(cls, schedule: ScheduleConfig, info: ValidationInfo) -> ScheduleConfig:
        if not {"epochs", "steps"} <= info.data.keys():  # invalid themselves
            return schedule
        count, unit = (steps, "step") if (steps := info.data["steps"]) else (info.data["epochs"], "epoch")
        length = f"the training, which has {count} {unit}{'s' if count > 1 else ''}"
        if schedule.warmup >= count:
            raise misplaced("warmup", f"must be shorter than {length}", schedule.warmup)
        late = [milestone for milestone in schedule.milestones if milestone >= count]
        if late:
            raise misplaced("milestones", f"must be before the end of {length}", late[0])
        return schedule

    def ended(self, epochs: int, steps: int) -> bool:
        """Whether a training is over after so many epochs, or parts of one, with so many steps."""
        return epochs >= self.epochs if self.steps is None else steps >= self.steps

    def total_steps(self, images: int) -> int:
        """Optimizer steps for a training set of this many images."""
        return self.steps or self.epochs * batch_count(images, self.batch_size)

    def total_epochs(self, images: int) -> int:
        """Passes over a training set of this many images; where `steps` ends in mid-epoch, with the one begun."""
        return -(-self.steps // max(batch_count(images, self.batch_size), 1)) if self.steps else self.epochs

    def images_per_step(self, images: int) -> int:
        """The batch size for a training set of this many images."""
        return images if self.batch_size == "all" else self.batch_size
