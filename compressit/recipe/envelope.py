"""The envelope of a recipe: everything except plugin options, which each plugin's Config checks."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from compressit.config import Config
from compressit.recipe.model import ComputeConfig

VARIANT_KEYS = ("data", "task", "model", "stages", "evaluate")
"""What a variant may override."""

INIT, PREVIOUS, ORIGINAL, MODEL = RESERVED = "init", "previous", "original", "model"
"""Names of models that are not stages. Evaluators call the model that they measure `model`."""

RELATIVE = (PREVIOUS, ORIGINAL)
"""Those that mean another model for each model."""


def _safe(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or len(name) > 100:
        raise ValueError(
            "cannot be a file name: use letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return name


def _free(name: str) -> str:
    if name in RESERVED or name.endswith(".safetensors"):
        raise ValueError(
            f"is reserved: {', '.join(RESERVED)} and names ending in .safetensors mean other models"
        )
    return name


def name_fault(name: str) -> str | None:
    """Why no model can have this name; None if it can."""
    try:
        _free(_safe(name))
    except ValueError as error:
        return str(error)
    return None


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]{1,50}", name):
        raise ValueError("must be at most 50 letters, digits and '_'")
    return name


Name = Annotated[str, AfterValidator(_safe)]
StageName = Annotated[Name, AfterValidator(_free)]
ColumnName = Annotated[str, AfterValidator(_plain)]


class UseBlock(Config):
    """A plugin and its options."""

    uses: str = Field(description="name of a plugin, like kind.method")
    with_: dict[str, Any] = Field({}, alias="with", description="the plugin's options")


class EvaluateBlock(UseBlock):
    """What to measure, and of which models."""

    stages: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None,
        min_length=1,
        description="which models: names of stages or models, like `blog-04`, or patterns with `*`, `?` and `[…]`; "
        "default: every model but fresh weights",
    )
    as_: ColumnName | None = Field(
        None,
        alias="as",
        description="a name that its columns begin with: `pgd25` gives `pgd25_accuracy`",
    )


class TaskBlock(Config):
    """What the data pose, or what is made of it."""

    uses: str | None = Field(
        None, description="name of a task plugin; default: the task that the dataset poses"
    )
    with_: dict[str, Any] = Field({}, alias="with", description="the task's options")


class WeightsBlock(Config):
    """Weights that leave a part of the model fresh."""

    file: str = Field(description="a .safetensors file")
    fresh: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description='tensors that keep their fresh values whatever the file has, like `["fc.*"]`: names, or patterns '
        "with `*`, `?` and `[…]`",
    )


class ModelBlock(Config):
    """The first model: a builder, or a checkpoint. Or several checkpoints, to be measured."""

    uses: str | None = Field(None, description="name of a model plugin")
    with_: dict[str, Any] = Field({}, alias="with", description="the model's options")
    weights: str | dict[str, Any] | None = Field(
        None,
        description="a .safetensors file with weights to load into the model, or {file: …, fresh: […]} to leave a "
        "part of it fresh",
    )
    init: dict[str, Any] | None = Field(
        None, description="how fresh weights are drawn, like {scheme: kaiming, scale: 0.5}"
    )
    from_: str | list[str] | dict[str, str] | None = Field(
        None,
        alias="from",
        description="a checkpoint (.safetensors) to start from; or several that are only measured, as a list or as "
        "{name: file}",
    )


class StageBlock(UseBlock):
    """One stage."""

    needs: str | None = Field(
        None, description="the stage to start from; default: the stage before, or init for the first"
    )
    repeat: int | None = Field(
        None, ge=1, le=1000, description="number of rounds: how often to run the stage"
    )
    feed: Literal["previous", "original"] = Field(
        "previous",
        description="the model each round starts from: the previous round's, or the stage's own input",
    )
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="options to vary, like {with.sparsity: [0.5, 0.8]}: one member per combination"
    )

    @field_validator("feed")
    @classmethod
    def _feeds_rounds(cls, feed: str, info: ValidationInfo) -> str:
        if info.data.get("repeat", 1) is None:
            raise ValueError("has no effect without `repeat`: it sets what the rounds start from")
        return feed


class RangeBlock(Config):
    """The values of an option that a search tries."""

    low: int | float | None = Field(None, description="the smallest value; default: what the plugin says")
    high: int | float | None = Field(
        None, description="the largest value; whole numbers only are tried if both are written as such"
    )
    log: bool = Field(False, description="whether values are spread evenly by their logarithm")
    per_layer: bool = Field(False, description="whether each layer has a value of its own")


class Body(Config):
    """What a variant may override. Blocks are checked one by one, so that one mistake does not hide another."""

    data: dict[str, Any] = Field(description="the dataset: {uses: …, with: {…}}")
    task: dict[str, Any] = Field(
        {}, description="what the models learn: {uses: …, with: {…}}; default: what the dataset poses"
    )
    model: dict[str, Any] = Field(
        description="the first model: {uses: …, with: {…}} or {from: file.safetensors}"
    )
    stages: dict[StageName, Any] = Field(
        {}, description="the stages by name; a recipe that only measures has none"
    )
    evaluate: list[Any] = Field(
        [], description="evaluators: names, or {uses: …, with: {…}, stages: […], as: …}"
    )


Control = Literal["longer", "random", "magnitude", "scratch", "thin"]


class CompareBlock(Config):
    """How the variants, which are strategies then, are compared."""

    metric: str | None = Field(
        None, description="a column that is compared; default: `test_accuracy`, or what else the task watches"
    )
    baseline: str = Field(
        "original",
        description="what strategies are tested against: `original`, the dense parent, or a variant",
    )
    controls: bool | list[Control] = Field(
        True,
        description="what to run beside the strategies: all controls (true), none (false), or a list of: the original "
        "trained on for as long (`longer`), the same pruning by chance or by size (`random`, `magnitude`), the "
        "compressed shape trained from fresh weights (`scratch`), a uniformly narrower net of the same cost (`thin`)",
    )
    budget: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="what a strategy may have: costs as fractions of the original's, and `max_drop`, how much the "
        "metric may become worse, like {macs: 0.5, max_drop: 0.005}",
    )


class Head(Config):
    """Keys that apply to the whole recipe."""

    version: Literal[1] = Field(description="version of the recipe language: 1")
    name: Name = Field(description="name of the run folder")
    description: str = Field("", description="what this recipe is for")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0,), min_length=1, description="random seeds: every variant runs once with each"
    )
    compute: ComputeConfig = Field(default_factory=ComputeConfig, description="where and how to compute")
    plugins: list[str] = Field(
        [], description="plugin files, relative to the recipe; they run only if trusted"
    )
    report: list[Any] = Field([], description="reports: names, or {uses: …, with: {…}}")
    observe: list[Any] = Field(
        [],
        description="who is told as the run goes on, like `report`; changes no result: [observe.tensorboard]",
    )
    variants: dict[Name, dict[str, Any] | None] | None = Field(
        None, description=f"versions of the recipe to compare; each may change {', '.join(VARIANT_KEYS)}"
    )
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {},
        description="options of data and model to vary, like {model.with.hidden: [[64], [128]]}: one variant per "
        "combination",
    )
    search: dict[str, Any] = Field(
        {},
        description="what `compressit search` varies, like {stages.half.with.keep: {low: 0.2, high: 0.9}}, and stages "
        "that may swap places: {order: [[prune, half]]}; default: the ratios of all compressors",
    )
    compare: CompareBlock | None = Field(
        None,
        description="compares the variants as strategies, beside controls: {metric: …, budget: {macs: 0.5}}",
    )
    profiles: dict[Name, dict[str, Any] | None] | None = Field(
        None, description="named changes to the recipe, chosen with --profile"
    )

    @field_validator("compare", mode="before")
    @classmethod
    def _is_written(cls, compare: Any) -> Any:
        if compare is None:
            raise ValueError("must be a mapping: write `compare: {}` for the defaults")
        return compare

    @field_validator("seeds")
    @classmethod
    def _unique(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("must differ from each other")
        return seeds


KEYS = (*Head.model_fields, *Body.model_fields)
"""Every key of a recipe."""

OVERRIDABLE = tuple(key for key in KEYS if key not in ("version", "name", "profiles", "plugins"))
"""What a profile may override."""
