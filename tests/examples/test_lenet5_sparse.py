"""examples/lenet5_sparse.yaml: how many weights are left, and that they know something."""

from __future__ import annotations

import pytest
from conftest import Quick

WEIGHTS, BIASES = 20 * 25 + 50 * 20 * 25 + 800 * 500 + 500 * 10, 20 + 50 + 500 + 10


def test_few_weights_are_left_and_the_net_still_tells_digits(quick: Quick) -> None:
    rows = {row.stage: row.metrics for row in quick("lenet5_sparse")}
    assert rows["train"]["nonzero"] == WEIGHTS + BIASES == 431_080
    for stage in ("fade", "sparse"):
        assert WEIGHTS / (rows[stage]["nonzero"] - BIASES) == pytest.approx(280, abs=0.2)
        assert rows[stage]["nonzero"] <= 431_080 / 200
    assert rows["sparse"]["test_accuracy"] > 0.3
