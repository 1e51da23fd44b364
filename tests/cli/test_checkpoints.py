"""What people do with a run's checkpoints: look, measure, load, start from them, draw the report again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from compressit.cli import recipes
from compressit.errors import CompressitError

from .conftest import Ran
from .sandbox import Sandbox, contents, rows

BLOG = "checkpoints/fake/seed0/blog-02.safetensors"


def _row(ran: Ran, checkpoint: str = BLOG) -> dict[str, Any]:
    return next(row for row in rows(ran.out) if row["checkpoint"] == checkpoint)


def test_inspect_shows_what_the_file_says_of_itself(tiny: Ran) -> None:
    text = tiny.sandbox.light("inspect", tiny.out / BLOG).out
    assert (
        'model        model.mlp {"activation": "relu", "bias": true, "hidden": [5, 5], "residual": false}'
        in text
    )
    assert "linear1.weight" in text
    facts = json.loads(tiny.sandbox.light("inspect", tiny.out / BLOG, "--json").out)
    row = _row(tiny)
    assert facts["parameters"] == row["metrics"]["parameters"]
    assert facts["metrics"] == row["metrics"]
    assert [step["stage"] for step in facts["lineage"]] == ["init", "train", "blog-02"]
    assert facts["input"]["inputs"]["shape"] == [1, 8, 8]


@pytest.mark.parametrize("text", ["not a checkpoint", ""])
def test_inspect_of_anything_else_is_a_mistake(text: str, sandbox: Sandbox) -> None:
    sandbox.write("x.safetensors", text)
    assert "x.safetensors" in sandbox.run("inspect", "x.safetensors", code=2).err


@pytest.mark.parametrize(
    "arguments", [["inspect"], ["evaluate", "--data", "data.synthetic"], ["export", "--to", "onnx"]]
)
def test_a_folder_with_a_checkpoint_is_told_which(arguments: list[str], sandbox: Sandbox) -> None:
    (sandbox.folder / "pkg").mkdir()
    sandbox.write("pkg/model.safetensors", "…")
    told = sandbox.run(*arguments, "pkg", code=2).err
    assert "pkg is a folder, not a checkpoint\n      help: did you mean pkg/model.safetensors?" in told


def test_evaluate_says_beside_the_numbers_that_the_scale_is_another(tiny: Ran) -> None:
    done = tiny.sandbox.run(
        "evaluate", tiny.out / BLOG, "--data", "data.synthetic", "--set", "scale=standard"
    )
    assert "was trained on inputs of scale unit, but is measured on standard" in done.err
    assert "scale" not in done.out


def test_evaluate_gives_the_recipes_numbers(tiny: Ran) -> None:
    done = tiny.sandbox.run("evaluate", tiny.out / BLOG, "--data", "data.synthetic", "--set", "labels=random")
    measured = {name: float(value) for name, value in map(str.split, done.out.splitlines())}
    known = _row(tiny)["metrics"]
    assert {"train_accuracy", "test_accuracy", "test_loss", "parameters", "macs"} <= set(measured)
    for name, value in measured.items():
        assert value == pytest.approx(known[name], rel=1e-5), name


def test_evaluate_measures_one_file_after_another(tiny: Ran) -> None:
    files = [tiny.out / BLOG, tiny.out / BLOG.replace("-02", "-01")]
    both = tiny.sandbox.run("evaluate", *files, "--data", "data.synthetic", "--set", "labels=random").out
    alone = [
        tiny.sandbox.run("evaluate", file, "--data", "data.synthetic", "--set", "labels=random").out
        for file in files
    ]
    assert both == "".join(f"{file}\n{told}" for file, told in zip(files, alone, strict=True))
    assert alone[0] != alone[1]


def test_evaluate_says_when_data_or_evaluator_do_not_fit(tiny: Ran) -> None:
    file = tiny.out / BLOG
    other = tiny.sandbox.run("evaluate", file, "--data", "data.synthetic", "--set", "shape=[1, 4, 4]", code=2)
    assert "(1, 8, 8)" in other.err
    assert "(1, 4, 4)" in other.err
    stage = tiny.sandbox.run(
        "evaluate", file, "--data", "data.synthetic", "--evaluator", "eval.fidelity", code=2
    )
    assert "eval.fidelity judges a stage" in stage.err
    unknown = tiny.sandbox.run("evaluate", file, "--data", "data.sintetic", code=2)
    assert "did you mean 'data.synthetic'" in unknown.err


def test_a_fresh_process_loads_a_model_with_the_very_outputs_of_the_run(tiny: Ran) -> None:
    source = """
import sys, torch, compressit
torch.set_num_threads(1)
net = compressit.load(sys.argv[1])
data = compressit.data("data.synthetic", labels="random")
with torch.no_grad():
    outputs = net(data.test.x)
print(float((outputs.argmax(1) == data.test.y).double().mean()))
print(float(torch.nn.functional.cross_entropy(outputs.double(), data.test.y)))
print(type(net).__module__, net.training)
"""
    accuracy, loss, kind = tiny.sandbox.python(source, tiny.out / BLOG).splitlines()
    metrics = _row(tiny)["metrics"]
    assert float(accuracy) == metrics["test_accuracy"]
    assert float(loss) == pytest.approx(metrics["test_loss"], rel=1e-6)
    assert kind == "torch.nn.modules.container False"


def test_a_recipe_starts_from_a_checkpoint(tiny: Ran, sandbox: Sandbox) -> None:
    shutil.copy(tiny.out / BLOG, sandbox.folder / "start.safetensors")
    sandbox.write(
        "recipe.yaml",
        """\
version: 1
name: onward
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic}
model: {from: start.safetensors}
stages:
  tune: {uses: train.supervised, with: {epochs: 1}}
  half: {uses: shrink.fresh, needs: tune, with: {width: 0.5, epochs: 1}}
evaluate: [eval.size]
""",
    )
    sandbox.run("run", "recipe.yaml", "--out", "out")
    parent, tuned, half = rows(sandbox.folder / "out")
    known = _row(tiny)["metrics"]
    assert parent["stage"] == "init"
    assert parent["metrics"] == {name: known[name] for name in parent["metrics"]}, "the dense parent is a row"
    assert tuned["notes"]["width"] == 5, "the shape of the checkpoint, not of its first builder"
    assert half["notes"]["width"] == 3
    facts = json.loads(sandbox.run("inspect", sandbox.folder / "out" / tuned["checkpoint"], "--json").out)
    assert [step["stage"] for step in facts["lineage"]] == ["init", "tune"]
    text = (sandbox.folder / "recipe.yaml").read_text(encoding="utf-8")
    sandbox.write("recipe.yaml", text.replace("data.synthetic}", "data.synthetic, with: {classes: 3}}"))
    assert "has 10 outputs" in sandbox.run("run", "recipe.yaml", code=2).err


def test_report_draws_again(tiny: Ran, sandbox: Sandbox) -> None:
    out = sandbox.folder / "copy"
    shutil.copytree(tiny.out, out)
    before = contents(out)
    shutil.rmtree(out / "figures")
    (out / "report.html").unlink()
    done = sandbox.run("report", "copy")
    assert done.out == f"report: {Path('copy') / 'report.html'}\n"
    after = contents(out)
    assert after.keys() == before.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert not {name for name in changed if not name.startswith("figures/")}, (
        "the same numbers, the same page"
    )


def test_report_of_another_folder_is_a_mistake(sandbox: Sandbox) -> None:
    assert "results.json" in sandbox.run("report", ".", code=2).err
    sandbox.write("results.json", "[1, 2]")
    assert "results.json" in sandbox.run("report", ".", code=2).err


@pytest.mark.parametrize(
    "edit",
    [
        {"rows": [{}]}, {"rows": [3]}, {"rows": {"a": 1}}, {"extra": 1}, {"config": []}, {"metrics": []},
        {"config": {"report": [{"uses": "report.twins"}]}}, {"config": {"plugins": [{}]}},
        {"config": {"report": [{"uses": "report.twins", "config": {"nonsense": 1}}]}},
    ],
    ids=str,
)  # fmt: skip
def test_a_report_of_edited_results_names_the_file(edit: dict[str, Any], sandbox: Sandbox) -> None:
    row = {"variant": "v", "stage": "s", "round": None, "member": "", "seed": 0, "uses": "u", "teacher": None,
           "metrics": {"a": 1.0}, "notes": {}, "curves": {}}  # fmt: skip
    whole = {"schema": 1, "recipe": "r", "profile": None, "rows": [row], "metrics": {}, "about": {}}
    sandbox.write("results.json", json.dumps({**whole, **edit}))
    with pytest.raises(CompressitError, match=r"results\.json: not the results of a run"):
        recipes.report(sandbox.folder)
