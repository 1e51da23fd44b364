"""docs/recipe.md: the tables are those of the code, every example is a valid recipe, what it says is so."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from blocks import DOCS, blocks, run_line

import compressit
from compressit.host.plugins import Host, installed
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan
from compressit.recipe.envelope import KEYS, OVERRIDABLE
from compressit.recipe.load import load_recipe, parse_recipe
from compressit_plugins.models.mlp import Mlp, MlpConfig

PAGE = "recipe.md"
TEXT = (DOCS / PAGE).read_text(encoding="utf-8")
BASE = {
    "version": "version: 1",
    "name": "name: base",
    "data": "data: {uses: data.synthetic}",
    "model": "model: {uses: model.mlp}",
    "stages": "stages: {train: {uses: train.supervised}}",
}
FRAGMENTS = [b.text for b in blocks(PAGE) if b.language == "yaml" and not b.title]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's files, and the checkpoint one of them starts from."""
    for block in blocks(PAGE):
        if block.title:
            block.write(tmp_path)
    data = compressit.data("data.synthetic", train=8, test=8)
    inputs, classes = data.contract.inputs, data.classes
    net = Mlp(MlpConfig()).build(inputs, classes)
    file = tmp_path / "trained.safetensors"
    compressit.save(net, file, uses="model.mlp", inputs=inputs, outputs=classes, contract=data.contract)
    return tmp_path


def tour(folder: Path, profile: str | None = None, settings: Sequence[str] = ()) -> Plan:
    recipe = load_recipe(folder / "recipe.yaml", host=installed(), profile=profile, settings=settings)
    return make_plan(recipe, installed())


def test_the_tables_are_not_stale(generate: ModuleType) -> None:
    assert generate.render(TEXT) == TEXT, "run `python docs/generate.py`"


def test_every_option_of_every_built_in_plugin_is_there_with_a_description() -> None:
    own = [r.plugin for r in Host().registered() if r.owner.startswith("compressit ")]
    assert len(own) > 10
    for plugin in own:
        assert f"#### `{plugin.name}`" in TEXT
        for name, field in plugin.Config.model_fields.items():
            assert field.description, f"{plugin.name}.{name} has no description"
            assert field.description.replace("|", "\\|") in TEXT, f"{plugin.name}.{name}"


@pytest.mark.parametrize("name", [block.title for block in blocks(PAGE) if block.title])
def test_a_whole_recipe_is_valid(folder: Path, name: str) -> None:
    assert load_recipe(folder / name, host=installed()).variants


def _marked(text: str) -> Any:
    marks = [pytest.mark.extra("tensorboard")] if "observe.tensorboard" in text else []
    return pytest.param(text, marks=marks, id=text[:20])


@pytest.mark.parametrize("text", map(_marked, FRAGMENTS))
def test_a_fragment_is_valid_in_a_recipe(text: str) -> None:
    keys = re.findall(r"^(\w+):", text, re.M)
    base = "\n".join(line for key, line in BASE.items() if key not in keys)
    assert parse_recipe(f"{base}\n{text}", "recipe.yaml", installed()).variants


def test_the_tour_makes_the_models_the_page_names(folder: Path) -> None:
    plan = tour(folder)
    names = {point.name for point in plan.points}
    assert names == {
        "train", "prune@sparsity=0.5", "prune@sparsity=0.9", "rounds-01", "rounds-02", "rounds-03",
    }  # fmt: skip
    for name in ("prune@sparsity=0.5", "prune@sparsity=0.9", "rounds-01", "rounds-02", "rounds-03"):
        assert f"`{name}`" in TEXT
    assert {(p.variant, p.seed) for p in plan.points} == {(v, s) for v in ("real", "fake") for s in (0, 1)}
    init = {job.key for job in plan.jobs.values() if job.kind == "init"}
    assert len(init) == 2  # one for each seed: variants share it


def test_the_profile_and_settings_change_what_the_page_says(folder: Path) -> None:
    plan = tour(folder, "quick", ["seeds=[3]", "stages.prune=null"])
    assert {point.name for point in plan.points} == {"train", "rounds-01", "rounds-02"}
    assert {point.seed for point in plan.points} == {3}


def test_what_a_profile_cannot_change_is_what_the_page_says() -> None:
    fixed = set(KEYS) - set(OVERRIDABLE)
    assert fixed == {"version", "name", "plugins", "profiles"}
    sentence = TEXT.split("it may change everything but ")[1].split(".")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == fixed


def test_the_commands_of_the_page_run(folder: Path) -> None:
    lines = [line for b in blocks(PAGE) if b.language == "sh" for line in b.text.splitlines()]
    assert lines
    for line in lines:
        printed = run_line(line, folder, {"COMPRESSIT_STORE": str(folder / "store")})
        assert "seed3/rounds-02" in printed


@pytest.mark.parametrize("page", ["recipe.md", "writing-a-plugin.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.S | re.M)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        if "://" not in link:
            file, _, anchor = link.partition("#")
            target = DOCS / (file or page)
            assert target.exists(), link
            assert not anchor or anchor in _anchors(target), link


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
