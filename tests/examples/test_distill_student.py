"""examples/distill_student.yaml: a student with a teacher, and the very same without."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Bench

import compressit
from compressit.host.plugins import installed

RECIPE = Path(__file__).parent.parent.parent / "examples" / "distill_student.yaml"


def test_the_full_student_has_at_most_35_000_parameters() -> None:
    recipe = compressit.load_recipe(RECIPE, host=installed())
    chosen = recipe.variants[0].stages[-1].use.config["student"]
    net = installed().create(compressit.Model, chosen["uses"], chosen["with"])
    built = net.build(compressit.TensorSpec((1, 28, 28)), 10)
    assert sum(p.numel() for p in built.parameters()) == 31_810
    assert len(recipe.seeds) == 5


def test_a_teacher_that_stopped_in_time_is_worth_more_than_wrong_labels(bench: Bench, tmp_path: Path) -> None:
    recipe = compressit.load_recipe(RECIPE, host=installed(), profile="quick")
    run = compressit.run(recipe, out=tmp_path / "run", store=tmp_path / "store")
    rows = {(row["variant"], row["stage"]): row for row in run.metrics}
    taught, alone = rows["taught", "student"], rows["alone", "student"]
    assert taught["test_accuracy"] > alone["test_accuracy"] + 0.01
    assert taught["parameters"] == alone["parameters"] == 64 * 40 + 40 + 40 * 10 + 10
    first = [rows[variant, "train"]["test_accuracy"] for variant in ("taught", "alone")]
    assert first[0] == pytest.approx(first[1], abs=0), "one teacher for both"
