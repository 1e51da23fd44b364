"""Scaffolded recipes: valid as they stand and with every commented line uncommented, quick, and explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny import PLUGINS, tiny_host

from compressit.errors import CompressitError
from compressit.host.describe import made
from compressit.host.plugins import Host
from compressit.recipe.load import parse_recipe
from compressit.recipe.model import Recipe
from compressit.scaffold.recipe import (
    Parts,
    checked_name,
    missing_options,
    recipe_text,
    stage_names,
    usual,
    usual_evaluators,
)

MORE = """
from pydantic import Field, model_validator
from compressit import (
    Compressor, Config, DataConfig, Dataset, Evaluator, File, FitConfig, Metric, Model, TensorSpec, Trainer, hookimpl
)

class Big(Dataset):
    "A lot."
    name = "a.big"
    inputs = TensorSpec((3, 32, 32))
    classes = 10
    train_size = 50_000
    def load(self, ctx): ...

class Unknown(Big):
    "Of unknown size."
    name = "a.unknown"
    train_size = None

class Broken(Big):
    name = "a.broken"
    @property
    def train_size(self):
        raise OSError

class Rigid(Model):
    name = "a.rigid"
    def build(self, inputs, outputs): ...

class NeedyConfig(Config):
    sparsity: float = Field(description="how much")
    mode: str = Field(description="how")
    rounds: int = Field(100, description="how often")

class Needy(Compressor[NeedyConfig]):
    "Wants: options # and more."
    name = "need.options"
    example = {"mode": "null", "rounds": 1}
    def compress(self, model, ctx): ...

class PairConfig(Config):
    low: int = Field(description="the least")
    high: int = Field(10, description="the most")

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError("low is above high")
        return self

class Pair(Needy, Compressor[PairConfig]):
    "Its example is right as a whole only."
    name = "need.both"
    example = {"low": 20, "high": 30}

class Longer(Trainer[FitConfig]):
    "Trains."
    name = "train.longer"
    example = {"epochs": 7, "optimizer": {"name": "adam", "lr": 0.01}}
    def train(self, model, ctx): ...

class Uninstalled(Evaluator):
    name = "eval.uninstalled"
    def declares(self, task): return {"uninstalled": Metric("lower", "bytes", "never")}
    def misfits(self, task): return {"": "needs a package"}
    def evaluate(self, model, ctx): ...

class Shipping(Evaluator):
    name = "eval.shipping"
    def declares(self, task): return {"net.bin": File("to deploy")}
    def evaluate(self, model, ctx): ...

@hookimpl
def compressit_evaluators(): return [Uninstalled, Shipping]
@hookimpl
def compressit_datasets(): return [Big, Unknown, Broken]
@hookimpl
def compressit_models(): return [Rigid]
@hookimpl
def compressit_compressors(): return [Needy, Pair]
@hookimpl
def compressit_trainers(): return [Longer]
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "more.py").write_text(MORE)
    host = tiny_host()
    host.load_file(tmp_path / "more.py")
    return host


def parts(**changed: object) -> Parts:
    usual = {
        "data": "tiny.data",
        "model": "tiny.mlp",
        "stages": ["tiny.train", "tiny.shrink"],
        "evaluate": ["tiny.size"],
    }
    return Parts(**{**usual, **changed})  # type: ignore[arg-type]


def recipe(text: str, host: Host) -> Recipe:
    return parse_recipe(text, "lab.yaml", host)


def test_it_is_valid_as_it_stands_and_with_every_default_uncommented(host: Host) -> None:
    text = recipe_text("lab", parts(report=["tiny.report"]), host)
    full = re.sub(r"^( +)# ", r"\1", text, flags=re.M)
    assert len(full) < len(text) - 10, "there were some"
    before, after = (recipe(each, host).variants[0] for each in (text, full))
    assert before.data.uses == "tiny.data"
    assert [(s.name, s.use.uses) for s in before.stages] == [
        ("tiny", "tiny.train"),
        ("shrink", "tiny.shrink"),
    ]
    assert after.data.config == before.data.config
    assert after.model.use is not None
    assert before.model.use is not None
    assert after.model.use.to_json() == before.model.use.to_json()
    assert [s.use.config for s in after.stages] == [s.use.config for s in before.stages]
    assert "uses: tiny.data  # Random dots, 1x2x3 pixels" in text


def test_every_training_is_short_and_says_that_this_is_no_default(host: Host) -> None:
    text = recipe_text("lab", parts(stages=["tiny.train", "train.longer"]), host)
    (variant,) = recipe(text, host).variants
    for stage in variant.stages:
        assert (stage.use.config["epochs"], stage.use.config["optimizer"]["name"]) == (5, "adam")
    assert text.count("epochs: 5  # quick (default ") == 2


def test_an_example_gives_only_what_has_no_default(host: Host) -> None:
    """The values a plugin is tried with are no recommendation."""
    text = recipe_text("lab", parts(stages=["need.options"]), host)
    assert 'mode: "null"  # example: how\n' in text
    assert "# rounds: 100  # how often\n" in text
    whole = recipe(recipe_text("lab", parts(stages=["need.both"]), host), host)
    assert whole.variants[0].stages[0].use.config == {"low": 20, "high": 30}, "where it needs all"


def test_every_option_of_every_installed_plugin_is_shown() -> None:
    host = Host()
    host.load_file(PLUGINS)
    for registered in host.registered():
        kinds = {
            "dataset": "data", "model": "model", "task": "task", "evaluator": "evaluate", "report": "report",
            "observer": "observe",
        }  # fmt: skip
        kind, name = kinds.get(registered.kind, "stages"), registered.plugin.name
        text = recipe_text(
            "lab", parts(**{kind: name if kind in ("data", "model", "task") else [name]}), host
        )
        block = text[text.index(f"uses: {name} ") :]
        for option, field in registered.plugin.Config.model_fields.items():
            assert re.search(rf"^ +(# )?{field.alias or option}: ", block, re.M), (name, option)
            # where defaults alone are no valid options, the example stands in their place
            if not field.is_required() and made(registered.plugin, {}) is not None:
                chosen = re.search(rf"^ +{field.alias or option}: .*", block, re.M)
                assert chosen is None or "# quick (default " in chosen.group(), (name, option)


@pytest.mark.parametrize(
    ("data", "limit"), [("a.big", 1000), ("a.unknown", 1000), ("a.broken", 1000), ("tiny.data", None)]
)
def test_large_data_sets_are_limited(host: Host, data: str, limit: int | None) -> None:
    found = re.search(r"^ +limit: (\d+)", recipe_text("lab", parts(data=data), host), re.M)
    assert (int(found.group(1)) if found else None) == limit


def test_what_only_the_user_can_know_is_marked_and_told(host: Host) -> None:
    needy = parts(stages=["need.options"])
    assert missing_options(needy, host) == ["need.options: sparsity"]
    text = recipe_text("lab", needy, host)
    assert "sparsity: null  # FILL IN: how much" in text
    filled = recipe(text.replace("sparsity: null", "sparsity: 0.5"), host).variants[0].stages[0].use.config
    assert filled == {"sparsity": 0.5, "mode": "null", "rounds": 100}


@pytest.mark.parametrize(
    "wrong",
    [{"data": "tiny.mlp"}, {"model": "tiny.data"}, {"stages": ["tiny.size"]}, {"evaluate": ["tiny.train"]}],
)
def test_a_part_of_the_wrong_kind_is_a_mistake(host: Host, wrong: dict[str, object]) -> None:
    with pytest.raises(CompressitError, match=" not "):
        recipe_text("lab", parts(**wrong), host)


def test_stages_are_called_by_their_kind_then_by_their_method() -> None:
    assert stage_names(["train.supervised", "prune.magnitude"]) == ["train", "prune"]
    assert stage_names(["prune.a", "prune.b", "prune.b", "prune.b"]) == ["prune", "b", "b2", "b3"]
    assert stage_names(["init.x", "model.previous", "_a.-b"]) == ["x", "previous2", "stage2"]


def test_choices_are_the_smallest_data_set_and_a_model_that_can_shrink(host: Host) -> None:
    chosen = [usual(host, kind) for kind in ("dataset", "model", "trainer")]
    assert chosen == ["tiny.data", "tiny.mlp", "tiny.train"]
    assert usual_evaluators(host) == ["tiny.accuracy", "tiny.size"], (
        "no options, no timing, nothing about stages, no files to deploy, nothing that is not installed"
    )
    with pytest.raises(CompressitError, match="no dataset is installed"):
        usual(Host(entry_points=False), "dataset")


@pytest.mark.parametrize("name", ["", "my lab", "../lab", ".lab", "a/b"])
def test_a_name_is_one_for_a_file(name: str) -> None:
    with pytest.raises(CompressitError, match="is not a valid recipe name"):
        checked_name(name)
    assert checked_name("lab.yaml") == checked_name("lab") == "lab"
