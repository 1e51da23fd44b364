"""Options of `prune.magnitude` and `prune.sparse_momentum`. Does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from compressit import Config, FitConfig, ModelRef, OptimizerConfig, Task, changed, ratio
from compressit_plugins.distill.options import TeacherConfig

Score: TypeAlias = Literal["magnitude", "lamp", "gradient", "movement", "snip", "synflow", "wanda", "random"]
Scope: TypeAlias = Literal["global", "layer", "row"]

Sparsity: TypeAlias = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="fraction of the selected weights that are zero after pruning; every weight matrix keeps at least "
        "one. In a repeated stage each round zeroes this fraction of what is left: 0.2 leaves 0.8, 0.64, 0.512 …",
        json_schema_extra=ratio(0.1, 0.98),
    ),
]
Include: TypeAlias = Annotated[
    tuple[str, ...],
    Field(
        min_length=1,
        description="globs over names of weight matrices and of modules that hold them: weights of linear, bilinear, "
        "convolutional and recurrent layers and attention projections. Never matches biases, norms, embeddings, "
        "scales, class tokens, position tables and parameters of other layers",
    ),
]
Exclude: TypeAlias = Annotated[
    tuple[str, ...], Field(description="globs like `include`, for weights that stay dense")
]
Also: TypeAlias = Annotated[
    tuple[str, ...],
    Field(
        description="globs like `include`, for other parameters of two or more dimensions, which are not the weight "
        "matrix of a layer"
    ),
]

SEES_DATA = ("gradient", "snip", "wanda")
"""Scores that need training examples."""


class GradualConfig(Config):
    """When pruning happens during a training, and how much has gone by then."""

    curve: Literal["cubic", "linear", "one_cycle"] = Field(
        default="cubic",
        description="how sparsity grows: fast at first (cubic: Zhu & Gupta 2017), evenly (linear), or slow, fast and "
        "slow again (one_cycle: Hubens et al. 2021)",
    )
    start: float = Field(
        default=0.0, ge=0, lt=1, description="the fraction of the training after which pruning begins"
    )
    end: float = Field(
        default=0.75,
        gt=0,
        le=1,
        description="the fraction of the training after which `sparsity` is reached; the rest trains with these zeros",
    )
    every: PositiveInt = Field(
        default=100, description="optimizer steps between two prunings; a last one is at `end`"
    )

    @field_validator("end")
    @classmethod
    def _after_start(cls, end: float, info: ValidationInfo) -> float:
        if end <= info.data.get("start", 0):
            raise ValueError(f"must be after `start`, which is {info.data['start']:g}")
        return end


class MagnitudeConfig(Config):
    """Options of magnitude pruning."""

    sparsity: Sparsity = 0.5
    sparsities: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default={},
        description="fractions of single weights, by globs like `include`, such as {fc1: 0.9, head: 0}: the others "
        "reach `sparsity` of all; of several globs that match, the last counts",
        json_schema_extra=ratio(0.1, 0.98, layers="layers"),
    )
    score: Score = Field(
        default="magnitude",
        description="the weights with the lowest score go: magnitude |w|; lamp, w² over the sum of the squares not "
        "smaller in its layer (Lee et al. 2021); gradient, the mean of |w·dL/dw| over minibatches (Molchanov et al. "
        "2017); movement, the sum of -w·dL/dw over a `gradual` training (Sanh et al. 2020); snip, |w·dL/dw| of all "
        "`calibration` examples, before training (Lee et al. 2019); synflow, in 100 steps without data (Tanaka et "
        "al. 2020); wanda, |w| times the norm of its input (Sun et al. 2023); random, by chance, as a control. Zeros "
        "count first: what is pruned never comes back",
    )
    scope: Scope | None = Field(
        default=None,
        description="compare weights across all selected layers (global), within each layer, or within each output "
        "row or filter; default: row for wanda, else global",
    )
    include: Include = ("*",)
    exclude: Exclude = ()
    also: Also = ()
    calibration: PositiveInt = Field(
        default=512,
        description="how many training examples, drawn by chance, the scores gradient, snip and wanda look at",
    )
    rewind: ModelRef | None = Field(
        default=None,
        description="after pruning, what is left gets the values that it has in this model: `init` (lottery tickets: "
        "Frankle & Carbin 2019) or an early stage of training (Frankle et al. 2020); default: it keeps its own",
    )
    finetune: FitConfig | None = Field(
        default=None, description="training after pruning that keeps the zeros; default: none"
    )
    gradual: GradualConfig | None = Field(
        default=None,
        validate_default=True,
        description="prune little by little during `finetune`; default: at once, before it",
    )
    distill: TeacherConfig | None = Field(
        default=None, description="a teacher for `finetune`; default: it trains on the targets alone"
    )

    @property
    def compared(self) -> Scope:
        """What weights are compared with: `scope`, or the default of the score."""
        return self.scope or ("row" if self.score == "wanda" else "global")

    def shares(self, times: int) -> tuple[float, dict[str, float]]:
        """`sparsity` and `sparsities` after so many rounds, each of which takes them of what the one before left."""
        single = {glob: compounded(share, times) for glob, share in self.sparsities.items()}
        return compounded(self.sparsity, times), single

    def unlike(self, task: Task[Any]) -> Mapping[str, str]:
        """What of `distill` the task cannot do, with the reason."""
        found = {} if self.distill is None else self.distill.unlike(task)
        return {f"distill.{name}": why for name, why in found.items()}

    @field_validator("scope")
    @classmethod
    def _ranks(cls, scope: Scope | None, info: ValidationInfo) -> Scope | None:
        if scope in ("layer", "row") and info.data.get("score") == "lamp":
            raise ValueError("leaves `score: lamp` without effect: within a layer it ranks as magnitude does")
        return scope

    @field_validator("calibration")
    @classmethod
    def _is_seen(cls, calibration: int, info: ValidationInfo) -> int:
        score = info.data.get("score", "wanda")
        if score not in SEES_DATA and changed(cls, info, calibration):
            raise ValueError(f"has no effect with `score: {score}`, which looks at no examples")
        return calibration

    @field_validator("gradual", "distill")
    @classmethod
    def _trains(cls, value: Config | None, info: ValidationInfo) -> Config | None:
        if value is not None and info.data.get("finetune", value) is None:
            raise ValueError("needs a training: say how long by `finetune`")
        return value

    @field_validator("gradual")
    @classmethod
    def _fits(cls, value: GradualConfig | None, info: ValidationInfo) -> GradualConfig | None:
        if value is None and info.data.get("score") == "movement":
            raise ValueError("is needed by `score: movement`, which is summed up over a training that prunes")
        if value is not None and info.data.get("rewind") is not None:
            raise ValueError("does not go with `rewind`: what is left goes back once all pruning is done")
        return value


class SparseMomentumConfig(FitConfig):
    """Options of `prune.sparse_momentum`."""

    sparsity: Sparsity = 0.9
    scope: Literal["global", "layer"] = Field(
        default="global",
        description="as many weights learn, and are left, of all selected layers together (global), or of each layer",
    )
    include: Include = ("*",)
    exclude: Exclude = ()
    also: Also = ()
    epochs: int = Field(default=60, ge=1, description="passes over the training set")
    batch_size: PositiveInt | Literal["all"] = Field(
        default=256,
        description="examples per optimizer step; a single last example joins the previous step. `all`: the whole "
        "training set in each step, in its stored order",
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(name="sgd", lr=0.03, momentum=0.99, weight_decay=5e-4),
        description="SGD with momentum and `weight_decay`, by which all weights but the few decay. A weight that does "
        "not learn fades by 1/e in (1 - momentum) / (lr · weight_decay) steps or, if that is more, 1 / (1 - momentum) "
        "steps: let the training be many times as long",
    )

    @field_validator("optimizer")
    @classmethod
    def _decays(cls, optimizer: OptimizerConfig) -> OptimizerConfig:
        if optimizer.name != "sgd":
            raise ValueError(f"must be sgd, whose decay goes through the momentum, not {optimizer.name}")
        if not optimizer.weight_decay:
            raise ValueError("needs a `weight_decay` above 0, such as 0.0005: by it the others fade")
        return optimizer

    def share(self, times: int) -> float:
        """The sparsity after so many rounds."""
        return compounded(self.sparsity, times)


def compounded(share: float, times: int) -> float:
    """The fraction that is gone after `times` rounds, each of which takes `share` of what is left."""
    return share if times == 1 else 1 - (1 - share) ** times
