"""examples/prune_then_distill.yaml: five strategies of one cost and as many images, compared."""

from __future__ import annotations

from conftest import Quick

LAST = {"both": "recover", "twice": "recover", "prune": "recover", "distill": "student", "smaller": "student"}


def test_all_strategies_cost_an_eighth_and_see_as_many_images(quick: Quick) -> None:
    rows = quick("prune_then_distill")
    dense = next(row for row in rows if row.stage == "train").metrics
    for variant, stage in LAST.items():
        last = next(row for row in rows if (row.variant, row.stage) == (variant, stage)).metrics
        assert last["macs"] <= 0.14 * dense["macs"], variant
        assert last["test_accuracy"] > 0.2, variant
        trained = [
            row.notes.get("images_seen", 0) for row in rows if row.variant == variant and row.stage != "train"
        ]
        assert sum(trained) == 12 * 540, variant
