"""examples/chapter20/16_distillation.yaml: a small student with a teacher, and the very same without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Quick


def test_both_students_are_the_same_net_and_one_matches_its_teachers_logits(quick: Quick) -> None:
    rows = quick(
        "chapter20/16_distillation", "data.uses=data.synthetic", "data.with.shape=[1, 28, 28]", "data.with.train=200",
        "data.with.limit=200", "stages.student.with.epochs=20", "seeds=[0]",
        "evaluate=[eval.accuracy, eval.size, eval.fidelity]",
    )  # fmt: skip
    found = {row.variant: row.metrics for row in rows if row.stage == "student"}
    assert found["taught"]["parameters"] == found["alone"]["parameters"] == 24790
    teachers = [row.metrics["test_accuracy"] for row in rows if row.stage == "train"]
    assert teachers[0] == teachers[1], "one teacher for both"
    assert found["taught"]["train_accuracy"] == pytest.approx(1, abs=0.02)
    assert found["taught"]["agreement"] >= found["alone"]["agreement"]
