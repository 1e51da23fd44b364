"""examples/chapter20/07_connected_minima.yaml: curves join two solutions below the barrier of the line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Quick


def test_both_curves_stay_below_the_line_between_the_same_ends(quick: Quick) -> None:
    rows = quick(
        "chapter20/07_connected_minima", "data.with.train=400",
        "stages.train.with.batch_size=16", "stages.again.with.batch_size=16", "stages.curve.with.batch_size=32",
        swaps={"data.mnist": "data.synthetic", "limit: 10000": "noise: 0.3", "points: 25": "points: 4"},
    )  # fmt: skip
    found = {row.member or row.stage: row for row in rows}
    line = found["train"].curves["barrier_loss"]
    worst = max(loss for _, loss in line)
    for kind in ("kind=bezier", "kind=polygon"):
        curve = found[kind].curves["curve_loss"]
        assert [share for share, _ in curve] == [share for share, _ in line]
        assert len(curve) == 61
        assert found[kind].notes["curve_highest_loss"] == max(loss for _, loss in curve) < worst / 2
        for end in (0, -1):
            assert abs(curve[end][1] - line[end][1]) < 0.05, "other examples, the same nets"
        assert found[kind].metrics["test_accuracy"] > 0.9
    assert "plane_slice" in found["train"].pictures
