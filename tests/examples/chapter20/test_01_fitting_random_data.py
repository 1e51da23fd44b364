"""examples/chapter20/01_fitting_random_data.yaml: all is fitted, and only true data are known anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_what_is_fitted_without_structure_says_nothing_of_new_examples(quick: Quick) -> None:
    rows = quick(
        "chapter20/01_fitting_random_data", "data.with.train=150", "data.with.test=500", "seeds=[0]",
        swaps={"data.mnist1d": "data.synthetic"},
    )  # fmt: skip
    found = {row.variant: row for row in rows if row.stage == "train"}
    assert found.keys() == {"given", "pixels", "labels"}
    assert all(row.metrics["train_accuracy"] == 1 for row in found.values())
    assert found["given"].metrics["test_accuracy"] > 0.9
    for noise in ("pixels", "labels"):
        assert found[noise].metrics["test_accuracy"] < 0.3, noise

    def steps(variant: str) -> float:
        return next(step for step, loss in found[variant].curves["loss"] if loss <= 0.5)

    assert steps("given") < steps("labels")
    assert found["given"].metrics["parameters"] == pytest.approx(
        64 * 300 + 3 * 300 * 300 + 300 * 10 + 4 * 300 + 10
    )
