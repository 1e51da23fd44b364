"""What a plan asks plugins. `check` asks the same, so a plugin that fails is named before anything runs."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from compressit.contract.kinds import Compressor, Plugin
from compressit.errors import FOREIGN, CompressitError, place_in, told
from compressit.recipe.model import Recipe


def asked(plugin: Plugin[Any], name: str) -> Any:
    """The value of a plugin's property or method `name`. Raises CompressitError if it fails."""
    try:
        answer = getattr(plugin, name)
        return answer() if callable(answer) else answer
    except CompressitError:
        raise
    except FOREIGN as error:
        place = place_in(error, [Path(inspect.getfile(type(plugin)))])
        raise CompressitError(
            f"`{name}` of {plugin.name} fails: {told(error)}{place}",
            "this is a bug in the plugin, not in the recipe",
        ) from error


def ask(recipe: Recipe) -> None:
    """Asks every plugin of a recipe what planning will ask. Raises CompressitError if a plugin fails."""
    for variant in recipe.variants:
        asked(variant.data.plugin, "fingerprint")
        for stage in variant.stages:
            for _, use in stage.members:
                if isinstance(use.plugin, Compressor):
                    asked(use.plugin, "per_host")
