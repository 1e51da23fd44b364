from __future__ import annotations

import json
from typing import Any

import pytest

from compressit.datasets.specs import Inputs, TensorSpec, as_inputs, from_json, in_words, to_json, within
from compressit.errors import CompressitError

IDS = TensorSpec((16,), "int64", 0, 99)


@pytest.mark.parametrize(
    "inputs", [TensorSpec((1, 8, 8)), IDS, (IDS, IDS), {"shape": IDS, "x": TensorSpec(())}]
)
def test_they_survive_json(inputs: Inputs) -> None:
    assert from_json(json.loads(json.dumps(to_json(inputs)))) == inputs


def test_a_shape_is_short_for_pixels_and_names_are_sorted() -> None:
    assert as_inputs([1, 2]) == TensorSpec((1, 2), "float32", 0.0, 1.0)
    assert list(as_inputs({"b": IDS, "a": IDS})) == ["a", "b"]


@pytest.mark.parametrize(
    "given", [3, "image", {}, (1, 2.5), {"a": 3}, {"not a name": IDS}, {"class": IDS}, (IDS, (3,)), None]
)
def test_anything_else_is_refused(given: Any) -> None:
    with pytest.raises(CompressitError, match=r"inputs are|is named"):
        as_inputs(given)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (((1, -2),), r"the shape is \(1, -2\)"),
        ((3,), "the shape is 3"),
        (((1,), "int32"), "the dtype is 'int32'"),
        (((1,), "float32", 2.0, 1.0), r"low is 2\.0 and high 1\.0"),
        (((1,), "float32", float("nan"), 1.0), "low is nan"),
    ],
)
def test_a_spec_is_checked_where_it_is_written(arguments: Any, fault: str) -> None:
    with pytest.raises(CompressitError, match=fault):
        TensorSpec(*arguments)


def test_a_model_takes_data_within_its_ranges() -> None:
    few, signed = TensorSpec((16,), "int64", 5, 50), TensorSpec((16,), "int64", -1, 50)
    assert within(few, IDS)
    assert not within(IDS, few)
    assert not within(signed, IDS)
    assert within(signed, TensorSpec((16,), "int64", None, None))
    assert not within(TensorSpec((16,), "int64", None, None), IDS)
    assert not within((IDS,), IDS)
    assert not within({"a": IDS}, {"b": IDS})
    assert not within(TensorSpec((4, 4), "int64", 0, 99), IDS)


def test_in_words() -> None:
    assert in_words(TensorSpec((1, 8, 8))) == "(1, 8, 8)"
    assert in_words({"ids": IDS, "v": TensorSpec((3,), low=None, high=None)}) == (
        "ids (16,) int64 in 0..99 and v (3,) in any range"
    )
