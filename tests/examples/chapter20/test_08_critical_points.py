"""examples/chapter20/08_critical_points.yaml: index and loss of a small net's critical points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from conftest import Quick


def test_accepted_and_rejected_points_are_all_told(quick: Quick) -> None:
    (row,) = quick(
        "chapter20/08_critical_points",
        "data.uses=data.synthetic",
        "data.with.shape=[4]",
        "data.with.limit=60",
        "model.with.hidden=[2]",
        swaps={
            "size: 5, ": "",
            "size: 10, ": "",
            "attempts: 110": "attempts: 6",
            "descent: 2000": "descent: 200",
        },
    )
    assert row.stage == "init"
    found = row.metrics
    assert found["critical_accepted"] + found["critical_rejected"] == 6
    assert found["critical_accepted"] >= 2
    losses, indices = np.array(row.curves["critical_index"]).T
    assert len(losses) == found["critical_accepted"]
    assert indices[0] < indices[-1]
