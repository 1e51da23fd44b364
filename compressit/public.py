"""The names of `import compressit`."""

from __future__ import annotations

EXPORTS = {
    "Compressor": "compressit.contract.kinds",
    "CompressitError": "compressit.errors",
    "Config": "compressit.config",
    "DataConfig": "compressit.datasets.options",
    "Dataset": "compressit.contract.kinds",
    "Evaluator": "compressit.contract.kinds",
    "FitConfig": "compressit.contract.fit_options",
    "Metric": "compressit.contract.kinds",
    "Model": "compressit.contract.kinds",
    "ModelRef": "compressit.config",
    "NoEffectError": "compressit.errors",
    "RawData": "compressit.datasets.splits",
    "Recipe": "compressit.recipe.model",
    "Report": "compressit.contract.kinds",
    "Results": "compressit.contract.results",
    "Run": "compressit.api",
    "StageContext": "compressit.contract.context",
    "Trainer": "compressit.contract.kinds",
    "data": "compressit.python.given",
    "evaluate": "compressit.python.evaluation",
    "fresh": "compressit.api",
    "hookimpl": "compressit.contract.hookspecs",
    "load": "compressit.api",
    "load_recipe": "compressit.recipe.load",
    "model": "compressit.host.live_models",
    "run": "compressit.api",
    "save": "compressit.api",
    "stage": "compressit.api",
}
"""Public names and the modules that define them."""
