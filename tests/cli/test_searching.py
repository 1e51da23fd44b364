"""`compressit search`, in processes of its own."""

from __future__ import annotations

import pytest

from .sandbox import Sandbox

RECIPE = """\
version: 1
name: small
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic, with: {train: 128, validation: 0.25}}
model: {uses: model.mlp, with: {hidden: [12]}}
stages:
  train: {uses: train.supervised, with: {epochs: 20, batch_size: 16, optimizer: {name: adam, lr: 0.01}}}
  sparse: {uses: prune.magnitude}
evaluate: [eval.accuracy, eval.size]
"""


@pytest.mark.extra("search")
def test_a_search_writes_a_winner_that_runs_and_exits_with_1_without_one(sandbox: Sandbox) -> None:
    sandbox.write("recipe.yaml", RECIPE)
    command = (
        "search",
        "recipe.yaml",
        "--minimize",
        "nonzero",
        "--trials",
        "3",
        "--jobs",
        "2",
        "--out",
        "found",
    )
    done = sandbox.run(*command, "--max-drop", "1")
    assert "test_accuracy: " in done.out
    assert (sandbox.folder / "found" / "winner" / "report.html").exists()
    assert "nothing to do" in sandbox.run("run", "found/winner.yaml", "--out", "found/winner").err
    again = sandbox.run(*command, "--max-drop", "1")
    assert "continuing after 3 trials" in again.err
    assert again.out == done.out
    sandbox.write("worse.yaml", RECIPE + "search: {stages.sparse.with.sparsity: {low: 0.9, high: 0.97}}\n")
    told = sandbox.run("search", "worse.yaml", "--set", "stages.sparse.with.sparsity=0.95", *command[2:5], "1",
                       "--out", "none", "--max-drop", "0", code=1)  # fmt: skip
    assert "the nearest is trial 0" in told.err
    assert not (sandbox.folder / "none" / "winner.yaml").exists()


def test_mistakes_are_told_without_torch_or_optuna(sandbox: Sandbox) -> None:
    sandbox.write("recipe.yaml", RECIPE + "search: {stages.sparse.with.sparsity: {low: 0.5, high: 2}}\n")
    for words in (("check", "recipe.yaml"), ("search", "recipe.yaml", "--minimize", "macs")):
        assert "recipe.yaml:10:" in sandbox.light(*words, code=2).err
    assert "--max-drop" in sandbox.light("search", "--help").out
