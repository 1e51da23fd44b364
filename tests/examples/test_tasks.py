"""examples/regression.yaml, multilabel.yaml and segmentation.yaml: tasks without classes, compressed and recovered."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Bench

import compressit
from compressit.host.plugins import installed

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
# the share of MACs that stays, what is compared, which end of it is better, and what pruning alone costs at least
WATCHED = {
    "regression": (0.2, "test_rmse", -1, 0.05),
    "multilabel": (0.5, "test_macro_f1", 1, 0.05),
    "segmentation": (0.5, "test_miou", 1, 0.03),
}


@pytest.mark.parametrize("name", WATCHED)
def test_a_smaller_net_gets_back_what_pruning_cost(name: str, bench: Bench, tmp_path: Path) -> None:
    recipe = compressit.load_recipe(EXAMPLES / f"{name}.yaml", host=installed(), profile="quick")
    run = compressit.run(recipe, out=tmp_path / "run", store=tmp_path / "store")
    share, metric, better, cost = WATCHED[name]
    rows = {row.stage: row.metrics for row in run.results.rows}
    score = {stage: better * metrics[metric] for stage, metrics in rows.items()}
    assert rows["recover"]["macs"] / rows["train"]["macs"] == pytest.approx(share, abs=0.02)
    assert score["prune"] < score["train"] - cost
    assert score["recover"] > (score["prune"] + score["train"]) / 2
    comparison = compressit.Comparison.of(run.results)
    strategy, control = comparison.entries
    assert (comparison.within_budget(strategy), control.name) == (True, "longer")
