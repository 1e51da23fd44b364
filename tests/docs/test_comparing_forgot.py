"""docs/comparing.md, "What compression forgot": its blocks work as they stand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from blocks import DOCS
from tiny import Bench

import compressit

TEXT = (
    (DOCS / "comparing.md")
    .read_text(encoding="utf-8")
    .partition("## What compression forgot")[2]
    .partition("\n## ")[0]
)
RECIPE = """\
version: 1
name: forgot
data: {uses: data.synthetic, with: {train: 64, test: 32}}
model: {uses: model.mlp, with: {hidden: [8]}}
stages:
  train: {uses: train.supervised, with: {epochs: 1}}
  prune: {uses: prune.magnitude, with: {sparsity: 0.8}}
  tune: {uses: train.supervised, with: {epochs: 1}}
"""


def _blocks(language: str) -> list[str]:
    return [part.partition("```")[0] for part in TEXT.split(f"```{language}\n")[1:]]


@pytest.mark.parametrize("block", _blocks("yaml"))
def test_its_recipes_run_and_what_it_does_with_the_results(block: str, bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE + block)
    run = compressit.run(tmp_path / "r.yaml", out=tmp_path / "run", store=tmp_path / "store")
    found: dict[str, object] = {"run": run}
    (code,) = _blocks("python")
    exec(compile(code, "comparing.md", "exec"), found)
    assert np.shape(found["change"]) == (10,)


def test_every_column_that_it_names_is_one() -> None:
    named = {
        cell.strip(" `")
        for line in TEXT.splitlines()
        if line.startswith("| `")
        for cell in line.split("|")[1].split(",")
    }
    kinds = {
        name for block in ("forgotten", "calibration", "robustness") for name in _declared(f"eval.{block}")
    }
    assert named <= kinds
    assert {"noise_0_18_accuracy", "shift_2_accuracy", "test_calibration_error", "flipped_images"} <= kinds


def _declared(name: str) -> set[str]:
    from compressit.contract.classification import usual
    from compressit.host.plugins import installed

    plugin = installed().find(name, "evaluator").plugin
    return set(plugin(plugin.Config()).declares(usual()))
