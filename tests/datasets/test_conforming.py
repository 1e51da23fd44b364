from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from compressit.datasets.conforming import conformed, inferred
from compressit.datasets.sources import Sources
from compressit.datasets.specs import Inputs, TensorSpec
from compressit.errors import CompressitError

PIXELS = TensorSpec((1,))
ANY = TensorSpec((1,), low=None, high=None)
TOKENS = TensorSpec((1,), "int64", 3, 9)


def _sources(x: Any) -> Sources:
    return Sources((x, torch.zeros(3, dtype=torch.int64)))


def _column(*values: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(values).to(dtype).view(-1, 1)


@pytest.mark.parametrize(
    ("inputs", "x", "fault"),
    [
        (PIXELS, _column(0, 0.5, 255), r"training inputs go from 0 to 255, not 0\.\.1"),
        (PIXELS, _column(0, 0.5, float("nan")), "NaN or infinity is 1 of their 3 values"),
        (PIXELS, _column(2, 2, 2, dtype=torch.float8_e4m3fn), "go from 2 to 2"),
        (PIXELS, _column(1, 1, 1, dtype=torch.int64), r"are torch\.int64, not float32"),
        (ANY, _column(0, 0, float("inf")), "NaN or infinity is 1 of"),
        (TensorSpec((1,), low=0.0, high=None), _column(-2, 0, 7), r"go from -2 to 7, not 0\.\."),
        (TOKENS, _column(3, 4, 12, dtype=torch.int32), r"go from 3 to 12, not 3\.\.9"),
        (TOKENS, _column(0, 4, 9, dtype=torch.uint8), r"go from 0 to 9, not 3\.\.9"),
        (TOKENS, _column(3, 4, 5), r"are torch\.float32, not int64"),
        (TensorSpec((1,), "bool"), _column(0, 1, 1, dtype=torch.int64), r"are torch\.int64, not bool"),
        (TensorSpec((2,)), _column(0, 1, 1), r"inputs \(1,\), but declares \(2,\)"),
        (
            (PIXELS, TOKENS),
            (_column(0, 1, 1), _column(3, 4, 10, dtype=torch.int64)),
            r"'input_1' go from 3 to 10",
        ),
        ({"a": PIXELS}, {"b": _column(0, 1, 1)}, r"inputs \{'b': \(1,\)\}, but declares \{'a': \(1,\)\}"),
        ({"a": PIXELS}, (_column(0, 1, 1),), "but declares"),
        (PIXELS, {"a": _column(0, 1, 1)}, "but declares"),
    ],
)
def test_what_differs_from_the_declaration_is_refused_with_its_values(
    inputs: Inputs, x: Any, fault: str
) -> None:
    with pytest.raises(CompressitError, match=fault):
        conformed(_sources(x), inputs, "it")


def test_bytes_are_pixels_and_whole_numbers_of_any_type_are_int64() -> None:
    pixels = _column(0, 7, 255, dtype=torch.uint8)
    assert conformed(_sources(pixels), PIXELS, "it").train[0].dtype == torch.uint8
    found = conformed(_sources(_column(3, 7, 9, dtype=torch.int16)), TOKENS, "it").train[0]
    assert (found.dtype, found.flatten().tolist()) == (torch.int64, [3, 7, 9])
    assert conformed(_sources(_column(-1e9, 0, 1e9)), ANY, "it").train[0].dtype == torch.float32


def test_named_tensors_come_in_the_order_of_their_names() -> None:
    x = {"b": _column(0, 1, 1), "a": _column(3, 4, 9, dtype=torch.int64)}
    found = conformed(_sources(x), {"a": TOKENS, "b": PIXELS}, "it").train[0]
    assert [(name, tensor.dtype) for name, tensor in found.items()] == [
        ("a", torch.int64),
        ("b", torch.float32),
    ]


def test_what_is_not_declared_is_inferred_from_all_splits() -> None:
    y = torch.zeros(3, dtype=torch.int64)
    train = {
        "ids": _column(3, 4, 9, dtype=torch.int64),
        "image": torch.rand(3, 2, 2),
        "mask": torch.ones(3) > 0,
    }
    test = {**train, "ids": _column(1, 4, 11, dtype=torch.int64)}
    assert inferred(Sources((train, y), (test, y))) == {
        "ids": TensorSpec((1,), "int64", 1, 11), "image": TensorSpec((2, 2)), "mask": TensorSpec((), "bool"),
    }  # fmt: skip
    assert inferred(Sources((torch.rand(3, 2), y))) == TensorSpec((2,))


@pytest.mark.parametrize(
    ("x", "hint"),
    [
        (_column(0, 0.5, 255), "`ranges`"),  # what users of data.tensors have, who write no TensorSpec
        (_column(0, 0.5, float("nan")), "replace the values"),  # no range holds it
        (_column(1, 1, 1, dtype=torch.int64), "tensors of this type"),
    ],
)
def test_each_fault_has_advice_of_its_own(x: Tensor, hint: str) -> None:
    with pytest.raises(CompressitError) as caught:
        conformed(_sources(x), PIXELS, "it")
    assert hint in str(caught.value.hint)
