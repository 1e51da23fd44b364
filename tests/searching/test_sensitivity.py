from __future__ import annotations

from math import nan

import pytest

from compressit.contract.records import Metric
from compressit.searching.sensitivity import Sensitivities

FOUND = Sensitivities(
    "accuracy",
    Metric("higher", "fraction"),
    (0.0, 0.25, 0.5, 0.75),
    {"vital": [0.9, 0.8, 0.5, 0.1], "spare": [0.9, 0.9, 0.9, 0.9], "wild": [0.9, 0.9, nan, 0.9]},
    "picture.png",
)


def test_what_a_layer_bears_lies_on_the_line_between_two_measurements() -> None:
    assert FOUND.bearable(0.25) == pytest.approx({"vital": 0.375, "spare": 0.75, "wild": 0.25})
    assert FOUND.bearable(0.0)["vital"] == 0
    worse = Sensitivities("loss", Metric("lower", "nats"), (0.0, 0.5), {"one": [1.0, 3.0]}, "")
    assert worse.bearable(0.5) == {"one": 0.125}
    assert FOUND.ordered()[-1] == "spare"
