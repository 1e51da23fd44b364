"""examples/lenet300_sparse.yaml, on data that need no download: how many weights are left, and what chose them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Bench

import compressit
from compressit.host.plugins import installed

RECIPE = Path(__file__).parent.parent.parent / "examples" / "lenet300_sparse.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lenet300")


def test_one_weight_of_sixty_is_left_and_lamp_chooses_them_better(folder: Path, bench: Bench) -> None:
    text = RECIPE.read_text(encoding="utf-8")
    mnist, limited = "{uses: data.mnist, with: {validation: 0.1}}", "data: {with: {limit: 6000}}"
    assert mnist in text
    assert limited in text
    own = folder / "recipe.yaml"
    text = text.replace(limited, "data: {with: {limit: 2000}}")
    own.write_text(
        text.replace(mnist, "{uses: data.synthetic, with: {shape: [1, 28, 28], train: 2000, noise: 1.5}}")
    )
    recipe = compressit.load_recipe(own, host=installed(), profile="quick")
    run = compressit.run(recipe, out=folder / "run", store=folder / "store")
    rows = {row["stage"]: row for row in run.metrics}
    assert rows["train"]["nonzero"] == 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10
    for stage in ("sparse", "labels", "smallest"):
        assert rows[stage]["nonzero"] == 266_200 - round(0.984 * 266_200) + 410, stage
        assert rows[stage]["compression_ratio_nonzero"] > 56, stage
    assert rows["sparse"]["test_accuracy"] > rows["smallest"]["test_accuracy"]
