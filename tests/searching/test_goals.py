"""What a recipe cannot be searched for is said before anything runs."""

from __future__ import annotations

import sys

import pytest

from compressit.errors import CompressitError

from .known import KNOWN, Desk


@pytest.mark.extra("search")
@pytest.mark.parametrize(
    ("text", "asked", "told"),
    [
        (KNOWN.replace(", with: {validation: 0.2}", ""), {}, "the data has none"),
        (KNOWN, {"minimize": "macs"}, "no evaluator of the recipe gives 'macs'"),
        (KNOWN, {"minimize": "share"}, "'share' is no cost"),
        (KNOWN, {"metric": "test_accuracy"}, "not measured on the validation split"),
        (KNOWN, {"max_drop": -0.1}, "max_drop is -0.1"),
        (KNOWN.replace("  cut: {uses: known.cut}\n", ""), {}, "no variant compresses anything"),
        (
            KNOWN.replace("uses: known.cut", "uses: tiny.cut, with: {units: 3}"),
            {},
            "no plugin of its stages marks",
        ),
        (
            KNOWN.replace("known.cut}", "tiny.shrink, with: {teacher: fill@variant=b}}")
            + "variants: {a: {}, b: {stages: {cut: null}}}\n",
            {},
            "a model of another variant",
        ),
    ],
)
def test_a_mistake_is_told(desk: Desk, text: str, asked: dict, told: str) -> None:
    with pytest.raises(CompressitError, match=told):
        desk.search(desk.recipe(text=text), **asked)
    assert desk.bench.ran == []


def test_without_optuna_the_line_that_installs_it_is_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(CompressitError) as caught:
        desk.search(desk.recipe())
    assert "pip install 'compressit[search]'" in str(caught.value)
