"""The kinds of plugins: what each is given and what it must give back.

A plugin is a class with a `name` (`kind.method`), a config class and one method. Nothing here imports torch,
and a plugin that wants `compressit check` to stay fast imports it inside its method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args

from compressit.config import Config, NoOptions
from compressit.datasets.options import DataConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    from compressit.contract.context import DataContext, StageContext
    from compressit.contract.results import Results
    from compressit.datasets.sources import Sources

C = TypeVar("C", bound=Config)
D = TypeVar("D", bound=DataConfig)


@dataclass(frozen=True)
class Metric:
    """How to read one number of an evaluator."""

    better: Literal["higher", "lower", "neither"]
    unit: str  # "fraction", "bits", "bytes", "seconds", "count"
    about: str = ""


@dataclass(frozen=True)
class Work:
    """What a stage will do, for the estimate printed before a run: nothing depends on its being exact."""

    steps: int  # optimizer steps
    batch_size: int
    width: float = 1.0  # width of the trained model relative to the recipe's model
    forwards: int = 0  # images passed forward only (by a teacher), or whatever takes as long as that


class Plugin(Generic[C]):
    """Base of every kind. `config` is the validated config; its class comes from the generic argument."""

    name: ClassVar[str]
    Config: ClassVar[type[Config]] = NoOptions
    # Options with which it runs on a tiny model and data set: for conformance checks and scaffolded recipes.
    example: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):  # its own: an inherited one is its parent's
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Config):
                    cls.Config = argument

    def __init__(self, config: C) -> None:
        self.config = config

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring, for listings."""
        return (cls.__doc__ or "").strip().split("\n")[0]


class Trainer(Plugin[C]):
    """Changes weights, keeps every shape."""

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Gets its own copy of the model, in train mode, on the stage's device; returns the trained model."""
        raise NotImplementedError(f"{type(self).__name__}.train")

    def work(self, images: int) -> Work | None:
        """The work for a training set of that many images, or None when unknown."""
        return None


class Compressor(Plugin[C]):
    """Makes a model smaller (or sparser): must change something, or raises NoEffectError."""

    @property
    def per_host(self) -> bool:
        """Whether what it does with this config holds for this machine only, because it measures times: then machine,
        device and threads are part of the result's key, and it never runs beside another job."""
        return False

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Gets its own copy of the model; returns a plain module: no hooks, wrappers or parametrizations."""
        raise NotImplementedError(f"{type(self).__name__}.compress")

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module | None:
        """Tries on fresh weights, before anything is trained, what can be tried in seconds.

        Returns a model of the shapes `compress` will give, with any weights; None (the default) when those
        cannot be known without training. Raises CompressitError for what can never work: an architecture
        it cannot handle, a target out of reach. Reads no data but its shapes.
        """
        return None

    def work(self, images: int, times: int) -> Work | None:
        """The work of round `times` (1 without `repeat`), or None when unknown."""
        return None


class Evaluator(Plugin[C]):
    """Measures a model. `metrics` declares every number it may return, by the name of its column in results.csv
    (letters, digits and '_' above all); a number left out is an empty cell."""

    metrics: ClassVar[Mapping[str, Metric]] = {}
    exclusive: ClassVar[bool] = False  # never beside another job (timings)
    per_host: ClassVar[bool] = False  # the numbers hold for this machine only
    uses_data: ClassVar[bool] = True  # False: equal for every variant that has this model
    uses_stage: ClassVar[bool] = False  # True: reads the judged stage (its notes, teacher, random streams)

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """The model is in eval mode and must be left as it was found."""
        raise NotImplementedError(f"{type(self).__name__}.evaluate")


class Model(Plugin[C]):
    """Builds a network with fresh weights."""

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """`input_shape` without the batch dimension, (channels, height, width) for images.

        Must not download anything. The weights come from torch's global generator, which the host seeds.
        """
        raise NotImplementedError(f"{type(self).__name__}.build")

    def with_width(self, multiplier: float) -> C | None:
        """The config of the same model with every hidden width times `multiplier` (0 < multiplier < 1), rounded up;
        None when this model has no such thing."""
        return None


class Dataset(Plugin[D]):
    """Names, shapes and sizes are known without loading; `load` brings the tensors.

    The config derives from `DataConfig`: limit, scale, labels, pixels and validation split are the host's.
    """

    Config: ClassVar[type[Config]] = DataConfig
    task: ClassVar[str] = "classification"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One input's shape, (channels, height, width) for images."""
        raise NotImplementedError(f"{type(self).__name__}.input_shape")

    @property
    def classes(self) -> int:
        """How many classes the labels have."""
        raise NotImplementedError(f"{type(self).__name__}.classes")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return tuple(str(i) for i in range(self.classes))

    @property
    def train_size(self) -> int | None:
        """Training images before `limit`, when known without loading."""
        return None

    def fingerprint(self) -> str:
        """What the content depends on beyond name, config and code: a digest of files, a version."""
        return ""

    def load(self, ctx: DataContext) -> Sources:
        """The examples of every split: tensors in memory, or torch Datasets (`compressit.Sources`).

        Called on a dataset whose options of the host (limit, labels, seed …) are at their defaults: variants that
        differ in those share what it loads. The global random numbers stand at a place named after the dataset.
        """
        raise NotImplementedError(f"{type(self).__name__}.load")


class Report(Plugin[C]):
    """Figures and words about a finished (or interrupted) run, from its results alone."""

    def figures(self, results: Results) -> Mapping[str, Figure]:
        """Matplotlib figures by file name (without ending), in the order of the page.

        A figure's label (`figure.set_label("...")`) is its caption.
        """
        return {}

    def paragraphs(self, results: Results) -> Sequence[str]:
        """Plain text (the core escapes it); computed from the numbers."""
        return ()


def images_after(options: DataConfig, train_size: int | None) -> int | None:
    """Training images left after `limit` and the validation split."""
    if train_size is None:
        return None
    kept = min(train_size, options.limit or train_size)
    return kept - options.validation_count(kept)
