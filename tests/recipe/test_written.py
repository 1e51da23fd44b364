"""`Recipe.of`: a recipe from Python is the one that a file with these values would be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from compressit.errors import Problem, RecipeError
from compressit.host.plugins import Host
from compressit.planning.plan import make_plan
from compressit.recipe.load import Recipe, parse_recipe
from compressit.recipe.written import plain, yaml_of
from compressit.recipe.yamlfile import parse_yaml

VALUES: Mapping[str, Any] = {
    "version": 1,
    "name": "demo",
    "data": {"uses": "tiny.data"},
    "model": {"uses": "tiny.mlp", "with": {"hidden": (12,)}},
    "stages": {"fit": {"uses": "tiny.train", "with": {"epochs": 2, "optimizer": {"lr": 1e-05}}}},
    "variants": {"real": None, "fake": {"data": {"with": {"labels": "random"}}}},
    "evaluate": ["tiny.accuracy"],
}


def told(values: Mapping[str, Any], host: Host) -> list[Problem]:
    with pytest.raises(RecipeError) as caught:
        Recipe.of(values, host)
    return list(caught.value.problems)


def test_its_text_is_a_recipe_that_plans_the_very_same_jobs(host: Host) -> None:
    recipe = Recipe.of(VALUES, host)
    again = parse_recipe(recipe.text, "r.yaml", host)
    assert make_plan(recipe, host).jobs.keys() == make_plan(again, host).jobs.keys()
    assert [variant.name for variant in recipe.variants] == ["real", "fake"]


def test_mistakes_are_told_at_the_path_of_their_keys(host: Host) -> None:
    wrong = {
        **VALUES,
        "evaluate": ["tiny.accuracy", "tiny.acuracy"],
        "stages": {"fit": {"uses": "tiny.train", "with": {"epochs": 0}}},
        "sedes": [0],
    }
    problems = told(wrong, host)
    assert {str(problem.where) for problem in problems} == {"sedes", "stages.fit.with.epochs", "evaluate.1"}
    assert all(problem.where is not None and problem.where.line is None for problem in problems)
    text = "\n".join(map(str, problems))
    assert "stages.fit.with.epochs must be at least 1 (got 0)" in text
    assert "stages.fit.with.epochs: stages.fit" not in text


def test_what_a_file_cannot_hold_is_a_mistake(host: Host) -> None:
    circle: dict[str, Any] = {}
    circle["again"] = circle
    for value, said in (
        (object(), "stages.fit is of type object, and a recipe holds plain values"),
        ({3: 1}, "stages.fit has the key 3, and a key must be text"),
        ([b"x"], "stages.fit.0 is of type bytes"),
        (circle, "nested more than"),
    ):
        (problem, *_) = told({**VALUES, "stages": {"fit": value}}, host)
        assert said in str(problem)


def test_files_are_looked_for_beside_the_file_it_stands_for(host: Host, tmp_path: Path) -> None:
    given = {**VALUES, "model": {"from": Path("mine.safetensors")}}
    with pytest.raises(RecipeError, match=f"looked in {tmp_path}"):
        Recipe.of(given, host, tmp_path / "r.yaml")


VALUE = {
    "texts": ["yes", "null", "1e-3", "0o7", "~", "", " a ", "a: b", "- a", "#", "é\n\tb", "2001-01-01",
              "1_000", "word " * 50],
    "numbers": [1e-05, 1e300, -0.0, 3, 10**15, math.inf, True, False, None],
    "empty": {"list": [], "mapping": {}},
    "again": {"x": [[1], [2, [3]]]},
}  # fmt: skip


def test_text_and_values_are_the_same() -> None:
    problems: list[Problem] = []
    assert parse_yaml(yaml_of(plain(VALUE, problems)), "r.yaml", problems).plain() == VALUE
    assert not problems
