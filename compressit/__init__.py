"""compressit: an open PyTorch lab for making networks smaller and knowing what you lost.

Importing it imports no torch; every name below is fetched from its module when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

EXPORTS = {
    "Compressor": "compressit.kinds",
    "CompressitError": "compressit.errors",
    "Config": "compressit.config",
    "DataConfig": "compressit.data_options",
    "Dataset": "compressit.kinds",
    "Evaluator": "compressit.kinds",
    "FitConfig": "compressit.fit_options",
    "Metric": "compressit.kinds",
    "Model": "compressit.kinds",
    "ModelRef": "compressit.config",
    "NoEffectError": "compressit.errors",
    "RawData": "compressit.splits",
    "Recipe": "compressit.recipe.model",
    "Report": "compressit.kinds",
    "Results": "compressit.results",
    "Run": "compressit.api",
    "StageContext": "compressit.context",
    "Trainer": "compressit.kinds",
    "data": "compressit.api",
    "fresh": "compressit.api",
    "hookimpl": "compressit.hookspecs",
    "load": "compressit.api",
    "run": "compressit.api",
    "save": "compressit.api",
    "stage": "compressit.api",
}
"""Public names and the modules that define them."""

__all__ = sorted(EXPORTS)  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module 'compressit' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(EXPORTS[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if TYPE_CHECKING:
    from compressit.api import Run, data, fresh, load, run, save, stage
    from compressit.config import Config, ModelRef
    from compressit.context import StageContext
    from compressit.splits import RawData
    from compressit.data_options import DataConfig
    from compressit.errors import CompressitError, NoEffectError
    from compressit.fit_options import FitConfig
    from compressit.hookspecs import hookimpl
    from compressit.kinds import Compressor, Dataset, Evaluator, Metric, Model, Report, Trainer
    from compressit.recipe.model import Recipe
    from compressit.results import Results
