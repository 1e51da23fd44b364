"""What a plan asks plugins. `check` asks it too, so a plugin that cannot answer is named before anything runs."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from compressit.contract.kinds import Compressor, Plugin
from compressit.errors import FOREIGN, CompressitError, place_in, told
from compressit.recipe.model import Recipe


def asked(plugin: Plugin[Any], name: str) -> Any:
    """What a plugin says under that name, a property or a method. Raises CompressitError where it cannot."""
    try:
        answer = getattr(plugin, name)
        return answer() if callable(answer) else answer
    except CompressitError:
        raise
    except FOREIGN as error:
        place = place_in(error, [Path(inspect.getfile(type(plugin)))])
        raise CompressitError(
            f"{plugin.name} cannot say its `{name}`: {told(error)}{place}",
            "a fault of the plugin, not of the recipe",
        ) from error


def ask(recipe: Recipe) -> None:
    """Asks every plugin of a recipe what its plan will ask. Raises CompressitError for one that cannot answer."""
    for variant in recipe.variants:
        asked(variant.data.plugin, "fingerprint")
        for stage in variant.stages:
            for _, use in stage.members:
                if isinstance(use.plugin, Compressor):
                    asked(use.plugin, "per_host")
