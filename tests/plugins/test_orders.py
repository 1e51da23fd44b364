"""Orders of stages that cannot work are told before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import Bench

import compressit
from compressit import CompressitError

RECIPE = """
version: 1
name: order
data: {uses: data.synthetic, with: {train: 100, test: 20}}
model: {uses: model.mlp, with: {hidden: [32, 32]}}
stages:
  train: {uses: train.supervised, with: {epochs: 1}}
  %s
"""


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            "prune: {uses: prune.magnitude}\n  more: {uses: train.supervised}\n  factor: {uses: factor.low_rank}",
            "linear1 has zeros from pruning",
        ),
        (
            "prune: {uses: prune.sparse_momentum, with: {epochs: 1}}\n  factor: {uses: factor.low_rank}",
            "linear1 has zeros from pruning",
        ),
        ("norms: {uses: train.batch_norm}", "no batch norm"),
        ("depth: {uses: prune.depth}", "has no block that can be removed"),
    ],
)
def test_nothing_is_trained(tmp_path: Path, bench: Bench, stages: str, message: str) -> None:
    (tmp_path / "order.yaml").write_text(RECIPE % stages)
    with pytest.raises(CompressitError) as caught:
        compressit.run(tmp_path / "order.yaml", out=tmp_path / "run", store=tmp_path / "store")
    assert message in str(caught.value)
    assert str(caught.value).endswith("nothing was trained")
    assert not [label for label in bench.ran if label.endswith("train")]


def test_layers_without_zeros_are_factored_behind_pruning(tmp_path: Path, bench: Bench) -> None:
    stages = "prune: {uses: prune.magnitude, with: {include: [output]}}\n  factor: {uses: factor.low_rank}"
    (tmp_path / "order.yaml").write_text(RECIPE % stages)
    run = compressit.run(tmp_path / "order.yaml", out=tmp_path / "run", store=tmp_path / "store")
    assert set(run.row("factor").notes["skipped"]) == {"output"}
