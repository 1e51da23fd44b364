"""examples/chapter20/04_initialisation.yaml: the same net from multiples of He's initialisation."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_larger_weights_begin_with_larger_errors_and_are_fitted_later(quick: Quick) -> None:
    rows = quick(
        "chapter20/04_initialisation",
        "data.uses=data.synthetic",
        "data.with.limit=100",
        "data.with.train=100",
        "stages.train.with.steps=150",
    )
    trained = [row for row in rows if row.stage == "train"]
    assert [row.variant for row in trained] == ["scale=1", "scale=2", "scale=4", "scale=8"]
    first = [row.curves["loss"][0][1] for row in trained]
    assert all(later > 10 * before for before, later in pairwise(first[1:])), first

    def fitted(row: Any) -> float:
        return next((step for step, right in row.curves["accuracy"] if right >= 0.99), float("inf"))

    assert fitted(trained[0]) < fitted(trained[2]) <= fitted(trained[3])
    assert trained[0].metrics["train_accuracy"] == pytest.approx(1)
