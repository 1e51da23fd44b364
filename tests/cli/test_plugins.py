"""Plugins from the outside: listed, broken ones too; left out on demand; in the schema."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML
from tiny import PLUGINS

from .recipes import TINY
from .sandbox import Sandbox

BUILT_IN = {
    "data.mnist", "data.synthetic", "distill.soft_labels", "eval.accuracy", "eval.fidelity", "eval.latency",
    "eval.size", "model.convnet", "model.mlp", "prune.magnitude", "report.twins", "shrink.fresh", "shrink.noise",
    "train.distill", "train.supervised",
}  # fmt: skip


@pytest.fixture
def third_party(tmp_path: Path) -> dict[str, Any]:
    """The environment in which somebody's distribution is installed: one module works, one does not."""
    site = tmp_path / "site"
    info = site / "other_lab-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-lab\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text("[compressit]\nother-good = other_good\nother-bad = other_bad\n")
    (site / "other_good.py").write_text(PLUGINS.read_text())
    (site / "other_bad.py").write_text("raise RuntimeError('no licence\\nfound')\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


def test_a_broken_plugin_is_listed_and_everything_else_works(
    third_party: dict[str, Any], sandbox: Sandbox
) -> None:
    listed = json.loads(sandbox.run("plugins", "--json", **third_party).out)
    names = {plugin["name"]: plugin for plugin in listed["plugins"]}
    assert {*BUILT_IN, "tiny.size"} <= set(names)
    assert (names["tiny.size"]["from"], names["tiny.size"]["version"]) == ("other-lab", "2.5")
    assert names["tiny.size"]["about"] == "Counts parameters."
    assert names["shrink.noise"]["from"] == "compressit"
    reason = "RuntimeError: no licence found"
    assert listed["broken"] == [
        {"entry": "other-bad", "from": "other-lab", "version": "2.5", "reason": reason}
    ]
    text = sandbox.run("plugins", **third_party).out
    assert any("other-bad" in line and reason in line for line in text.splitlines())

    sandbox.write("recipe.yaml", TINY.replace("eval.size", "tiny.size"))
    assert "tiny is fine" in sandbox.run("check", "recipe.yaml", **third_party).out
    sandbox.write("recipe.yaml", TINY.replace("eval.size", "other.bad"))
    told = sandbox.run("check", "recipe.yaml", code=2, **third_party).err
    assert "recipe.yaml:12:27:" in told
    assert reason in told, "the plugin wanted may be the broken one"


def test_plugins_can_be_left_out(sandbox: Sandbox) -> None:
    without: dict[str, Any] = {"COMPRESSIT_DISABLE_PLUGINS": "report-twins, eval-size"}
    listed = json.loads(sandbox.run("plugins", "--json", **without).out)
    assert {plugin["name"] for plugin in listed["plugins"]} >= BUILT_IN - {"report.twins", "eval.size"}
    assert not {plugin["name"] for plugin in listed["plugins"]} & {"report.twins", "eval.size"}
    assert listed["disabled"] == ["eval-size", "report-twins"]
    sandbox.write("recipe.yaml", TINY)
    told = sandbox.run("check", "recipe.yaml", code=2, **without).err
    assert "COMPRESSIT_DISABLE_PLUGINS" in told
    nothing = json.loads(sandbox.run("plugins", "--json", COMPRESSIT_DISABLE_PLUGINS="*").out)
    assert [plugin["name"] for plugin in nothing["plugins"]] == ["task.classification"], "the core's own"


def test_the_schema_is_one_and_knows_the_plugins(third_party: dict[str, Any], sandbox: Sandbox) -> None:
    schema = json.loads(sandbox.run("schema", **third_party).out)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    recipe = YAML(typ="safe").load(TINY)
    assert not list(validator.iter_errors(recipe))
    recipe["evaluate"].append("tiny.size")
    assert not list(validator.iter_errors(recipe))
    recipe["stages"]["train"]["with"]["epoch"] = 3
    assert list(validator.iter_errors(recipe))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "sparsty=0.3",
            "unknown key 'sparsty' in prune.magnitude\n      help: did you mean 'sparsity' or 'sparsities'?",
        ),
        ("sparsity=2", "prune.magnitude.sparsity must be less than 1 (got 2)"),
        ("epochs=3", "did you mean 'finetune.epochs'?"),
    ],
)
def test_a_wrong_option_of_a_check_is_told_as_in_a_recipe(setting: str, told: str, sandbox: Sandbox) -> None:
    assert told in sandbox.run("plugins", "check", "prune.magnitude", "--set", setting, code=2).err


def test_a_plugin_without_its_method_is_refused_by_check(sandbox: Sandbox) -> None:
    sandbox.run("new", "plugin", "prune.mine")
    file = sandbox.folder / "mine.py"
    file.write_text(
        file.read_text(encoding="utf-8").replace("def compress(", "def compres("), encoding="utf-8"
    )
    told = sandbox.run("check", "mine.yaml", "--trust", code=2).err
    assert "Mine has no 'compress'" in told
    assert "rename 'compres' to 'compress'" in told
