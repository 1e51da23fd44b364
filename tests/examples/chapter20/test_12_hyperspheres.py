"""examples/chapter20/12_hyperspheres.yaml: each net ends on the sphere that it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_each_net_lies_on_its_sphere_and_larger_weights_give_larger_logits(quick: Quick) -> None:
    rows = quick(
        "chapter20/12_hyperspheres",
        "data.uses=data.synthetic",
        "data.with.limit=500",
        "data.with.train=500",
        "stages.plane.with.epochs=5",
        "stages.sphere.with.epochs=5",
        "model.with.hidden=[20]",
    )
    spheres = {row.member: row for row in rows if row.stage == "sphere"}
    unit = (2 * 64 * 20 / 84 + 2 * 20 * 10 / 30) ** 0.5
    for dimension in (10, 50, 200):
        scales = []
        for radius in ("0.1", "0.3", "1", "3", "10"):
            notes = spheres[f"dimension={dimension},radius={radius}"].notes
            assert notes["radius"] == pytest.approx(float(radius) * unit)
            scales.append(notes["output_scale"])
        assert scales == sorted(scales)
    planes = {row.member: row.metrics["test_accuracy"] for row in rows if row.stage == "plane"}
    assert planes["dimension=10"] < planes["dimension=200"]
