"""Runs of the recipes in `examples/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from tiny import Bench

import compressit
from compressit.contract.results import Row
from compressit.host.plugins import installed

Quick = Callable[..., Sequence[Row]]
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def quick(bench: Bench, tmp_path: Path) -> Quick:
    """Runs a recipe by its name with the profile `quick`, and with settings like those of `--set`; returns its rows.
    `swaps`: texts of the recipe and what stands in their place."""

    def run(name: str, *settings: str, swaps: Mapping[str, str] | None = None) -> Sequence[Row]:
        text = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
        for old, new in (swaps or {}).items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        recipe = compressit.load_recipe(tmp_path / "recipe.yaml", "quick", settings, host=installed())
        return compressit.run(recipe, out=tmp_path / "run", store=tmp_path / "store").results.rows

    return run
