"""examples/chapter20/10_batch_and_learning_rate.yaml: a grid of batch sizes and rates, as many epochs for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_every_net_of_the_grid_sees_its_data_as_often(quick: Quick) -> None:
    rows = quick(
        "chapter20/10_batch_and_learning_rate", "data.uses=data.synthetic", "data.with.train=200",
        "stages.train.with.epochs=3", "seeds=[0]",
        swaps={"[10, 20, 40, 80, 160]": "[10, 160]", "[0.01, 0.02, 0.04, 0.08, 0.16]": "[0.01, 0.16]"},
    )  # fmt: skip
    trained = [row for row in rows if row.stage == "train"]
    assert {(row.options["batch_size"], row.options["optimizer"]["lr"]) for row in trained} == {
        (10, 0.01), (10, 0.16), (160, 0.01), (160, 0.16),
    }  # fmt: skip
    assert {row.notes["images_seen"] for row in trained} == {600}
    best, worst = (
        next(row.metrics["train_accuracy"] for row in trained if row.member == member)
        for member in ("batch_size=10,lr=0.16", "batch_size=160,lr=0.01")
    )
    assert best > worst + 0.2
    assert best == pytest.approx(1, abs=0.1)
