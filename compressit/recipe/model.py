"""The recipe after validation: frozen values with every option resolved. Plans are made from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from compressit.checkpoint.starting import Offer
from compressit.config import Config, dump, without_folders
from compressit.contract.init_options import InitConfig
from compressit.contract.kinds import Dataset
from compressit.contract.plugin import Plugin
from compressit.contract.tasks import Task
from compressit.datasets.options import known_doubts
from compressit.host import localcode


class ComputeConfig(Config):
    """Where to compute. Device and threads are recorded with a result; precision and `compile` are part of its key."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: CUDA if torch finds a GPU"
    )
    precision: Literal["fp32", "bf16", "fp64"] = Field(
        default="fp32",
        description="bf16: autocast in every forward pass; fp64: weights, inputs and losses in float64",
    )
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="threads per worker; auto: the machine's cores divided by the number of jobs",
    )
    compile: bool = Field(default=False, description="use torch.compile in training")


@dataclass(frozen=True)
class Use:
    """A plugin with its validated options: all defaults filled in, all file paths absolute."""

    plugin: Plugin[Any]
    models: tuple[
        str, ...
    ] = ()  # the models that its options name (ModelRef values), in order; files by path

    @property
    def uses(self) -> str:
        """The plugin's name."""
        return self.plugin.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The options as JSON values; part of a job's key."""
        return dump(self.plugin.config)

    def to_json(self) -> dict[str, Any]:
        """Name and options."""
        return {"uses": self.uses, "config": self.config}

    def to_lineage(self) -> dict[str, Any]:
        """The same as a checkpoint records it, which travels: paths without their folders."""
        return {"uses": self.uses, "config": without_folders(self.plugin.config)}


@dataclass(frozen=True)
class Weights:
    """A safetensors file whose tensors go into a built model, but for those whose names match a pattern of `fresh`."""

    file: Path
    fresh: tuple[str, ...] = ()  # sorted


@dataclass(frozen=True)
class ModelSpec:
    """Where the first model comes from: either a model plugin (`use`), with or without `weights` from a file, or a
    checkpoint (`checkpoint`). A recipe that only measures may have several checkpoints instead (`files`)."""

    use: Use | None
    checkpoint: Path | None = None
    weights: Weights | None = None
    init: InitConfig = field(default_factory=InitConfig)  # of fresh weights
    files: tuple[tuple[str, Path], ...] = ()  # by the names of their rows

    @property
    def given(self) -> bool:
        """Whether it was trained elsewhere: then it is a row of the results."""
        return self.use is None or self.weights is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models that no stage makes."""
        return tuple(name for name, _ in self.files) or ("init",)


@dataclass(frozen=True)
class Stage:
    """One named stage. `needs` is another stage's name or "init"."""

    name: str
    use: Use  # the first member's
    needs: str
    repeat: int | None = None  # rounds; None: the stage is not repeated
    feed: Literal["previous", "original"] = "previous"
    sweep: tuple[tuple[str, tuple[Any, ...]], ...] = ()  # (("with.sparsity", (0.5, 0.8)), ...)
    # (label, use) for each combination of `sweep`, the last key fastest; without a sweep (("", use),)
    members: tuple[tuple[str, Use], ...] = ()
    refs: tuple[
        str, ...
    ] = ()  # the models that its members name, each once, without `previous` and `original`


@dataclass(frozen=True)
class Measure:
    """An item of `evaluate`: an evaluator, and which models it measures."""

    use: Use
    name: str = ""  # `as`
    stages: tuple[str, ...] | None = None  # patterns of names; None: every model but fresh weights

    @property
    def uses(self) -> str:
        """The evaluator's name."""
        return self.use.uses

    def covers(self, *names: str) -> bool:
        """Whether one of the patterns matches one of a model's names."""
        return any(fnmatchcase(name, pattern) for pattern in self.stages or () for name in names)

    def to_json(self) -> dict[str, Any]:
        """Evaluator and options; `as` and `stages` if they were given."""
        given = {"as": self.name or None, "stages": self.stages}
        return {**self.use.to_json(), **{key: value for key, value in given.items() if value is not None}}


def join_labels(*labels: str) -> str:
    """The label of a member made from another stage's member: `sparsity=0.5,width=0.3`."""
    return ",".join(filter(None, labels))


def member_of(label: str, members: Collection[str]) -> str | None:
    """The member of another stage that the member `label` belongs to; None unless there is exactly one."""
    parts = label.split(",")
    beginnings = dict.fromkeys(["", *(",".join(parts[: count + 1]) for count in range(len(parts)))])
    found = [beginning for beginning in beginnings if beginning in members]
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True)
class Variant:
    """One resolved version of the recipe."""

    name: str
    data: Use
    task: Use
    model: ModelSpec
    stages: tuple[Stage, ...]  # in topological order
    evaluate: tuple[Measure, ...]
    swept: tuple[
        tuple[str, Any], ...
    ] = ()  # the values of the recipe's `sweep`: (("model.with.hidden", [64]), ...)

    @cached_property
    def dataset(self) -> Dataset[Any]:
        """The plugin of `data`."""
        return cast("Dataset[Any]", self.data.plugin)

    @cached_property
    def offer(self) -> Offer:
        """What the data offer a model: input shape, classes and so on."""
        return Offer.of(self.dataset, self.posed.name)

    @property
    def posed(self) -> Task[Any]:
        """The plugin of `task`."""
        return cast("Task[Any]", self.task.plugin)

    def doubts(self) -> list[str]:
        """Reasons to doubt its results, as far as known before the data are loaded."""
        classes = self.offer.classes if self.posed.target == "class" else 1
        known = known_doubts(self.dataset.config, classes, self.dataset.train_size)
        found = [*known, *self.dataset.doubts()]
        return [f"{self.name}: {doubt}" for doubt in found]


@dataclass(frozen=True)
class LocalPlugin:
    """A plugin file named by the recipe, with the digest under which it was trusted."""

    path: Path
    digest: str  # sha256 of the file and of the modules that it can import from its folder
    files: tuple[tuple[str, str], ...] = ()  # path of each, relative to the folder, and its sha256

    @staticmethod
    def read(path: Path) -> LocalPlugin:
        """Reads the file as it is now, without running it. Raises CompressitError if it cannot be read."""
        code = localcode.read(path)
        return LocalPlugin(path, code.digest, code.files)


@dataclass(frozen=True)
class Vary:
    """An option of a stage that `compressit search` varies: over a range, or over `choices`."""

    stage: str
    option: tuple[str, ...]  # its path in `with`
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False  # whole numbers only
    choices: tuple[Any, ...] = ()
    layers: str = ""  # each layer has a value of its own: the note of the stage that names the layers


@dataclass(frozen=True)
class Search:
    """What `compressit search` varies besides the choice of a variant."""

    vary: tuple[Vary, ...] = ()  # empty: the ratios that plugins mark
    order: tuple[tuple[str, ...], ...] = ()  # stages that may swap places


@dataclass(frozen=True)
class Strategy:
    """What a variant of a comparing recipe is in the comparison."""

    final: tuple[str, ...]  # the stages that no other needs: their models are compared
    # of all trainings that made the weights of its models; the most of several models. None: unknown
    epochs: int | None = None
    recovery: int | None = None  # of these, those after the original
    control: str = ""  # the kind of control that the host added; "" for a strategy of the recipe
    of: tuple[str, ...] = ()  # the strategies that a control serves; empty: all


@dataclass(frozen=True)
class Compare:
    """How the variants of a recipe are compared."""

    metric: str  # a column
    selecting: str | None  # the same of the validation split, by which choices are made; None: there is none
    baseline: str  # "original" or the name of a variant
    budget: tuple[tuple[str, float], ...]  # fractions of the original's cost by column, and `max_drop`
    strategies: Mapping[str, Strategy]  # by variant
    doubts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As results.json has it."""
        return {
            "metric": self.metric,
            "selecting": self.selecting,
            "baseline": self.baseline,
            "budget": dict(self.budget),
            "strategies": {
                name: {"final": list(found.final), "control": found.control, "of": list(found.of)}
                for name, found in self.strategies.items()
            },
            "epochs": {name: found.epochs for name, found in self.strategies.items()},
        }


@dataclass(frozen=True)
class Recipe:
    """A validated recipe: a graph of stages for each variant and seed."""

    name: str
    path: Path | None
    profile: str | None
    seeds: tuple[int, ...]
    compute: ComputeConfig
    variants: tuple[Variant, ...]
    report: tuple[Use, ...]
    plugins: tuple[LocalPlugin, ...] = ()
    observe: tuple[Use, ...] = ()
    description: str = ""
    text: str = ""  # the file's text; "" for a recipe made in Python
    settings: tuple[str, ...] = ()  # the `--set` arguments
    search: Search = Search()
    compare: Compare | None = None  # the variants are strategies, with controls among them

    def doubts(self) -> list[str]:
        """The doubts of all variants, each once, and those of comparing them. Controls have those of strategies."""
        roles = self.compare.strategies if self.compare else {}
        own = [
            variant
            for variant in self.variants
            if variant.name not in roles or not roles[variant.name].control
        ]
        found = [doubt for variant in own for doubt in variant.doubts()]
        return list(dict.fromkeys([*found, *(self.compare.doubts if self.compare else ())]))
