"""Every hook, through a run: what a plugin file with that hook alone brings. One test for each, which is counted."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import dedent, indent

import pytest
import torch
from tiny import PLUGINS, Bench, tiny_host

from compressit import api
from compressit.api import Run
from compressit.checkpoint.model import load
from compressit.contract import hookspecs
from compressit.contract.kinds import Report
from compressit.errors import CompressitError, StageFailed
from compressit.recipe.load import load_recipe
from compressit.results.page import render

TESTS = Path(__file__).parents[1]
HOOKS = [name for name in vars(hookspecs) if name.startswith("compressit_")]
RECIPE = """\
version: 1
name: hooked
plugins: [PLUGINS, ./hooked.py]
data: {uses: tiny.data}
model: {uses: tiny.mlp}
stages:
  train: {uses: tiny.train, with: {epochs: 1}}
evaluate: [tiny.size]
""".replace("PLUGINS", str(PLUGINS))
SHIFT = """
    def train(self, model, ctx):
        for weight in model.parameters():
            weight.data += 1
        return model
"""


class Desk:
    """A folder with a plugin file and a recipe; the file may be written anew, the store stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = tiny_host()

    def run(self, plugin: str, **replaced: str) -> Run:
        """Runs the recipe with some of its values replaced, and the plugin file with one hook."""
        (self.folder / "hooked.py").write_text(
            "from compressit import Compressor, Dataset, Evaluator, Metric, Model, Observer, Sources, Report\n"
            "from compressit import Task, Trainer, hookimpl\n" + plugin
        )
        text = RECIPE
        for key, value in replaced.items():
            (old,) = [line for line in text.splitlines() if line.startswith((f"{key}:", f"  {key}:"))]
            text = text.replace(old, f"{old[: old.index(':')]}: {value}")
        (self.folder / "recipe.yaml").write_text(text)
        self.host = tiny_host()
        recipe = load_recipe(self.folder / "recipe.yaml", host=self.host, trust=lambda plugin: True)
        return api.run(recipe, out=self.folder / "run", store=self.folder / "store", host=self.host)


@pytest.fixture
def desk(tmp_path: Path, bench: Bench) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test_of_its_own(hook: str) -> None:
    assert f"test_hook_{hook.removeprefix('compressit_')}" in _test_functions()


def test_hook_trainers(desk: Desk) -> None:
    run = desk.run(_plugin("Trainer", SHIFT), train="{uses: hooked.trainer}")
    before, after = _weights(run, "init"), run.model("train").state_dict()
    assert all(torch.equal(after[name], before[name] + 1) for name in before)


def test_hook_compressors(desk: Desk) -> None:
    body = "    def compress(self, model, ctx):\n        return ctx.with_width(0.5)\n"
    run = desk.run(_plugin("Compressor", body), train="{uses: hooked.compressor}")
    assert run.metrics[0]["parameters"] == 6 * 6 + 6 + 6 * 3 + 3


def test_hook_evaluators(desk: Desk) -> None:
    body = """
    metrics = {"layers": Metric("lower", "count")}
    def evaluate(self, model, ctx):
        return {"layers": sum(1 for _ in model.modules())}
    """
    run = desk.run(_plugin("Evaluator", body), evaluate="[hooked.evaluator]")
    assert [row["layers"] for row in run.metrics] == [len(list(run.model("train").modules()))]
    assert run.results.metrics["layers"]["unit"] == "count"


def test_hook_models(desk: Desk) -> None:
    body = """
    def build(self, inputs, outputs):
        from torch import nn
        return nn.Sequential(nn.Flatten(), nn.Linear(6, outputs, bias=False))
    """
    run = desk.run(_plugin("Model", body), model="{uses: hooked.model}")
    assert run.metrics[0]["parameters"] == 18
    with pytest.raises(CompressitError, match=r"comes from 'hooked\.py'"):
        load(_checkpoint(run), host=tiny_host())


def test_hook_datasets(desk: Desk) -> None:
    body = """
    from compressit import TensorSpec
    inputs = TensorSpec((5,))
    classes = 4
    def load(self, ctx):
        import torch
        return Sources((torch.rand(8, 5), torch.arange(8) % 4), (torch.rand(4, 5), torch.arange(4)))
    """
    run = desk.run(_plugin("Dataset", body), data="{uses: hooked.dataset}")
    assert run.model("train")(torch.zeros(1, 5)).shape == (1, 4)


def test_hook_tasks(desk: Desk) -> None:
    body = """
    target, watch, takes = "class", "wrong", frozenset({"task.classification"})
    def measures(self):
        return {"wrong": Metric("lower", "count", "wrong answers")}
    def loss(self, outputs, targets):
        return -outputs.log_softmax(1).gather(1, targets[:, None])[:, 0]
    def scores(self, outputs, targets):
        return {"wrong": float((outputs.argmax(1) != targets).sum())}
    """
    evaluator = """
    def declares(self, task):
        return task.measures()
    def evaluate(self, model, ctx):
        return ctx.task.scores(ctx.logits(model, "test"), ctx.data.test.y)
    """
    source = _plugin("Task", body) + _plugin("Evaluator", evaluator).replace("Hooked", "Judge")
    run = desk.run(source, evaluate="[hooked.evaluator]\ntask: {uses: hooked.task}")
    assert 0 <= run.metrics[0]["wrong"] <= 20
    assert run.results.metrics["wrong"]["better"] == "lower"


def test_hook_reports(desk: Desk) -> None:
    body = "    def paragraphs(self, results):\n        return [f'Seen: {results.rows[0].name}.']\n"
    run = desk.run(_plugin("Report", body), evaluate="[]\nreport: [hooked.report]")
    (use,) = run.results.config["report"]
    report = desk.host.create(Report, use["uses"], use["config"])
    render(run.results, [(report.name, lambda: report)], run.folder)
    assert "Seen: train." in (run.folder / "report.html").read_text(encoding="utf-8")


def test_hook_module_types(desk: Desk) -> None:
    compressor = """
    def compress(self, model, ctx):
        layer = _layer()(1)
        layer.scale.data.fill_(2.0)
        model[3] = layer
        return model
    """
    layer = """
def _layer():
    import torch
    class Scale(torch.nn.Module):
        def __init__(self, size):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(size))
        def forward(self, x):
            return x * self.scale
    return Scale
_layer = __import__("functools").cache(_layer)
    """
    types = """
@hookimpl
def compressit_module_types():
    from compressit.contract.module_types import ModuleType
    return [ModuleType("hooked.Scale", _layer, lambda s: {"size": len(s.scale)}, lambda a: _layer()(int(a["size"])))]
    """
    plugin = _plugin("Compressor", compressor) + dedent(layer)
    stage = "{uses: hooked.compressor}"
    with pytest.raises(StageFailed, match="no ModuleType is registered for"):
        desk.run(plugin, train=stage)
    run = desk.run(plugin + dedent(types), train=stage)
    loaded = load(_checkpoint(run), host=desk.host)
    assert loaded.get_parameter("3.scale").tolist() == [2.0]
    with pytest.raises(CompressitError, match=r"comes from 'hooked\.py'"):
        load(_checkpoint(run), host=tiny_host())


def test_hook_observers(desk: Desk) -> None:
    body = """
    def run_started(self, run):
        self.log = run.file("observed.txt")
    def job_finished(self, end):
        with self.log.open("a") as file:
            print(end.job.label, *end.metrics, file=file)
    """
    source = _plugin("Observer", body)
    run = desk.run(source, evaluate="[tiny.size]\nobserve: [hooked.observer]")
    told = (run.folder / "observed.txt").read_text().splitlines()
    assert told[:2] == ["base/seed0/init", "base/seed0/train"]
    assert told[2].split()[:2] == ["base/seed0/train", "tiny.size"]
    assert "parameters" in told[2]


def _plugin(kind: str, body: str) -> str:
    """A file with one plugin, `hooked.<kind>`, and the hook of its kind."""
    body = indent(dedent(body), "    ")
    return (
        f"class Hooked({kind}):\n    name = 'hooked.{kind.lower()}'\n{body}\n"
        f"@hookimpl\ndef compressit_{kind.lower()}s():\n    return [Hooked]\n"
    )


def _checkpoint(run: Run) -> Path:
    return run.folder / str(run.row("train").checkpoint)


def _weights(run: Run, stage: str) -> dict[str, torch.Tensor]:
    """The tensors of a stage that has no row."""
    from safetensors.torch import load_file

    (job,) = [job for job in run.plan.jobs.values() if job.kind == stage]
    (file,) = (run.folder.parent / "store").rglob(f"{job.key}/model.safetensors")
    return load_file(file)


def _test_functions() -> set[str]:
    """Names of all test functions there are."""
    names: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
    return names
