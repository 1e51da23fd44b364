"""examples/chapter20/02_depth.yaml: nets of one to four hidden layers with as many parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_the_nets_have_as_many_parameters_as_the_errata_say(quick: Quick) -> None:
    rows = quick(
        "chapter20/02_depth", "data.with.shape=[1, 40]", "data.with.limit=100", "data.with.train=100",
        "stages.train.with.steps=400", "seeds=[0]", swaps={"data.mnist1d": "data.synthetic"},
    )  # fmt: skip
    trained = [row for row in rows if row.stage == "train"]
    assert [row.metrics["parameters"] for row in trained] == [15208, 15210, 15235, 15319]
    for row in trained:
        assert row.notes["images_seen"] == 400 * 100, "each step sees every example"
        assert row.curves["accuracy"][0][1] < 0.5 < row.metrics["train_accuracy"]
    assert trained[3].metrics["train_accuracy"] == pytest.approx(1, abs=0.02)
