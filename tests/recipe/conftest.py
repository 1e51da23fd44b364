"""A host with the tiny plugins only: these tests pass without the built-ins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tiny import tiny_host

from compressit.errors import Problem, RecipeError
from compressit.host.plugins import Host
from compressit.recipe.load import parse_recipe
from compressit.recipe.model import Recipe


@pytest.fixture(scope="session")
def host() -> Host:
    """The tiny plugins, through the same door as anybody's local plugin file."""
    return tiny_host()


@pytest.fixture
def parse(host: Host, tmp_path: Path) -> Callable[..., Recipe]:
    """`parse(text, profile=…, settings=[…])` with paths relative to `tmp_path`."""

    def parse(text: str, profile: str | None = None, settings: Sequence[str] = ()) -> Recipe:
        return parse_recipe(text, "r.yaml", host, profile, settings, path=tmp_path / "r.yaml")

    return parse


@pytest.fixture
def problems(parse: Callable[..., Recipe]) -> Callable[..., list[Problem]]:
    """The problems of a recipe that must not be valid."""

    def problems(text: str, profile: str | None = None, settings: Sequence[str] = ()) -> list[Problem]:
        with pytest.raises(RecipeError) as caught:
            parse(text, profile, settings)
        return list(caught.value.problems)

    return problems
