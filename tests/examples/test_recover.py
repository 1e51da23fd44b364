"""examples/recover.yaml: what pruning cost comes back, and pruned weights stay zero."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import Bench

import compressit
from compressit.host.plugins import installed

RECIPE = Path(__file__).parent.parent.parent / "examples" / "recover.yaml"
RECOVERED = {"distill": "prune", "labels": "prune", "sparse_distill": "sparse", "sparse_labels": "sparse"}
Metrics = dict[tuple[str, str], dict[str, float]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recover")


@pytest.fixture
def rows(folder: Path, bench: Bench) -> Metrics:
    """Metrics by variant and stage. Run once: the second time everything is in the store."""
    recipe = compressit.load_recipe(RECIPE, host=installed(), profile="quick")
    run = compressit.run(recipe, out=folder / "run", store=folder / "store")
    return {(row["variant"], row["stage"]): row for row in run.metrics}


@pytest.mark.parametrize("variant", ["right", "noisy"])
def test_every_training_gives_back_what_pruning_cost(rows: Metrics, variant: str) -> None:
    accuracy = {stage: row["test_accuracy"] for (of, stage), row in rows.items() if of == variant}
    for after, before in RECOVERED.items():
        assert accuracy[after] > accuracy[before], after
    assert accuracy["distill"] > accuracy["train"] - 0.02
    assert accuracy["prune"] < accuracy["train"] - 0.04


def test_where_labels_are_wrong_the_teacher_is_the_better_one(rows: Metrics) -> None:
    for after in ("distill", "sparse_distill"):
        control = after.replace("distill", "labels")
        assert rows["noisy", after]["test_accuracy"] > rows["noisy", control]["test_accuracy"]


def test_sizes_stay(rows: Metrics) -> None:
    for variant in ("right", "noisy"):
        for after, before in RECOVERED.items():
            for metric in ("parameters", "nonzero", "macs"):
                assert rows[variant, after][metric] == rows[variant, before][metric], (after, metric)
        dense, small = rows[variant, "train"], rows[variant, "prune"]
        assert small["macs"] / dense["macs"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("variant", ["right", "noisy"])
def test_the_zeros_are_the_very_same(rows: Metrics, folder: Path, variant: str) -> None:
    checkpoints = folder / "run" / "checkpoints" / variant / "seed0"
    sparse, *after = (
        compressit.load(checkpoints / f"{stage}.safetensors").state_dict()
        for stage in ("sparse", "sparse_distill", "sparse_labels")
    )
    zeros = 0
    for name, value in sparse.items():
        if value.ndim > 1:
            zeros += int((value == 0).sum())
            for tensors in after:
                assert torch.equal(tensors[name] == 0, value == 0), name
    assert zeros == round(0.9 * 8832)
    assert rows[variant, "sparse_distill"]["zeros_kept"] == zeros
