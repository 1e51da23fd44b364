"""Scaffolded plugins, with the tiny ones as all that is installed: they load, run and keep the contract."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import Bench, tiny_host
from torch import nn

from compressit import api
from compressit.api import Run
from compressit.contract.context import StageContext
from compressit.contract.kinds import Evaluator
from compressit.errors import CompressitError
from compressit.host.plugins import KINDS, Host
from compressit.recipe.load import load_recipe
from compressit.scaffold.files import write_new
from compressit.scaffold.plugin import NewPlugin, kind_of, plugin_files
from compressit.scaffold.recipe import checked_name, parts_around, recipe_text
from compressit.testing import Subject, checks_for, outcomes

pytestmark = pytest.mark.usefixtures("warm_workers")

PREFIXES = {
    "compressor": "prune", "trainer": "train", "evaluator": "eval", "model": "model", "dataset": "data",
    "task": "task", "report": "report", "observer": "observe",
}  # fmt: skip


def scaffold(kind: str, folder: Path) -> Host:
    """A file `mine.py` and a recipe of it and tiny plugins; gives the host that knows them."""
    new = NewPlugin(f"{PREFIXES[kind]}.mine", kind)
    host = tiny_host()
    write_new({folder / path: text for path, text in plugin_files(new)})
    host.load_file(folder / new.file)
    text = recipe_text("mine", parts_around(new.name, kind, host), host, ["./mine.py"])
    write_new({folder / "mine.yaml": text})
    return host


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_as_it_stands(kind: str, tmp_path: Path, bench: Bench) -> None:
    run = _run(scaffold(kind, tmp_path), tmp_path)
    assert not run.failures
    assert not run.results.missing
    last = run.results.rows[-1]
    match kind:
        case "compressor":
            zeros = sum(int((p == 0).sum()) for p in run.model("prune").parameters())
            assert zeros == 12 * 6 // 2 + 3 * 12 // 2
            assert last.notes["requested"] == 0.5
        case "trainer":
            assert last.uses == "train.mine"
            assert last.curves["loss"][-1][1] < last.curves["loss"][0][1]
        case "evaluator":
            assert 0 <= last.metrics["mine"] <= 1
        case "model":
            assert last.metrics["parameters"] == 6 * 32 + 32 + 32 * 32 + 32 + 32 * 3 + 3
        case "dataset":
            assert run.model("tiny")[1].in_features == 64
        case "task":
            assert run.plan.recipe.variants[0].posed.name == "task.mine"
        case "report":
            assert [use["uses"] for use in run.results.config["report"]] == ["report.mine"]
        case _:
            lines = (run.folder / "mine" / "log.txt").read_text().splitlines()
            assert len(lines) == len(run.plan.jobs)


def test_the_evaluator_counts_what_it_says(tmp_path: Path, make_context: Callable[..., StageContext]) -> None:
    evaluator = scaffold("evaluator", tmp_path).create(Evaluator, "eval.mine", {})
    ctx = make_context()  # as many images of each of four classes
    logits = torch.tensor([4.0, 3.0, 2.0, 1.0]).repeat(20, 1)
    logits[2, 2] = 3.5  # of the ten images of the third and the fourth class, this one is found
    ctx.memo[("logits", "model", "", "test")] = logits
    assert float(evaluator.evaluate(nn.Identity(), ctx)["mine"]) == pytest.approx(9 / 20)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    scaffold(kind, tmp_path)
    tested = Subject.of(f"{PREFIXES[kind]}.mine", files=[tmp_path / "mine.py"])
    checks = [check for check in checks_for(tested) if check.name not in ("runs_under_jobs", "no_pickle")]
    statuses = [outcome.status for outcome in outcomes(checks, tested)]  # above it ran as a whole
    assert "failed" not in statuses
    assert "ok" in statuses


def test_the_name_says_the_kind() -> None:
    for kind, prefix in {**PREFIXES, "compressor": "quantize"}.items():
        assert kind_of(f"{prefix}.mine") == kind


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        *((name, "kind.method") for name in ("mine", "a.b.c", "prune.", "../prune.mine", "", "prune._", "1.a", "x.ä")),
        ("prune.Mine", "prune.mine"),
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(name: str, hint: str) -> None:
    with pytest.raises(CompressitError) as caught:
        kind_of(name)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "cls", "file"),
    [
        ("prune.mine", "Mine", "mine.py"),
        ("shrink.soft-labels", "SoftLabels", "soft_labels.py"),
        ("prune.class", "Class", "prune_class.py"),
        ("eval.json", "Json", "eval_json.py"),  # `import json` in a script beside it must not find it
        ("prune.2x", "My2x", "prune_2x.py"),
        ("prune.compressor", "MyCompressor", "compressor.py"),
        ("prune.none", "MyNone", "none.py"),
    ],
)
def test_names_become_classes_and_files(name: str, cls: str, file: str) -> None:
    new = NewPlugin(name, kind_of(name))
    assert (new.cls, str(new.file)) == (cls, file)


def test_nothing_is_written_where_one_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("mine")
    with pytest.raises(CompressitError, match=r"b\.txt") as caught:
        write_new({tmp_path / "a.txt": "new", tmp_path / "b.txt": "new"})
    assert caught.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]
    assert (tmp_path / "b.txt").read_text() == "mine"


@settings(max_examples=40)
@given(
    name=st.from_regex(r"\A[a-z][a-z0-9_-]{0,8}\.[a-z0-9][a-z0-9_-]{0,8}\Z"),
    kind=st.sampled_from(list(KINDS)),
    package=st.booleans(),
)
def test_whatever_it_is_called_it_loads(
    tmp_path_factory: pytest.TempPathFactory, name: str, kind: str, package: bool
) -> None:
    kind_of(name)
    new = NewPlugin(name, kind, package)
    checked_name(new.recipe.stem)
    folder = tmp_path_factory.mktemp("new")
    write_new({folder / path: text for path, text in plugin_files(new)})
    host = Host(entry_points=False)
    host.load_file(folder / new.file)
    (found,) = (r for r in host.registered() if r.source.is_local)
    assert (found.kind, found.plugin.name) == (kind, name)
    for path in folder.rglob("*.py"):
        ast.parse(path.read_text())
    if package:
        project = tomllib.loads((folder / new.folder / "pyproject.toml").read_text())["project"]
        (module,) = project["entry-points"]["compressit"].values()
        assert (folder / new.folder / module / "__init__.py") == folder / new.file


def _run(host: Host, folder: Path) -> Run:
    recipe = load_recipe(folder / "mine.yaml", host=host, trust=lambda plugin: True)
    return api.run(recipe, out=folder / "run", store=folder / "store", host=host)
