"""A local plugin file with one tiny plugin of every kind: recipes are checked against it, nothing runs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from compressit.config import Config, ModelRef
from compressit.contract.hookspecs import hookimpl
from compressit.contract.kinds import Compressor, Dataset, Evaluator, Metric, Model, Report, Trainer
from compressit.datasets.options import DataConfig


def _never(self: Any, *given: Any) -> Any:
    raise AssertionError("nothing runs here")


class Optimizer(Config):
    name: str = Field("sgd", description="which optimizer")
    lr: float = Field(0.1, gt=0, description="learning rate")
    momentum: float = Field(0.0, ge=0, description="momentum (sgd only)")

    @model_validator(mode="after")
    def _belongs(self) -> Optimizer:
        if self.name != "sgd" and self.momentum:
            raise ValueError(f"momentum belongs to sgd, not to {self.name}")
        return self


class FitOptions(Config):
    epochs: int = Field(1, ge=1, description="passes over the training set")
    optimizer: Optimizer = Field(Optimizer(), description="the optimizer")
    clip: float | None = Field(1.0, gt=0, description="largest gradient norm")


class Fit(Trainer[FitOptions]):
    """Trains."""

    name = "train.fake"
    train = _never


class PatientOptions(FitOptions):
    patience: int | None = Field(None, ge=1, description="epochs without a better validation score")

    def needs_validation(self) -> tuple[str, ...]:
        return ("patience",) if self.patience else ()


class Patient(Trainer[PatientOptions]):
    """Trains until it gets no better."""

    name = "early.stop"
    train = _never


class PruneOptions(Config):
    sparsity: float = Field(gt=0, lt=1, description="fraction of channels to remove")
    rewind: ModelRef | None = Field(None, description="where the weights come from")
    skip: tuple[str, ...] = Field((), description="layers to leave alone")
    rate: Annotated[int, Field(ge=1)] | str | None = Field(None, description="a number or a name")


class Prune(Compressor[PruneOptions]):
    """Removes channels."""

    name = "prune.structured"
    compress = _never


class DistilOptions(Config):
    teachers: tuple[ModelRef, ...] = Field(description="who teaches")


class Distil(Compressor[DistilOptions]):
    """Learns from teachers."""

    name = "distill.fake"
    compress = _never


class EvalOptions(Config):
    batch_size: int = Field(1, ge=1, description="images at a time")


class Judge(Evaluator[EvalOptions]):
    """Judges."""

    name = "eval.fake"
    evaluate = _never


class Critic(Judge):
    """Scores."""

    name = "eval.critic"
    metrics: ClassVar = {"score": Metric("higher", "fraction"), "taste": Metric("higher", "fraction")}


class Rival(Judge):
    """Scores too."""

    name = "eval.rival"
    metrics: ClassVar = {"size": Metric("lower", "bytes"), "score": Metric("higher", "fraction")}


class NetOptions(Config):
    hidden: tuple[int, ...] = Field((8,), description="widths of the hidden layers")


class Net(Model[NetOptions]):
    """A net."""

    name = "model.fake"
    build = _never


class Digits(Dataset[DataConfig]):
    """Digits."""

    name = "data.fake"
    input_shape, classes, load = (4,), 2, _never


class Letters(Dataset[DataConfig]):
    """Letters."""

    name = "data.letters"
    input_shape, classes, load = (4,), 2, _never


class Words(Report):
    """Words."""

    name = "report.fake"


class Faulty(Config):
    size: int = Field(1, description="any number")

    @model_validator(mode="after")
    def _breaks(self) -> Faulty:
        raise KeyError("a bug of the plugin")


class Broken(Report[Faulty]):
    """Its validator has a bug."""

    name = "report.faulty"


@hookimpl
def compressit_trainers():
    return [Fit, Patient]


@hookimpl
def compressit_compressors():
    return [Prune, Distil]


@hookimpl
def compressit_evaluators():
    return [Judge, Critic, Rival]


@hookimpl
def compressit_models():
    return [Net]


@hookimpl
def compressit_datasets():
    return [Digits, Letters]


@hookimpl
def compressit_reports():
    return [Words, Broken]
