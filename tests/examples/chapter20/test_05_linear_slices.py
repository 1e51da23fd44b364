"""examples/chapter20/05_linear_slices.yaml: the loss falls on the way to a solution, and rises between two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_the_way_to_a_solution_falls_and_that_between_two_has_a_bump(quick: Quick) -> None:
    rows = quick(
        "chapter20/05_linear_slices", "data.with.train=400", "seeds=[0]",
        "stages.train.with.batch_size=16", "stages.again.with.batch_size=16",
        swaps={"data.mnist": "data.synthetic", "limit: 10000": "noise: 0.3"},
    )  # fmt: skip
    found = {row.stage: row for row in rows}
    way = found["init"].curves["way_slice_loss"]
    assert (way[0][0], way[-1][0]) == (-0.5, 1.5)
    falls = [loss for share, loss in way if -1e-9 <= share <= 1 + 1e-9]
    assert falls[0] > 2 > 0.1 > falls[-1], "from the first weights to the trained ones"
    assert found["init"].metrics["way_slice_rise"] < 0.01
    line = [loss for _, loss in found["train"].curves["barrier_loss"]]
    ends = (line[0] + line[-1]) / 2
    assert found["train"].metrics["barrier_ratio"] == pytest.approx(max(line) / ends)
    assert found["train"].metrics["barrier_ratio"] > 5
    assert "barrier" not in found["again"].metrics
