"""Options shared by everything that trains; `compressit.fit` carries them out. No torch here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compressit.config import Config

Decay = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Config):
    """SGD, Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019), as torch.optim has them."""

    name: Literal["sgd", "adam", "adamw"] = Field(default="sgd", description="which optimizer")
    lr: float = Field(default=0.01, gt=0, description="learning rate")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="momentum (sgd only)")
    nesterov: bool = Field(default=False, description="Nesterov momentum (sgd only)")
    betas: tuple[Decay, Decay] = Field(
        default=(0.9, 0.999), description="decay of the two moments (adam, adamw)"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, description="L2 penalty (sgd, adam) or decoupled decay (adamw)"
    )

    @model_validator(mode="after")
    def _belongs(self) -> OptimizerConfig:
        if self.name != "sgd" and (self.momentum or self.nesterov):
            raise ValueError(f"momentum and nesterov belong to sgd; {self.name} has betas")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class ScheduleConfig(Config):
    """The learning rate as a factor of the optimizer's, a function of training progress only."""

    name: Literal["constant", "cosine", "linear", "step"] = Field(
        default="constant",
        description="constant; cosine or linear to zero over all epochs; step: times `gamma`",
    )
    warmup: float = Field(default=0.0, ge=0, description="epochs of linear warm-up from zero")
    milestones: tuple[int, ...] = Field(
        default=(), description="epochs after which `step` multiplies by gamma"
    )
    gamma: float = Field(default=0.1, gt=0, description="factor of `step`")

    @model_validator(mode="after")
    def _belongs(self) -> ScheduleConfig:
        if (self.name == "step") != bool(self.milestones):
            raise ValueError("milestones belong to the schedule `step`, which needs at least one")
        return self


class FitConfig(Config):
    """Options of a training run."""

    epochs: int = Field(default=10, ge=1, description="passes over the training set")
    batch_size: int = Field(default=128, ge=1, description="examples per optimizer step")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="the optimizer")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig, description="learning-rate schedule")
    clip: float | None = Field(default=None, gt=0, description="largest gradient norm; none by default")

    def steps(self, images: int) -> int:
        """Optimizer steps for a training set of that many images."""
        return self.epochs * -(-images // self.batch_size)
