"""examples/chapter20/06_intrinsic_dimension.yaml: learning in subspaces, and both readings of a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Quick


def test_more_dimensions_learn_more_and_a_trained_nets_own_score_is_the_lower_threshold(quick: Quick) -> None:
    rows = quick(
        "chapter20/06_intrinsic_dimension",
        "data.uses=data.synthetic",
        "data.with.train=1000",
        "data.with.noise=0.3",
        "stages.direct.with.epochs=15",
        "model.with.hidden=[40]",
        swaps={
            "dimensions: [10, 50, 200, 750, 1500]": "dimensions: [2, 50, 400]",
            "optimizer: {name: adam, lr: 0.03}": "optimizer: {name: adam, lr: 0.2}",
        },
    )
    (direct,) = (row for row in rows if row.stage == "direct")
    curve = direct.curves["subspace_score"]
    assert [dimension for dimension, _ in curve] == [2, 50, 400]
    assert curve[0][1] + 0.1 < curve[1][1] < curve[2][1]
    found = direct.metrics
    assert 2 < found["intrinsic_dimension_relative"] <= 400
    assert found["test_accuracy"] * 0.9 <= 0.9, "so the share is the lower threshold"
    assert found["intrinsic_dimension_relative"] <= found.get("intrinsic_dimension", 400)
