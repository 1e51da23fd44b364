"""examples/lottery_ticket.yaml: tickets are sparser round by round, and better than chance."""

from __future__ import annotations

import pytest
from conftest import Quick


def test_a_ticket_reaches_what_weights_chosen_by_chance_do_not(quick: Quick) -> None:
    rounds = [f"stages.{stage}.repeat=5" for stage in ("ticket", "chance", "trained")]
    rows = {(row.stage, row.round): row.metrics for row in quick("lottery_ticket", *rounds)}
    dense = rows["train", None]
    for stage in ("ticket", "chance", "trained"):
        left = [rows[stage, number]["nonzero"] / dense["parameters"] for number in range(1, 6)]
        assert left == pytest.approx([0.65**number for number in range(1, 6)], abs=0.01), stage
    assert rows["ticket", 5]["test_accuracy"] > rows["chance", 5]["test_accuracy"] + 0.1
    assert rows["ticket", 2]["test_accuracy"] > dense["test_accuracy"] - 0.05
