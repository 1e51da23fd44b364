"""`compressit new` and `compressit plugins show`: what is written is right as it stands, nothing is overwritten."""

from __future__ import annotations

import json
import os
import tomllib

import pytest

from compressit import __version__

from .sandbox import Sandbox, contents


def test_a_plugin_and_its_recipe_are_right_as_they_stand(sandbox: Sandbox) -> None:
    said = sandbox.light("new", "plugin", "prune.mine").out
    assert "wrote mine.py\nwrote mine.yaml\n" in said
    assert "compressit run mine.yaml --trust" in said
    assert "compressit plugins check prune.mine --plugin mine.py --trust" in said
    assert "mine is fine" in sandbox.light("check", "mine.yaml", "--trust").out
    assert {t["stage"] for t in sandbox.jobs("mine.yaml", "--trust").values()} == {"init", "train", "prune"}
    shown = sandbox.light("plugins", "show", "prune.mine", "--plugin", "mine.py", "--trust").out
    assert shown.startswith("prune.mine: compressor, from mine.py\n")
    assert "sparsity  number > 0 and < 1  0.5      fraction of each layer's weights to zero" in shown


@pytest.mark.parametrize("kind", ["trainer", "evaluator", "model", "dataset", "report"])
def test_the_recipe_of_every_kind_uses_it(sandbox: Sandbox, kind: str) -> None:
    sandbox.light("new", "plugin", "own.thing", "--kind", kind, "--folder", "lab")
    sandbox.light("check", "lab/thing.yaml", "--trust")
    assert "uses: own.thing" in (sandbox.folder / "lab/thing.yaml").read_text(encoding="utf-8")


def test_a_new_recipe_runs_in_seconds(sandbox: Sandbox) -> None:
    chosen = ["--data", "data.synthetic", "--model", "model.mlp", "--stage", "train.supervised"]
    said = sandbox.light("new", "recipe", "lab", *chosen, "--stage", "prune.magnitude").out
    assert "compressit run lab.yaml" in said
    sandbox.run("run", "lab.yaml")
    results = json.loads((sandbox.folder / "runs/lab/results.json").read_text(encoding="utf-8"))
    assert [row["stage"] for row in results["rows"]] == ["train", "prune"]
    assert results["rows"][0]["metrics"]["test_accuracy"] > 0.2
    assert results["missing"] == []


def test_a_recipe_of_a_local_plugin_names_its_file_from_where_it_is(sandbox: Sandbox) -> None:
    sandbox.light("new", "plugin", "prune.mine")
    chosen = [
        "--data",
        "data.mnist",
        "--model",
        "model.mlp",
        "--stage",
        "prune.mine",
        "--evaluate",
        "eval.size",
    ]
    sandbox.light("new", "recipe", "lab", *chosen, "--plugin", "mine.py", "--trust", "--folder", "sub")
    assert 'plugins: ["../mine.py"]' in (sandbox.folder / "sub/lab.yaml").read_text(encoding="utf-8")
    assert "lab is fine" in sandbox.light("check", "sub/lab.yaml", "--trust").out


def test_what_is_left_out_is_listed(sandbox: Sandbox) -> None:
    told = sandbox.run("new", "recipe", "--model", "model.mlp", code=2).err
    assert "choose with --data, --stage" in told
    assert "data.synthetic" in told
    assert "train.supervised" in told
    assert "model.convnet" not in told
    assert not (sandbox.folder / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plugin", "mine"], "is not a valid plugin name"),
        (["plugin", "mine", "--kind", "trainer"], "is not a valid plugin name"),
        (["plugin", "Eval.Foo"], "use lower case: eval.foo"),
        (["plugin", "prune.magnitude"], "is taken by compressit 0"),
        (["plugin", "prune.mine", "--kind", "pruner"], "'pruner' is not a kind of plugin"),
        (["recipe", "a/b"], "is not a valid recipe name"),
    ],
)
def test_mistakes_write_nothing(sandbox: Sandbox, arguments: list[str], told: str) -> None:
    assert told in sandbox.run("new", *arguments, code=2).err
    assert contents(sandbox.folder) == {}


@pytest.mark.parametrize("there", ["mine.py", "mine.yaml"])
def test_nothing_is_overwritten(sandbox: Sandbox, there: str) -> None:
    sandbox.write(there, "precious")
    before = contents(sandbox.folder)
    assert f"{there}: already exists" in sandbox.run("new", "plugin", "prune.mine", code=2).err
    assert contents(sandbox.folder) == before


def test_a_second_one_of_that_method_is_told_where_it_can_go(sandbox: Sandbox) -> None:
    sandbox.light("new", "plugin", "noise.mine")
    told = sandbox.run("new", "plugin", "eval.mine", code=2).err
    assert "file names come from the part after the dot: choose another name, or --folder eval" in told
    sandbox.light("new", "plugin", "eval.mine", "--folder", "eval")


def test_a_package_is_found_when_it_is_installed(sandbox: Sandbox) -> None:
    said = sandbox.light("new", "plugin", "shrink.half-width", "--package").out
    assert "pip install -e 'compressit-half-width[test]'" in said
    root = sandbox.folder / "compressit-half-width"
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = root / "compressit_half_width-0.1.0.dist-info"  # as an installer would leave it
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    entries = "".join(
        f"{name} = {module}\n" for name, module in project["entry-points"]["compressit"].items()
    )
    (info / "entry_points.txt").write_text(f"[compressit]\n{entries}")
    path = {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    listed = json.loads(sandbox.run("plugins", "--json", **path).out)["plugins"]
    (found,) = [plugin for plugin in listed if plugin["name"] == "shrink.half-width"]
    assert (found["from"], found["version"], found["kind"]) == (
        "compressit-half-width",
        "0.1.0",
        "compressor",
    )
    assert "half_width is fine" in sandbox.run("check", "compressit-half-width/half_width.yaml", **path).out
    test = (root / "tests/test_half_width.py").read_text(encoding="utf-8")
    assert '@parametrize("shrink.half-width")' in test
    assert {file.name for file in root.iterdir()} >= {"README.md", "half_width.yaml", "tests"}


def test_show_knows_metrics_and_shapes_without_torch(sandbox: Sandbox) -> None:
    size = sandbox.light("plugins", "show", "eval.size").out
    assert "\nparameters" in size
    assert "No options." in size
    mnist = json.loads(sandbox.light("plugins", "show", "data.mnist", "--json").out)
    assert (mnist["inputs"]["shape"], mnist["classes"], mnist["from"]) == ([1, 28, 28], 10, "compressit")
    names = [option["name"] for option in mnist["options"]]
    assert {"root", "limit", "scale"} <= set(names)
    nested = sandbox.light("plugins", "show", "prune.magnitude").out
    assert "finetune.optimizer.lr" in nested
    told = sandbox.run("plugins", "show", "prune.magnitud", code=2).err
    assert "did you mean 'prune.magnitude'" in told


def test_a_table_has_its_head_and_a_line_for_each_plugin(sandbox: Sandbox) -> None:
    head, *lines = sandbox.light("plugins").out.splitlines()
    assert head.split() == ["name", "kind", "from", "version", "about"]
    (line,) = [line for line in lines if line.startswith("prune.magnitude ")]
    assert line[head.index("version") :].split()[0] == __version__
    assert line[head.index("from") :].split()[0] == "compressit"
