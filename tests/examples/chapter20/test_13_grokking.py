"""examples/chapter20/13_grokking.yaml: training and test accuracy, side by side, from large and usual weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_both_accuracies_are_logged_at_the_same_steps_and_large_weights_know_less_anew(quick: Quick) -> None:
    rows = quick(
        "chapter20/13_grokking", "data.uses=data.synthetic", "data.with.noise=1.0", "data.with.limit=100",
        "data.with.train=100", "stages.train.with.steps=200",
    )  # fmt: skip
    found = {row.variant: row for row in rows if row.stage == "train"}
    for row in found.values():
        train, test = row.curves["train_accuracy"], row.curves["test_accuracy"]
        assert [step for step, _ in train] == [step for step, _ in test]
        assert train[-1] == (200, pytest.approx(row.metrics["train_accuracy"]))
        assert test[-1] == (200, pytest.approx(row.metrics["test_accuracy"]))
    usual, large = (found[name].metrics for name in ("usual", "large"))
    assert usual["train_accuracy"] > 0.95
    assert large["test_accuracy"] < usual["test_accuracy"] - 0.1
