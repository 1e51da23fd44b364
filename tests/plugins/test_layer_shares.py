"""Ratios per layer of recipes, from what each layer can lose."""

from __future__ import annotations

from math import nan

import pytest

from compressit.contract.records import Metric
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.recipe.load import Recipe
from compressit.searching.sensitivity import Question, Sensitivities, with_shares

ACCURACY = Metric("higher", "fraction")
FOUND = Sensitivities(
    "accuracy",
    ACCURACY,
    (0.0, 0.25, 0.5, 0.75),
    {"vital": [0.9, 0.8, 0.5, 0.1], "spare": [0.9, 0.9, 0.9, 0.9], "wild": [0.9, 0.9, nan, 0.9]},
    "picture.png",
)


def _recipe(**stages: object) -> Recipe:
    return Recipe.of(
        {
            "version": 1,
            "name": "small",
            "data": {"uses": "data.synthetic"},
            "model": {"uses": "model.mlp", "with": {"hidden": [8, 8]}},
            "stages": {"train": {"uses": "train.supervised"}, **stages},
            "evaluate": ["eval.size"],
        }
    )


def _question(recipe: Recipe, stage: str | None = None, **options: object) -> Question:
    return Question.about(recipe, stage, options, installed())


def test_shares_are_kept_of_channels_and_zeroed_of_weights_and_the_toughest_layers_have_none() -> None:
    structured = _question(_recipe(half={"uses": "prune.structured"}))
    assert structured.of == "channels"
    assert structured.shares(FOUND, 0.25) == {"vital": 0.625, "wild": 0.75}
    sparse = _question(_recipe(sparse={"uses": "prune.magnitude"}))
    assert sparse.of == "weights"
    assert sparse.shares(FOUND, 0.25) == {"vital": 0.375, "wild": 0.25}


def test_the_model_that_the_first_pruning_gets_is_measured_and_nothing_behind_it_is_made() -> None:
    recipe = _recipe(
        more={"uses": "train.supervised"},
        half={"uses": "prune.structured"},
        recover={"uses": "train.supervised"},
    )
    asked = _question(recipe)
    assert asked.stage == "more"
    assert [stage.name for stage in asked.recipe.variants[0].stages] == ["train", "more"]
    assert [s.name for s in _question(recipe, "train").recipe.variants[0].stages] == ["train"]


def test_a_recipe_with_shares_keeps_the_rest() -> None:
    recipe = _recipe(half={"uses": "prune.structured", "with": {"keep": 0.4, "ratios": {"linear2": 0.9}}})
    text = with_shares(recipe, _question(recipe), {"linear1": 0.7})
    assert "linear1: 0.7" in text
    assert "linear2: 0.9" in text
    assert "keep: 0.4" in text


def test_what_cannot_be_asked_is_told() -> None:
    plain = _recipe()
    with pytest.raises(CompressitError, match="fresh weights"):
        _question(plain, "init")
    with pytest.raises(CompressitError, match="no model 'trian'"):
        _question(plain, "trian")
    with pytest.raises(CompressitError, match="no stage whose `ratios`"):
        with_shares(plain, _question(plain), {"linear1": 0.7})
    by_clock = _recipe(half={"uses": "prune.structured", "with": {"target": "latency"}})
    with pytest.raises(CompressitError, match="latency"):
        with_shares(by_clock, _question(by_clock), {"linear1": 0.7})
