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
        "data": {"uses": "tiny.data"},
        "model": {"uses": "tiny.mlp", "with": {"hidden": [4]}},
        "stages": {"fit": {"uses": "tiny.train", "with": None}},
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
                    "uses": "tiny.cut",
                    "with": {},
                    "sweep": {"with.units": [5]},
                    "repeat": 2,
                    "needs": "init",
                }
            }
        },
        {"stages": {"fit": {"uses": "tiny.train", "with": {"optimizer": {"lr": 0.1}}}}},
        {"model": {"from": "a.safetensors"}},
        {"model": {"uses": "tiny.mlp", "weights": "a.safetensors"}},
        {"model": {"uses": "tiny.mlp", "weights": {"file": "a.safetensors", "fresh": ["fc.*"]}}},
        {
            "evaluate": ["tiny.odd", {"uses": "tiny.odd", "with": {"fault": "log"}}],
            "report": ["tiny.report"],
            "observe": ["tiny.observer", {"uses": "tiny.observer", "with": {"file": "a.txt"}}],
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
        {"data": {"uses": "tiny.dat"}},
        {"data": {"uses": "tiny.mlp"}},
        {"stages": {"fit": {"uses": "tiny.train", "with": {"epoch": 1}}}},
        {"stages": {"fit": {"uses": "tiny.train", "with": {"epochs": 0}}}},
        {"stages": {"fit": {"uses": "tiny.train", "with": {"optimizer": {"rate": 1}}}}},
        {"stages": {"fit": {"uses": "tiny.train", "feed": "last"}}},
        {"model": {"uses": "tiny.mlp", "from": "a.safetensors"}},
        {"model": {"uses": "tiny.mlp", "weights": "a.pth"}},
        {"model": {"uses": "tiny.mlp", "weights": {"file": "a.pth"}}},
        {"model": {"uses": "tiny.mlp", "weights": {"file": "a.safetensors", "fresh": "fc"}}},
        {"model": {"uses": "tiny.mlp", "weights": {"files": "a.safetensors"}}},
        {"evaluate": ["tiny.od"]},
        {"variants": {"a": {"seeds": [1]}}},
        {"profiles": {"quick": {"name": "x"}}},
    ],
)
def test_it_refuses_mistakes(schema: dict[str, Any], changes: dict[str, Any]):
    assert not Draft202012Validator(schema).is_valid(recipe(**changes))


def test_every_plugin_can_be_completed_with_its_description(schema: dict[str, Any]):
    stages = {block["title"]: block for block in schema["$defs"]["stage"]["oneOf"]}
    assert sorted(stages) == ["tiny.cut", "tiny.prune", "tiny.shrink", "tiny.train"]
    assert stages["tiny.train"]["properties"]["uses"]["const"] == "tiny.train"
    options = stages["tiny.prune"]["properties"]["with"]["anyOf"][0]
    assert options["properties"]["sparsity"]["description"] == "fraction of the weights set to zero"
