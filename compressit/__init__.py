"""compressit: an open PyTorch lab for making networks smaller and knowing what you lost.

Importing it imports no torch; every name below is fetched from its module when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressit.public import EXPORTS

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module 'compressit' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(EXPORTS[name]), name)


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
    from compressit.config import ModelRef as ModelRef
    from compressit.contract.context import StageContext as StageContext
    from compressit.contract.fit_options import FitConfig as FitConfig
    from compressit.contract.hookspecs import hookimpl as hookimpl
    from compressit.contract.kinds import Compressor as Compressor
    from compressit.contract.kinds import Dataset as Dataset
    from compressit.contract.kinds import Evaluator as Evaluator
    from compressit.contract.kinds import Metric as Metric
    from compressit.contract.kinds import Model as Model
    from compressit.contract.kinds import Report as Report
    from compressit.contract.kinds import Trainer as Trainer
    from compressit.contract.results import Results as Results
    from compressit.datasets.options import DataConfig as DataConfig
    from compressit.datasets.splits import RawData as RawData
    from compressit.errors import CompressitError as CompressitError
    from compressit.errors import NoEffectError as NoEffectError
    from compressit.host.live_models import model as model
    from compressit.python.evaluation import evaluate as evaluate
    from compressit.python.given import data as data
    from compressit.recipe.load import load_recipe as load_recipe
    from compressit.recipe.model import Recipe as Recipe
