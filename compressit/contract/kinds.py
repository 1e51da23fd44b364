"""The kinds of plugins: what each gets and what it must return.

A plugin is a class with a `name` (`kind.method`), a config class and one method. This module does not import torch.
Import torch inside the method of your plugin to keep `compressit check` fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from compressit.config import Config
from compressit.contract.plugin import Plugin as Plugin
from compressit.contract.records import Declared, Metric
from compressit.contract.tasks import Task
from compressit.datasets.options import DataConfig
from compressit.datasets.specs import Inputs, TensorSpec
from compressit.datasets.task_spec import CLASSIFICATION, TaskSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from compressit.contract.context import DataContext, StageContext
    from compressit.contract.results import Results
    from compressit.datasets.sources import Sources

C = TypeVar("C", bound=Config)
D = TypeVar("D", bound=DataConfig)


@dataclass(frozen=True)
class Work:
    """The work of a stage, for the time estimate printed before a run. It need not be exact."""

    steps: int  # optimizer steps
    batch_size: int
    width: float = 1.0  # width of the trained model relative to the recipe's model
    forwards: int = 0  # images in forward passes only (of a teacher), or equivalent work


class ForTasks(Plugin[C]):
    """A plugin that may do some tasks only. A recipe of another task is a mistake, found before anything runs."""

    tasks: ClassVar[frozenset[str] | None] = None  # by name, with what derives from them; None: any

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """The options that do not go with the recipe's task, each with the reason: `{"labels": "hard needs …"}`."""
        return {}


class Trainer(ForTasks[C]):
    """Changes weights but no shapes."""

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Gets its own copy of the model, in train mode, on the stage's device; returns the trained model."""
        raise NotImplementedError(f"{type(self).__name__}.train")

    def dry_run(self, model: nn.Module, ctx: StageContext) -> None:
        """Looks at fresh weights of the net's shapes before anything is trained; by default it does not. Should take
        seconds. Raises CompressitError if `train` can never work on such a net. Must use only the shapes of the data.
        """

    def work(self, images: int) -> Work | None:
        """The work for a training set of this many images; None if unknown."""
        return None


class Compressor(ForTasks[C]):
    """Makes a model smaller or sparser. Raises NoEffectError if it changes nothing."""

    @property
    def per_host(self) -> bool:
        """Whether results with this config hold for this machine only, because it measures times. Then machine, device
        and threads are part of the result's key, and the job runs alone."""
        return False

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Gets its own copy of the model; returns a plain module without hooks, wrappers or parametrizations."""
        raise NotImplementedError(f"{type(self).__name__}.compress")

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module | None:
        """Tries compression on fresh weights before anything is trained. Should take seconds.

        Returns a model with the shapes that `compress` will give, with any weights; None (the default) if they
        cannot be known without training. Raises CompressitError if `compress` can never work: an unsupported
        architecture, a target out of reach. Must use only the shapes of the data.
        """
        return None

    def alternatives(self) -> Mapping[str, C]:
        """Options with the same budget and another choice of what goes, for the controls of a comparison: `random`, by
        chance, and `magnitude`, the smallest. None (the default) if it makes no such choice. Must not import torch."""
        return {}

    def work(self, images: int, times: int) -> Work | None:
        """The work of round `times` (1 without `repeat`); None if unknown."""
        return None


class Evaluator(ForTasks[C]):
    """Measures a model. `metrics` declares every number that it may return, by its column in results.csv (preferably
    letters, digits and '_'). A number that it does not return is an empty cell. One that also gives curves, pictures
    or arrays, or whose numbers depend on its options, overrides `declares`.

    Its random streams are those of the seed and its name: the same for all models, and in `compressit evaluate`."""

    metrics: ClassVar[Mapping[str, Metric]] = {}
    exclusive: ClassVar[bool] = False  # True: runs alone (for timings)
    per_host: ClassVar[bool] = False  # True: the numbers hold for this machine only
    uses_data: bool = (
        True  # False: the numbers depend on the model only; may be set in `__init__`, by the options
    )
    uses_stage: ClassVar[bool] = False  # True: reads the judged stage (its notes, teacher, random streams)

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """All that it may give with its options for models of this task, by name: `Metric`, `Curve`, `Picture`,
        `Array` and `File`. Must not import torch."""
        return self.metrics

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Gets the model in eval mode and must not change it. Returns the metrics by name.

        What it declares besides goes to `ctx.log`, `ctx.picture` and `ctx.save`. A long one can save its state with
        `ctx.progress`, as `fit` does.
        """
        raise NotImplementedError(f"{type(self).__name__}.evaluate")

    def work(self, images: int) -> Work | None:
        """The work for a training set of this many images; None (the default) if it takes a moment or is unknown."""
        return None


@dataclass(frozen=True)
class Pretrained:
    """The weights that a library has for one of its models, and what inputs they take."""

    tensors: Mapping[str, Tensor]  # by the names of the built network's state dict, all of them
    inputs: TensorSpec  # (channels, height, width)
    outputs: int
    mean: tuple[float, ...]  # per channel, of pixels in 0..1
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()  # in label order; empty if unknown


class Model(Plugin[C]):
    """Builds a network with fresh weights."""

    def build(self, inputs: Inputs, outputs: int) -> nn.Module:
        """Returns the network. `inputs`: what `Dataset.inputs` says; for one tensor, `inputs.shape` has no batch
        dimension: (channels, height, width) for images. `outputs`: numbers per input, one for each class.

        Must not download anything. The weights come from torch's global generator, which the host seeds.
        """
        raise NotImplementedError(f"{type(self).__name__}.build")

    def pretrained(self) -> Pretrained | None:
        """The library's own weights, for `compressit import`; None (the default) if there are none.

        May download, only here. While it runs, torch loads files with `weights_only=True` whoever asks.
        """
        return None

    def with_width(self, multiplier: float) -> C | None:
        """The config of the same model with every hidden width times `multiplier` (0 < multiplier < 1), rounded up;
        None (the default) if the model does not support this."""
        return None


class Dataset(Plugin[D]):
    """Names, shapes and sizes are known without loading; `load` returns the tensors.

    The config derives from `DataConfig`. The host applies its options: limit, scale, labels, pixels, validation.
    """

    Config: ClassVar[type[Config]] = DataConfig

    @property
    def inputs(self) -> Inputs:
        """One input: for images `TensorSpec((channels, height, width))`. A tuple or dict of specs for several tensors,
        which a model takes as `model(*x)` or `model(**x)`."""
        raise NotImplementedError(f"{type(self).__name__}.inputs")

    @property
    def classes(self) -> int:
        """The number of classes, of a dataset that poses a classification."""
        raise NotImplementedError(f"{type(self).__name__}.classes")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return tuple(str(i) for i in range(self.classes))

    @property
    def task(self) -> TaskSpec:
        """What it poses. By default a classification of `classes`; a dataset that overrides it needs no `classes`."""
        return TaskSpec(CLASSIFICATION, self.classes, tuple(self.class_names))

    @property
    def train_size(self) -> int | None:
        """The number of training images before `limit`; None if unknown without loading."""
        return None

    @property
    def has_validation(self) -> bool:
        """Whether `load` gives a validation split, so that the option `validation` need not cut one."""
        return False

    def fingerprint(self) -> str:
        """Anything else that the content depends on, besides name, config and code: a digest of files, a version."""
        return ""

    def doubts(self) -> Sequence[str]:
        """What results on these data should be read with, as far as it is known without loading."""
        return ()

    def load(self, ctx: DataContext) -> Sources:
        """The examples of every split: tensors in memory, or torch Datasets (`compressit.Sources`).

        The options that the host applies (limit, labels, seed …) have their defaults here, so variants that differ
        only in them share the loaded data. The global random generators are seeded from the dataset's name.
        """
        raise NotImplementedError(f"{type(self).__name__}.load")


@dataclass(frozen=True)
class Table:
    """A table of plain text that a report gives. The first cell of a row names it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]  # each as long as `head`


class Report(ForTasks[C]):
    """Figures, tables and text about a finished or interrupted run, made from its results only."""

    def figures(self, results: Results) -> Mapping[str, Figure]:
        """Matplotlib figures by file name (without extension), in the order of the page.

        A figure's label (`figure.set_label("...")`) is its caption.
        """
        return {}

    def paragraphs(self, results: Results) -> Sequence[str]:
        """Paragraphs of plain text, computed from the results. The host escapes them."""
        return ()

    def tables(self, results: Results) -> Sequence[Table]:
        """Tables of plain text, computed from the results. The host escapes them."""
        return ()


def images_after(options: DataConfig, train_size: int | None) -> int | None:
    """Training images left after `limit` and the validation split."""
    if train_size is None:
        return None
    kept = min(train_size, options.limit or train_size)
    return kept - options.validation_count(kept)
