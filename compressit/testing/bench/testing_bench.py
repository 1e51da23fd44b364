"""The conformance kit's bench: a tiny net, dataset, trainer, compressor and evaluator to run a plugin with.

An ordinary plugin file in its own folder. The kit's recipes name it, so that worker processes load it too. It imports
torch at the top; other plugins should not, so that `check` and `plan` stay fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from compressit import (
    CompressitError,
    Compressor,
    Config,
    DataConfig,
    DataContext,
    Dataset,
    Evaluator,
    FitConfig,
    Inputs,
    Metric,
    Model,
    ModelRef,
    NoOptions,
    Sources,
    StageContext,
    Streams,
    Task,
    TensorSpec,
    Trainer,
    fit,
    hookimpl,
    tensors_of,
    zero_inputs,
)  # fmt: skip


class NetConfig(Config):
    """Options of testing.net."""

    width: int = Field(8, ge=1, description="channels (or units) of each hidden layer")


class Joined(nn.Module):
    """All inputs of an example, of whatever shapes and types, as one row of floats (N, D)."""

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Side by side."""
        return torch.cat([x.flatten(1).float() for x in (*inputs, *named.values())], 1)


class Added(nn.Module):
    """A residual block: what its layer computes is added to its input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The sum, of the input's shape."""
        return x + self.layer(x)


class Net(Model[NetConfig]):
    """Two convolutions (for other inputs: linear layers) with batch norm and a residual block, then a linear layer; the
    first is frozen."""

    name = "testing.net"

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """An nn.Sequential: logits (N, classes)."""
        net = self._layers(inputs, outputs)
        next(net.parameters()).requires_grad_(False)  # a plugin must not train or unfreeze it
        return net

    def with_width(self, multiplier: float) -> NetConfig:
        """The width times `multiplier`, rounded up."""
        return self.config.model_copy(update={"width": max(1, math.ceil(self.config.width * multiplier))})

    def _layers(self, inputs: Inputs, outputs: int) -> nn.Sequential:
        width = self.config.width
        shape = inputs.shape if isinstance(inputs, TensorSpec) and inputs.dtype == "float32" else ()
        if len(shape) != 3:
            size = sum(x.shape[1:].numel() for x in tensors_of(zero_inputs(inputs, 1)))
            return nn.Sequential(
                Joined(),
                nn.Linear(size, width),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                Added(nn.Linear(width, width)),
                nn.Linear(width, outputs),
            )
        return nn.Sequential(
            nn.Conv2d(shape[0], width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Added(nn.Conv2d(width, width, 1)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, outputs),
        )


class SamplesConfig(DataConfig):
    """Options of testing.data."""

    shape: tuple[PositiveInt, ...] = Field((1, 8, 8), min_length=1, description="shape of one input")


class Samples(Dataset[SamplesConfig]):
    """One random prototype per class plus noise: 96 training and 48 test inputs of 4 classes."""

    name = "testing.data"

    @property
    def inputs(self) -> TensorSpec:
        """Of the configured shape."""
        return TensorSpec(self.config.shape)

    @property
    def classes(self) -> int:
        """Four."""
        return 4

    @property
    def train_size(self) -> int:
        """96."""
        return 96

    def load(self, ctx: DataContext) -> Sources:
        """Float inputs in [0, 1]."""
        generator = Streams(0, self.name).generator("samples")
        prototypes = torch.rand(self.classes, *self.config.shape, generator=generator)

        def draw(count: int) -> tuple[Tensor, Tensor]:
            y = torch.arange(count) % self.classes
            noise = torch.randn(count, *self.config.shape, generator=generator)
            return (prototypes[y] + 0.3 * noise).clamp(0, 1), y

        return Sources(draw(96), draw(48))


class Train(Trainer[FitConfig]):
    """Training with the task's loss."""

    name = "testing.train"

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """In eval mode afterwards."""
        train = ctx.data.train
        return fit(model, ctx, self.config, train, ctx.task.objective(train.y))


class ShrinkConfig(FitConfig):
    """Options of testing.shrink."""

    teacher: ModelRef = Field("previous", description="the model whose logits the student learns")


class Shrink(Compressor[ShrinkConfig]):
    """Fit a net of half the width to a teacher's logits."""

    name = "testing.shrink"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Raises CompressitError if the model has no narrower form."""
        student = ctx.with_width(0.5, ctx.times())
        if student is None:
            raise CompressitError("testing.shrink needs a model with `with_width`")
        x, _ = ctx.data.train.tensors()
        logits = ctx.compute.forward(ctx.model(self.config.teacher), x)
        return fit(student, ctx, self.config, lambda epoch: (x, logits), F.mse_loss)


class Widen(Compressor[NoOptions]):
    """Make a net of twice the width, with fresh weights."""

    name = "testing.widen"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Raises CompressitError if the model's width cannot be changed."""
        net = ctx.with_width(2)
        if net is None:
            raise CompressitError("testing.widen needs a model with `with_width`")
        return net


class Measure(Evaluator[NoOptions]):
    """What the task watches, on the test inputs."""

    name = "testing.measure"

    def declares(self, task: Task[Any]) -> Mapping[str, Metric]:
        """For a classification `test_accuracy`."""
        return {f"test_{task.watch}": task.measures()[task.watch]}

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """As the task scores it."""
        scores = ctx.task.scores(ctx.logits(model, "test"), ctx.data.split("test").y)
        return {f"test_{ctx.task.watch}": scores[ctx.task.watch]}


@hookimpl
def compressit_models() -> list[type[Model]]:
    """Registers `testing.net`."""
    return [Net]


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    """Registers `testing.data`."""
    return [Samples]


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    """Registers `testing.train`."""
    return [Train]


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `testing.shrink` and `testing.widen`."""
    return [Shrink, Widen]


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    """Registers `testing.measure`."""
    return [Measure]
