"""docs/writing-a-plugin.md: every block is run, in its order, in one folder; what it says besides is so."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from blocks import DOCS, blocks, run_line, shows
from filelock import FileLock

from compressit.contract import hookspecs
from compressit.contract.context import StageContext
from compressit.contract.kinds import Evaluator
from compressit.contract.results import Results
from compressit.host.plugins import installed
from compressit.testing import CHECKS

PAGE = "writing-a-plugin.md"
TEXT = (DOCS / PAGE).read_text(encoding="utf-8")
CONDITIONS = {"requires_grad", "per_host"}  # no checks
HOST_INTERNALS = {
    "load_data", "load_model", "narrow", "own_net", "emit", "memo", "identity", "fits", "notes", "curves", "arrays",
    "pictures", "files",
}  # fmt: skip


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder after a reader did everything on the page: once, for all processes of the test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "reader"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _walk(folder)
            (folder / "done").touch()
    return folder


def _walk(folder: Path) -> None:
    """Writes every file, runs every command, finds in their output what the page shows of it."""
    site = folder / "site-packages"
    site.mkdir(parents=True)
    environment = {
        "PYTHONPATH": str(site),
        "COMPRESSIT_STORE": str(folder / "store"),
        "COMPRESSIT_CACHE": str(folder / "cache"),
    }
    printed = ""
    for block in blocks(PAGE):
        if block.title:
            block.write(folder)
        elif block.language == "sh":
            printed = ""
            for line in block.text.splitlines():
                if line.startswith("pip install -e "):
                    _install(folder / line.split()[-1], site)
                elif line.startswith("pip install "):
                    _unpack(folder / line.split()[-1], site)
                elif line.startswith("pip wheel "):  # as it is, but for the network
                    run_line(f"{line} --no-build-isolation --no-index", folder, environment)
                else:
                    printed += run_line(line, folder, environment)
        else:
            assert block.language == "text", f"a {block.language} block that is no file"
            for line in block.text.splitlines():
                assert shows(printed, line), f"not printed: {line}\n{printed}"


def _install(project: Path, site: Path) -> None:
    """What an installer would leave behind: the package, and its metadata from its own pyproject.toml."""
    about = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package = about["name"].replace("-", "_")
    shutil.copytree(project / package, site / package)
    info = site / f"{package}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    )
    entries = "".join(f"{k} = {v}\n" for k, v in about["entry-points"]["compressit"].items())
    (info / "entry_points.txt").write_text(f"[compressit]\n{entries}")


def _unpack(wheel: Path, site: Path) -> None:
    """What an installer does with a wheel, in the place of what was there."""
    package = wheel.name.split("-")[0]
    for old in site.glob(f"{package}*"):
        shutil.rmtree(old)
    zipfile.ZipFile(wheel).extractall(site)


def test_every_block_runs_and_prints_what_the_page_shows(walked: Path) -> None:
    layerwise = Results.read_json(walked / "runs/layerwise/results.json")
    train, prune = layerwise.rows
    assert train.metrics["test_accuracy"] > 0.8
    assert prune.metrics["nonzero"] < 0.25 * prune.metrics["parameters"]
    assert train.metrics["nonzero"] > 0.99 * train.metrics["parameters"]


def test_a_compressor_is_15_lines() -> None:
    (first,) = [block for block in blocks(PAGE) if block.title == "layerwise.py"]
    assert sum(bool(line.strip()) for line in first.text.splitlines()) == 15
    assert "Those 15 lines" in TEXT


def test_the_wheel_holds_what_ran(walked: Path) -> None:
    about = walked / "site-packages/compressit_lowrank-0.1.0.dist-info"
    assert "lowrank = compressit_lowrank" in (about / "entry_points.txt").read_text()
    assert (about / "WHEEL").exists(), "it was made from the wheel, not from the folder"


def test_the_packages_say_what_they_are(walked: Path) -> None:
    environment = {"PYTHONPATH": str(walked / "site-packages")}
    listed = json.loads(run_line("compressit plugins --json", walked, environment))["plugins"]
    ours = {plugin["name"]: plugin["kind"] for plugin in listed if plugin["from"] == "compressit-lab"}
    assert set(ours.values()) == {"compressor", "evaluator", "trainer", "model", "dataset", "report"}
    assert {plugin["version"] for plugin in listed if plugin["name"] in ours} == {"0.1.0"}


def test_the_plugins_of_every_kind_do_what_they_are_for(walked: Path) -> None:
    results = Results.read_json(walked / "runs/lab/results.json")
    assert not results.missing
    train, first, second = results.rows
    assert (first.name, second.name) == ("match-01", "match-02")
    assert train.metrics["test_accuracy"] > 0.6  # three rings: chance is a third
    assert train.metrics["parameters"] > first.metrics["parameters"] > second.metrics["parameters"]
    assert "drift" not in train.metrics
    assert first.metrics["drift"] > 0
    overconfidence = first.metrics["test_confidence"] - first.metrics["test_accuracy"]
    assert first.metrics["test_overconfidence"] == pytest.approx(overconfidence)
    page = (walked / "runs/lab/report.html").read_text(encoding="utf-8")
    assert "The most accurate model is" in page
    assert "fewer parameters to the left" in page
    assert (walked / "runs/lab/figures/tradeoff.svg").exists()


def test_what_the_path_evaluator_gives_is_drawn_and_read(walked: Path) -> None:
    results = Results.read_json(walked / "runs/path/results.json")
    page = (walked / "runs/path/report.html").read_text(encoding="utf-8")
    recovered = [row for row in results.rows if row.stage == "recover"]
    assert len(recovered) == 2
    for row in recovered:
        assert [x for x, _ in row.curves["path"]] == [0, 0.25, 0.5, 0.75, 1]
        assert results.array(row, "path_answers").shape[0] == 5
        assert f"{row.name}: " in page
    assert page.count("data:image/png;base64,") == len(results.rows), "all pictures"
    assert '"label":"path"' in page, "the page draws the curve itself"
    assert (walked / "runs/path/figures/path.svg").exists(), "and as a file"


def test_the_line_leads_from_one_model_to_another(walked: Path) -> None:
    rows = {
        (row.seed, row.name): row.metrics for row in Results.read_json(walked / "runs/line/results.json").rows
    }
    assert rows[0, "train"]["seeds_rise"] == pytest.approx(0, abs=1e-5), "a net and itself"
    assert rows[1, "train"]["seeds_rise"] > 0
    assert {"seeds_rise", "tuned_rise"} & rows[1, "tune"].keys() == {"tuned_rise"}
    found = Results.read_json(walked / "runs/line/results.json")
    curves = {
        (row.seed, name): row.curves[name] for row in found.rows for name in row.curves if "line" in name
    }
    assert {name for _, name in curves} == {"seeds_line", "tuned_line"}
    assert [x for x, _ in curves[1, "seeds_line"]] == [0, 0.25, 0.5, 0.75, 1]
    (plugin,) = (block.text for block in blocks("writing-a-plugin.md") if block.title == "line.py")
    assert sum(bool(line.strip()) for line in plugin.splitlines()) <= 40
    models = [walked / f"runs/line/checkpoints/base/seed{seed}/train.safetensors" for seed in (0, 1)]
    words = "compressit evaluate {} --data data.synthetic --plugin line.py --trust --evaluator eval.line"
    told = run_line(
        f"{words.format(models[1])} --with eval.line.other={models[0]}",
        walked,
        {"PYTHONPATH": str(walked / "site-packages"), "COMPRESSIT_CACHE": str(walked / "cache")},
    )
    assert float(re.findall(r"^rise +(\S+)$", told, re.M)[0]) == pytest.approx(
        rows[1, "train"]["seeds_rise"], rel=1e-5
    )
    run_line(
        "compressit plugins check eval.line --plugin line.py --trust",
        walked,
        {"PYTHONPATH": str(walked / "site-packages"), "COMPRESSIT_CACHE": str(walked / "cache")},
    )


def test_the_observer_saw_every_job_of_the_lab(walked: Path) -> None:
    lines = (walked / "runs/lab/diary/log.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 18
    assert sum(" took " in line for line in lines) == 18
    assert any(line.startswith("base/seed0/match-02 eval.drift took") for line in lines)


def test_the_package_keeps_the_most_of_each_matrix(walked: Path) -> None:
    import torch

    import compressit

    host = installed()
    results = Results.read_json(walked / "runs/lowrank/results.json")
    assert results.rows[-1].notes["ranks"] == {"linear1": 7, "output": 2}
    dense = compressit.load(walked / "runs/lowrank/checkpoints/base/seed0/train.safetensors")
    sys.path.insert(0, str(walked / "compressit-lowrank"))
    try:
        from compressit_lowrank.layers import factorise
    finally:
        sys.path.remove(str(walked / "compressit-lowrank"))
    weight = dense.get_parameter("linear1.weight").detach().clone()
    singular = torch.linalg.svdvals(weight)
    factorise(dense, 0.2)
    layer = dense.get_submodule("linear1")
    left = (weight - layer.up.weight @ layer.down.weight).detach().norm()  # Eckart & Young 1936
    assert float(left) == pytest.approx(float(singular[7:].norm()), rel=1e-4)
    assert "shrink.lowrank" not in host.names()


@pytest.mark.parametrize("hook", [name for name in vars(hookspecs) if name.startswith("compressit_")])
def test_every_hook_stands_on_the_page_with_its_signature(hook: str) -> None:
    tree = ast.parse(inspect.getsource(hookspecs))
    (function,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == hook]
    signature = f"`{hook}({ast.unparse(function.args)}) -> {ast.unparse(function.returns)}`"  # type: ignore[arg-type]
    assert signature in TEXT
    assert {f"compressit_{name}" for name in re.findall(r"\bcompressit_(\w+)\(", TEXT)} <= set(
        vars(hookspecs)
    )


def test_what_ctx_offers_is_what_there_is() -> None:
    public = {name for name in dir(StageContext) if not name.startswith("_")}
    public |= {field.name for field in dataclasses.fields(StageContext)}
    table = TEXT.split("## What `ctx` offers")[1].split("A dataset's `load`")[0]
    assert set(re.findall(r"`ctx\.(\w+)", table)) == public - HOST_INTERNALS
    everywhere = set(re.findall(r"\bctx\.(\w+)", TEXT))
    assert everywhere <= public | {"cache", "announce"}  # those two are a DataContext's


def test_the_page_names_every_check_of_the_kit() -> None:
    section = TEXT.split("## Checking a plugin")[1].split("## A package")[0]
    rows = dict(re.findall(r"^\| ([\w, ]+) \| (.+) \|$", section, re.M))
    named = {
        kind: set(re.findall(r"`(\w+)`", cells)) - CONDITIONS
        for kinds, cells in rows.items()
        for kind in kinds.split(", ")
    }
    one_kind = {"leaves_frozen", "dry_runs", "alternatives_valid", "climbs"}  # said there
    for kind, checks in CHECKS.items():
        names = {check.name for check in checks}
        assert names <= named["every"] | named[kind]
        assert named[kind] - names <= one_kind
    assert set().union(*named.values()) == {check.name for checks in CHECKS.values() for check in checks}


def test_an_evaluators_attributes_have_the_defaults_the_page_says() -> None:
    for name, default in re.findall(r"^\| `(\w+)` \| `(True|False)` \|", TEXT, re.M):
        assert str(getattr(Evaluator, name)) == default


def test_check_needs_no_torch_for_the_plugins_of_this_page(walked: Path) -> None:
    code = (
        "import sys; from compressit.recipe.load import load_recipe; load_recipe('lab.yaml', trust=True);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=walked, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
