"""examples/chapter20/14_adversarial.yaml: both nets are attacked, with pictures, and every check finds its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import compressit
from compressit.contract.results import Results
from compressit.host.plugins import installed

if TYPE_CHECKING:
    from conftest import Quick

RECIPE = Path(__file__).parents[3] / "examples" / "chapter20" / "14_adversarial.yaml"


def test_both_nets_are_attacked_and_every_check_finds_its_numbers(quick: Quick, tmp_path: Path) -> None:
    rows = quick(
        "chapter20/14_adversarial", "data.with.shape=[1, 28, 28]", "data.with.train=200", "data.with.test=30",
        "data.with.noise=0.1", "stages.train.with.epochs=8", "stages.train.with.batch_size=32",
        swaps={"data.mnist": "data.synthetic"},
    )  # fmt: skip
    trained = {row.variant: row for row in rows if row.stage == "train"}
    assert trained.keys() == {"mlp", "lenet5"}
    for row in trained.values():
        found = row.metrics
        assert found["test_accuracy"] > 0.8
        assert found["pgd_0_3_accuracy"] <= found["pgd_0_1_accuracy"] <= found["attacked_accuracy"]
        assert found["fgsm_0_25_accuracy"] <= found["random_0_25_accuracy"]
        assert {"adversarial_examples", "eight_adversarial_examples"} <= row.pictures.keys()
        assert found["eight_pgd_0_3_reached"] >= found["eight_pgd_0_1_reached"]
        assert found["critical_samples_0_05"] <= found["critical_samples_0_1"]
    results = Results.read_json(tmp_path / "run" / "results.json")
    recipe = compressit.load_recipe(RECIPE, host=installed())
    report = next(use.plugin for use in recipe.report)
    (table,) = report.tables(results)
    assert len(table.rows) == 8
    assert not [row for row in table.rows if "not measured" in row]
