"""The benchmark's mutated recipes, fewer of them: a plan, or an error in words with its place."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from compressit.host.plugins import Host

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def with_built_ins(monkeypatch: pytest.MonkeyPatch) -> Host:
    """The recipes are those of the examples."""
    monkeypatch.delenv("COMPRESSIT_DISABLE_PLUGINS", raising=False)
    return Host()


def test_mutated_recipes_are_planned_or_refused_with_a_place(
    with_built_ins: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fuzz_recipes

    draw = random.Random(5)
    recipes = fuzz_recipes.trees()
    found = [fuzz_recipes.outcome(with_built_ins, *fuzz_recipes.example(draw, recipes)) for _ in range(400)]
    assert [outcome for outcome in found if outcome not in ("planned", "refused")] == []
    assert found.count("planned") > 5
    for tree in recipes:
        assert fuzz_recipes.outcome(with_built_ins, fuzz_recipes.json.dumps(tree), [], None) == "planned"
