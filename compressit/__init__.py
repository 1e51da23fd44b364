"""compressit: an open PyTorch lab for making networks smaller and knowing what you lost.

Importing it does not import torch: every name below is imported from its module on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressit.public import EXPORTS

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module 'compressit' has no attribute '{name}'")
    from importlib import import_module

    globals()[name] = getattr(
        import_module(EXPORTS[name]), name
    )  # the next lookup does not call this function
    return globals()[name]


def __dir__() -> list[str]:
    return [*sorted(EXPORTS), "__version__"]


if TYPE_CHECKING:
    from compressit.api import Run as Run
    from compressit.api import fresh as fresh
    from compressit.api import load as load
    from compressit.api import run as run
    from compressit.api import save as save
    from compressit.api import stage as stage
    from compressit.config import Config as Config
    from compressit.config import InputPath as InputPath
    from compressit.config import ModelRef as ModelRef
    from compressit.config import NoOptions as NoOptions
    from compressit.config import changed as changed
    from compressit.config import parse as parse
    from compressit.contract.classification import ClassesConfig as ClassesConfig
    from compressit.contract.classification import ClassTask as ClassTask
    from compressit.contract.compute import Compute as Compute
    from compressit.contract.context import DataContext as DataContext
    from compressit.contract.context import Judged as Judged
    from compressit.contract.context import Progress as Progress
    from compressit.contract.context import StageContext as StageContext
    from compressit.contract.factored import Factored as Factored
    from compressit.contract.fit import EpochEnd as EpochEnd
    from compressit.contract.fit import StopTraining as StopTraining
    from compressit.contract.fit import fit as fit
    from compressit.contract.fit_options import FitConfig as FitConfig
    from compressit.contract.fit_options import OptimizerConfig as OptimizerConfig
    from compressit.contract.hookspecs import hookimpl as hookimpl
    from compressit.contract.init_options import InitConfig as InitConfig
    from compressit.contract.initial import initialise as initialise
    from compressit.contract.job import Job as Job
    from compressit.contract.kinds import Compressor as Compressor
    from compressit.contract.kinds import Dataset as Dataset
    from compressit.contract.kinds import Evaluator as Evaluator
    from compressit.contract.kinds import Model as Model
    from compressit.contract.kinds import Report as Report
    from compressit.contract.kinds import Table as Table
    from compressit.contract.kinds import Trainer as Trainer
    from compressit.contract.kinds import Work as Work
    from compressit.contract.measure import answers as answers
    from compressit.contract.measure import hidden_width as hidden_width
    from compressit.contract.measure import macs as macs
    from compressit.contract.measure import nonzero as nonzero
    from compressit.contract.measure import parameters as parameters
    from compressit.contract.measure import r2 as r2
    from compressit.contract.measure import tensor_bytes as tensor_bytes
    from compressit.contract.module_types import ModuleType as ModuleType
    from compressit.contract.nets import check_logits as check_logits
    from compressit.contract.nets import copied as copied
    from compressit.contract.observer import JobEnd as JobEnd
    from compressit.contract.observer import Observer as Observer
    from compressit.contract.observer import PlannedModel as PlannedModel
    from compressit.contract.observer import RunEnd as RunEnd
    from compressit.contract.observer import RunStart as RunStart
    from compressit.contract.records import Array as Array
    from compressit.contract.records import Curve as Curve
    from compressit.contract.records import Declared as Declared
    from compressit.contract.records import File as File
    from compressit.contract.records import Metric as Metric
    from compressit.contract.records import Picture as Picture
    from compressit.contract.results import Results as Results
    from compressit.contract.results import Row as Row
    from compressit.contract.tasks import Task as Task
    from compressit.datasets.batched import InputTensors as InputTensors
    from compressit.datasets.batched import call as call
    from compressit.datasets.batched import each_tensor as each_tensor
    from compressit.datasets.batched import random_inputs as random_inputs
    from compressit.datasets.batched import tensors_of as tensors_of
    from compressit.datasets.batched import zero_inputs as zero_inputs
    from compressit.datasets.options import DataConfig as DataConfig
    from compressit.datasets.shares import shares as shares
    from compressit.datasets.sources import SkipExample as SkipExample
    from compressit.datasets.sources import Sources as Sources
    from compressit.datasets.specs import Inputs as Inputs
    from compressit.datasets.specs import TensorSpec as TensorSpec
    from compressit.datasets.specs import single_tensor as single_tensor
    from compressit.datasets.splits import Data as Data
    from compressit.datasets.splits import Split as Split
    from compressit.datasets.task_spec import TaskSpec as TaskSpec
    from compressit.datasets.task_spec import usual_task as usual_task
    from compressit.errors import CompressitError as CompressitError
    from compressit.errors import NoEffectError as NoEffectError
    from compressit.errors import did_you_mean as did_you_mean
    from compressit.exporting.export import export as export
    from compressit.exporting.int8 import quantised as quantised
    from compressit.exporting.int8_scores import int8_scores as int8_scores
    from compressit.exporting.onnxnet import OnnxNet as OnnxNet
    from compressit.files.reading import opened as opened
    from compressit.formatting import counted as counted
    from compressit.formatting import grouped as grouped
    from compressit.formatting import percent as percent
    from compressit.host.live_models import model as model
    from compressit.host.plugins import installed as installed
    from compressit.python.comparing import ComparisonFailed as ComparisonFailed
    from compressit.python.comparing import compare as compare
    from compressit.python.data import data as data
    from compressit.python.evaluation import evaluate as evaluate
    from compressit.recipe.load import Recipe as Recipe
    from compressit.recipe.load import load_recipe as load_recipe
    from compressit.results.choices import Choice as Choice
    from compressit.results.comparison import Comparison as Comparison
    from compressit.results.entries import Entry as Entry
    from compressit.results.statistics import Estimate as Estimate
    from compressit.results.statistics import estimate as estimate
    from compressit.results.statistics import holm as holm
    from compressit.results.verdicts import Verdict as Verdict
    from compressit.seeds import Streams as Streams
