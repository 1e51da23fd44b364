"""examples/chapter20/15_lottery_ticket.yaml: tickets and nets pruned by chance, round by round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_each_round_takes_a_share_of_what_is_left_of_every_layer(quick: Quick) -> None:
    rows = quick(
        "chapter20/15_lottery_ticket", "data.uses=data.synthetic", "data.with.shape=[1, 40]", "data.with.train=100",
        "stages.train.with.steps=20", "stages.ticket.repeat=3", "stages.chance.repeat=3",
        "stages.ticket.with.finetune.steps=20", "stages.chance.with.finetune.steps=20",
    )  # fmt: skip
    found = {(row.stage, row.round): row.metrics for row in rows}
    weights, biases = 40 * 500 + 500 * 500 + 500 * 10, 1010
    assert found["train", None]["parameters"] == weights + biases
    for stage in ("ticket", "chance"):
        for number in (1, 2, 3):
            zeros = found[stage, number]["sparsity"] * (weights + biases)
            assert zeros == pytest.approx(weights * (1 - 0.8866**number), rel=1e-3)
    assert pytest.approx(0.09, abs=1e-4) == 0.8866**20
    assert found["ticket", 3]["test_accuracy"] > 0.9
