"""The JSON Schema: itself valid, accepts what `check` accepts, underlines what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from compressit.host.plugins import Host
from compressit.recipe.schema import json_schema


def recipe(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "demo",
        "data": {"uses": "data.fake"},
        "model": {"uses": "model.fake", "with": {"hidden": [4]}},
        "stages": {"fit": {"uses": "train.fake", "with": None}},
        **changes,
    }


@pytest.fixture(scope="module")
def schema(host: Host) -> dict[str, Any]:
    return json_schema(host)


def test_it_is_a_valid_schema_with_or_without_plugins(schema: dict[str, Any]):
    Draft202012Validator.check_schema(schema)
    Draft202012Validator.check_schema(json_schema(Host(entry_points=False)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "stages": {
                "p": {
                    "uses": "prune.structured",
                    "with": {},
                    "sweep": {"with.sparsity": [0.5]},
                    "repeat": 2,
                    "needs": "init",
                }
            }
        },
        {"stages": {"fit": {"uses": "train.fake", "with": {"optimizer": {"lr": 0.1}}}}},
        {"model": {"from": "a.safetensors"}},
        {
            "evaluate": ["eval.fake", {"uses": "eval.fake", "with": {"batch_size": 2}}],
            "report": ["report.fake"],
        },
        {"variants": {"a": None, "b": {"data": {"with": {"limit": 3}}, "stages": {"fit": None}}}},
        {"profiles": {"quick": {"seeds": [1, 2], "stages": {"fit": {"with": {"epochs": 1}}}}}},
        {"compute": {"threads": 2, "precision": "bf16"}, "seeds": [0, 1], "description": "x"},
    ],
)
def test_it_accepts_recipes(schema: dict[str, Any], changes: dict[str, Any]):
    Draft202012Validator(schema).validate(recipe(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"bogus": 1},
        {"data": {"uses": "data.fak"}},
        {"data": {"uses": "model.fake"}},
        {"stages": {"fit": {"uses": "train.fake", "with": {"epoch": 1}}}},
        {"stages": {"fit": {"uses": "train.fake", "with": {"epochs": 0}}}},
        {"stages": {"fit": {"uses": "train.fake", "with": {"optimizer": {"rate": 1}}}}},
        {"stages": {"fit": {"uses": "train.fake", "feed": "last"}}},
        {"model": {"uses": "model.fake", "from": "a.safetensors"}},
        {"evaluate": ["eval.fak"]},
        {"variants": {"a": {"seeds": [1]}}},
        {"profiles": {"quick": {"name": "x"}}},
    ],
)
def test_it_refuses_mistakes(schema: dict[str, Any], changes: dict[str, Any]):
    assert not Draft202012Validator(schema).is_valid(recipe(**changes))


def test_every_plugin_can_be_completed_with_its_description(schema: dict[str, Any]):
    stages = {block["title"]: block for block in schema["$defs"]["stage"]["oneOf"]}
    assert sorted(stages) == ["distill.fake", "early.stop", "prune.structured", "train.fake"]
    assert stages["train.fake"]["properties"]["uses"]["const"] == "train.fake"
    options = stages["prune.structured"]["properties"]["with"]["anyOf"][0]
    assert options["properties"]["sparsity"]["description"] == "fraction of channels to remove"
