"""Base → profile → variant → --set: what merges, replaces, deletes, and that places travel along."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressit.errors import Mark, Problem
from compressit.recipe.merge import merge, put
from compressit.recipe.settings import apply_setting, parse_setting
from compressit.recipe.yamlfile import Node, parse_yaml


def tree(text: str, source: str = "r.yaml") -> Node:
    return parse_yaml(text, source, [])


def setting(root: Node, text: str, **names: set[str]) -> tuple[Any, list[str]]:
    problems: list[Problem] = []
    parsed = parse_setting(text, problems)
    (result,) = apply_setting([root], parsed, names, problems) if parsed else [root]
    return result.plain(), [p.message for p in problems]


USES = "{s: {uses: x.y, with: {a: 1}, needs: t}}"


@pytest.mark.parametrize(
    ("base", "over", "result"),
    [
        ("{a: {b: 1, c: 2}}", "{a: {c: 3, d: 4}}", {"a": {"b": 1, "c": 3, "d": 4}}),
        ("{a: [1, 2, 3]}", "{a: [4]}", {"a": [4]}),
        ("{a: {b: 1, c: 2}}", "{a: {b: null}}", {"a": {"c": 2}}),
        (USES, "{s: {uses: x.z}}", {"s": {"uses": "x.z", "needs": "t"}}),
        (USES, "{s: {uses: x.z, with: {b: 2}}}", {"s": {"uses": "x.z", "with": {"b": 2}, "needs": "t"}}),
        (USES, "{s: {uses: x.y, with: {b: 2}}}", {"s": {"uses": "x.y", "with": {"a": 1, "b": 2}, "needs": "t"}}),
        ("{m: {uses: x.y, with: {a: 1}, weights: w}}", "{m: {from: f}}", {"m": {"from": "f"}}),
        ("{m: {from: f}}", "{m: {uses: x.y}}", {"m": {"uses": "x.y"}}),
    ],
)  # fmt: skip
def test_merging(base: str, over: str, result: Any):
    assert merge(tree(base), tree(over)).plain() == result


def test_places_travel_with_the_values():
    merged = merge(tree("a: {b: 1,\n  c: 2}"), tree("\n\na: {c: 3}", "p.yaml"))
    assert str(merged.at("a").at("b").mark) == "r.yaml:1:8"
    assert str(merged.at("a").at("c").mark) == "p.yaml:3:8"
    assert str(merged.at("a").keys["c"]) == "p.yaml:3:5"


INTEGERS = st.integers(-(2**63), 2**63 - 1)
MAPPINGS = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.none() | INTEGERS | st.lists(INTEGERS, max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.none() | INTEGERS),
    max_leaves=8,
)


@given(MAPPINGS, MAPPINGS)
def test_merging_is_json_merge_patch(base: dict[str, Any], over: dict[str, Any]):
    merged = merge(tree(json.dumps(base)), tree(json.dumps(over)))
    assert merged.plain() == _rfc7386(base, over)
    assert set(merged.keys) == set(merged.mapping)


def _rfc7386(target: Any, patch: Any) -> Any:
    """The pseudocode of RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _rfc7386(result.get(name), value)
    return result


def test_put_keeps_a_null_and_makes_the_way():
    root = put(tree("a: {b: 1}"), ["a", "c", "d"], Node(None, Mark("x")))
    assert root.plain() == {"a": {"b": 1, "c": {"d": None}}}


ROOT = "stages: {fit: {uses: t.a, with: {epochs: 1, lr: 2}}}\nseeds: [0]\nname: x"


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("stages.fit.with.epochs=5", ("stages", "fit", "with", "epochs"), 5),
        ("stages.fit.with.lr=1e-3", ("stages", "fit", "with", "lr"), 0.001),
        ("seeds=[0, 1]", ("seeds",), [0, 1]),
        ("name=a=b", ("name",), "a=b"),
        ("compute.threads=2", ("compute", "threads"), 2),
        ("stages.fit.with.optimizer={name: adam}", ("stages", "fit", "with", "optimizer"), {"name": "adam"}),
        ("stages.fit.sweep.with.lr=[1, 2]", ("stages", "fit", "sweep", "with.lr"), [1, 2]),
        ("variants.a.stages.x.sweep.with.lr=[1]", ("variants", "a", "stages", "x", "sweep", "with.lr"), [1]),
        ("data.with.each.lr=1", ("data", "with", "each", "lr"), 1),
    ],
)
def test_a_setting_reaches_its_place(text: str, path: tuple[str, ...], value: Any):
    problems: list[Problem] = []
    parsed = parse_setting(text, problems)
    assert parsed is not None
    (node,) = apply_setting([tree(ROOT)], parsed, {"stages": {"fit"}}, problems)
    for part in path:
        node = node.at(part)
    assert (node.plain(), node.mark, problems) == (value, Mark(f"--set {text}"), [])


def test_a_setting_follows_the_rules_of_merging():
    assert setting(tree(ROOT), "stages.fit.with.epochs=null")[0]["stages"]["fit"]["with"] == {"lr": 2}
    assert setting(tree(ROOT), "stages.fit.uses=t.b")[0]["stages"]["fit"] == {"uses": "t.b"}
    assert setting(tree(ROOT), "stages.fit=null")[0]["stages"] == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "must look like path=value"),
        ("=5", "must look like path=value"),
        ("a..b=5", "must look like path=value"),
        ("stages.fti.with.epochs=5", "there is no 'fti' in stages"),
        ("seeds.0=5", "seeds is a list: set the whole list"),
        ("name.first=5", "name is a single value"),
        ("seeds=[1", "invalid YAML: expected ',' or ']', but got '<stream end>'"),
        ("name=", "has no value"),
        ("stages.fit={with: }", "has no value"),
        ("name=!!python/object x", "the tag !!python/object is not allowed"),
    ],
)
def test_a_bad_setting_is_a_problem(text: str, message: str):
    assert setting(tree(ROOT), text, stages={"fit"})[1] == [message]


def test_a_setting_for_a_stage_of_another_variant_changes_nothing():
    assert setting(tree(ROOT), "stages.other.repeat=2", stages={"fit", "other"}) == (tree(ROOT).plain(), [])
