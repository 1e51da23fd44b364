"""A stage that fails takes down only what needs it; plugin files run only when they are trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import PLUGINS

from .sandbox import Sandbox, contents

PLUGIN = PLUGINS.read_text() + "Path(__file__).with_name('it-ran').touch()\n"
BROKEN = 'raise RuntimeError("the plugin is broken")'
RECIPE = """\
version: 1
name: fragile
compute: {device: cpu, threads: 1}
plugins: [./mine.py]
data: {uses: data.synthetic, with: {train: 64, test: 32}}
model: {uses: model.mlp, with: {hidden: [8]}}
stages:
  train: {uses: train.supervised, with: {epochs: 1}}
  explode: {uses: tiny.train, needs: train, with: {fault: raise}}
  later: {uses: prune.magnitude, needs: explode, with: {sparsity: 0.5}}
  vanish: {uses: tiny.train, needs: train, with: {fault: die}}
  refuse: {uses: tiny.train, needs: train, with: {fault: refuse}}
  prune: {uses: prune.magnitude, needs: train, with: {sparsity: 0.5}}
evaluate: [eval.accuracy]
"""


@pytest.fixture
def fragile(sandbox: Sandbox) -> Sandbox:
    """A sandbox with the recipe and the plugin file."""
    sandbox.write("mine.py", PLUGIN)
    sandbox.write("recipe.yaml", RECIPE)
    return sandbox


def _ran(sandbox: Sandbox) -> bool:
    return (sandbox.folder / "it-ran").exists()


def test_everything_that_does_not_need_the_failed_stages_is_run(fragile: Sandbox) -> None:
    done = fragile.run("run", "recipe.yaml", "--out", "out", "--trust", code=1)
    out = fragile.folder / "out"
    assert _ran(fragile)
    line = PLUGIN.split(BROKEN)[0].count("\n") + 1
    assert (
        f"base/seed0/explode: RuntimeError: the plugin is broken (mine.py:{line}) (the traceback is in "
        in done.err
    )
    assert "base/seed0/vanish: the worker process ended with exit code 3" in done.err
    assert "base/seed0/refuse: the plugin refuses\n      help: try another" in done.err
    assert done.err.count("help: ") == 1
    assert done.err.splitlines()[-1].startswith("everything else is kept")
    skipped = "base/seed0/explode eval.accuracy, base/seed0/later, base/seed0/later eval.accuracy"
    assert f"skipped because base/seed0/explode failed: {skipped}" in done.err
    log = (out / "logs" / "base_seed0_explode.txt").read_text(encoding="utf-8")
    assert "in _fault" in log
    assert "RuntimeError: the plugin is broken" in log
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [row["stage"] for row in results["rows"]] == ["train", "prune"]
    assert all(row["metrics"]["test_accuracy"] >= 0 for row in results["rows"])
    assert {path.rsplit("/")[-1] for path in results["missing"]} == {"explode", "later", "vanish", "refuse"}
    assert len(results["failures"]) == 3
    assert "the plugin is broken" in (out / "report.html").read_text(encoding="utf-8")

    fragile.write("mine.py", PLUGIN.replace(BROKEN, "return model"))
    settings = ["--set", "stages.vanish=null", "--set", "stages.refuse=null"]
    again = fragile.run("run", "recipe.yaml", "--out", "out", "--trust", *settings)
    assert "base/seed0/later: " in again.err
    assert "base/seed0/train: " not in again.err, "what was done is not done again"
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [row["stage"] for row in results["rows"]] == ["train", "explode", "later", "prune"]
    assert results["failures"] == []


@pytest.mark.parametrize("command", ["run", "check", "plan"])
def test_a_plugin_file_that_is_not_trusted_is_not_run(command: str, fragile: Sandbox) -> None:
    before = contents(fragile.folder)
    done = fragile.run(command, "recipe.yaml", code=2)
    assert "recipe.yaml:4:11: the plugin file ./mine.py is not trusted, so it was not run" in done.err
    assert "--trust" in done.err
    assert contents(fragile.folder) == before


def test_trust_is_for_one_command_and_paths_are_the_recipes(fragile: Sandbox, tmp_path: Path) -> None:
    elsewhere = Sandbox(tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    recipe = fragile.folder / "recipe.yaml"
    assert "fragile is fine" in elsewhere.run("check", recipe, "--trust").out
    assert _ran(fragile)
    elsewhere.run("check", recipe, code=2)


def test_a_plugin_file_with_a_mistake_is_told_with_its_line(fragile: Sandbox) -> None:
    line = PLUGIN.split("import os\n")[0].count("\n") + 1
    fragile.write("mine.py", PLUGIN.replace("import os\n", "import os, nowhere_to_be_found\n"))
    done = fragile.run("run", "recipe.yaml", "--trust", code=2)
    assert "recipe.yaml:4:11: " in done.err
    assert f"mine.py:{line}: ModuleNotFoundError: No module named 'nowhere_to_be_found'" in done.err
    assert not (fragile.folder / "runs").exists()
