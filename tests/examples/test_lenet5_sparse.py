"""examples/lenet5_sparse.yaml: how many weights are left, and that they know something."""

from __future__ import annotations

from conftest import Quick

WEIGHTS, BIASES = 20 * 25 + 50 * 20 * 25 + 800 * 500 + 500 * 10, 20 + 50 + 500 + 10


def test_one_weight_of_two_hundred_is_left_and_the_net_still_tells_digits(quick: Quick) -> None:
    rows = {row.stage: row.metrics for row in quick("lenet5_sparse")}
    assert rows["train"]["nonzero"] == WEIGHTS + BIASES == 431_080
    assert rows["half_percent"]["nonzero"] - BIASES == WEIGHTS - round(0.995 * WEIGHTS)
    assert rows["all_counted"]["nonzero"] <= 431_080 / 200
    for stage in ("train", "half_percent"):
        assert rows[stage]["test_accuracy"] > 0.3, stage
