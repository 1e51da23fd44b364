"""Whatever stands in a file: a Recipe or a CompressitError, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compressit.errors import CompressitError, RecipeError
from compressit.host.plugins import Host
from compressit.recipe.load import load_recipe, parse_recipe

from .samples import BASE

KEYS = (
    *("version", "name", "data", "model", "stages", "evaluate", "report", "seeds", "compute", "plugins"),
    *("variants", "profiles"),
)
BELOW = (
    *("uses", "with", "needs", "repeat", "feed", "sweep", "from", "weights", "fit", "cut", "q"),
    "with.sparsity",
)
OPTIONS = ("sparsity", "epochs", "others", "rewind", "optimizer", "hidden", "labels", "threads")
PLUGINS = ("tiny.data", "tiny.mlp", "tiny.train", "tiny.prune", "tiny.shrink", "tiny.odd", "tiny.report")
MODELS = ("init", "previous", "original", "x.safetensors", ".")
WORDS = st.sampled_from((*KEYS, *BELOW, *OPTIONS, *PLUGINS, *MODELS))
LEAVES = WORDS | st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
BLOCK = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, TREES))
GOOD = {
    "version": 1,
    "name": "x",
    "data": {"uses": "tiny.data"},
    "model": {"uses": "tiny.mlp"},
    "stages": {"fit": {"uses": "tiny.train"}, "cut": {"uses": "tiny.prune", "with": {"sparsity": 0.5}}},
    "profiles": {"q": {}},
}


def survives(host: Host, text: str, **options: object) -> None:
    try:
        recipe = parse_recipe(text, "r.yaml", host, **options)  # type: ignore[arg-type]
    except CompressitError:
        return
    assert recipe.variants
    assert all(variant.stages for variant in recipe.variants)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(block=BLOCK, path=st.lists(WORDS, min_size=1, max_size=4), value=TREES)
def test_any_tree_is_a_recipe_or_a_recipe_error(host: Host, block: dict, path: list[str], value: object):
    setting = ".".join(path) + "=" + json.dumps(value)
    survives(host, json.dumps(GOOD | block), settings=[setting])
    survives(host, json.dumps({**GOOD, "profiles": {"q": block}}), profile="q")
    survives(host, json.dumps({**GOOD, "variants": {"a": block, "b": None}}))


@settings(deadline=None)
@given(
    text=st.text() | st.text(alphabet="ab:-[]{}&*!|>'\"%@`#?,. \n\t\\ux01~<", max_size=40), setting=st.text()
)
def test_any_text_is_a_recipe_or_a_recipe_error(host: Host, text: str, setting: str):
    survives(host, text)
    survives(host, BASE + text, settings=[setting, f"name={text}"])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary())
def test_any_bytes_are_a_recipe_or_a_recipe_error(host: Host, tmp_path: Path, content: bytes):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError):
        load_recipe(path, host=host)
