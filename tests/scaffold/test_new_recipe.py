"""Scaffolded recipes: valid as they stand and with every commented line uncommented, quick, and explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny import tiny_host

from compressit.errors import CompressitError
from compressit.plugins import Host
from compressit.recipe.load import parse_recipe
from compressit.recipe.model import Recipe
from compressit.scaffold.recipe import (
    Parts,
    any_trainer,
    checked_name,
    missing_options,
    plainest_model,
    recipe_text,
    smallest_dataset,
    stage_names,
    usual_evaluators,
)

MORE = """
from pydantic import Field
from compressit import Compressor, Config, DataConfig, Dataset, FitConfig, Model, Trainer, hookimpl

class Big(Dataset):
    "A lot."
    name = "a.big"
    input_shape = (3, 32, 32)
    classes = 10
    train_size = 50_000

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

class NeedyConfig(Config):
    amount: float = Field(description="how much")
    mode: str = Field(description="how")

class Needy(Compressor[NeedyConfig]):
    "Wants: options # and more."
    name = "need.options"
    example = {"mode": "null"}

class Longer(Trainer[FitConfig]):
    "Trains."
    name = "train.longer"
    example = {"epochs": 7, "optimizer": {"name": "adam", "lr": 0.01}}

@hookimpl
def compressit_datasets(): return [Big, Unknown, Broken]
@hookimpl
def compressit_models(): return [Rigid]
@hookimpl
def compressit_compressors(): return [Needy]
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


def test_it_is_valid_as_it_stands_and_names_what_was_chosen(host: Host) -> None:
    text = recipe_text("lab", parts(report=["tiny.report"]), host)
    (variant,) = recipe(text, host).variants
    assert variant.data.uses == "tiny.data"
    assert [(stage.name, stage.use.uses) for stage in variant.stages] == [
        ("tiny", "tiny.train"),
        ("shrink", "tiny.shrink"),
    ]
    assert "uses: tiny.data  # Random dots, 1x2x3 pixels" in text


def test_uncommenting_every_option_changes_nothing(host: Host) -> None:
    text = recipe_text("lab", parts(), host)
    full = re.sub(r"^( +)# ", r"\1", text, flags=re.M)
    assert len(full) < len(text) - 10, "there were some"
    before, after = (recipe(each, host).variants[0] for each in (text, full))
    assert after.data.config == before.data.config
    assert after.model == before.model
    assert [s.use.config for s in after.stages] == [s.use.config for s in before.stages]


def test_training_is_short_unless_the_plugin_gives_an_example(host: Host) -> None:
    (variant,) = recipe(recipe_text("lab", parts(stages=["tiny.train", "train.longer"]), host), host).variants
    first, second = (stage.use.config for stage in variant.stages)
    assert (first["epochs"], second["epochs"]) == (5, 7)
    assert second["optimizer"]["name"] == "adam"


@pytest.mark.parametrize(
    ("data", "limit"), [("a.big", 1000), ("a.unknown", 1000), ("a.broken", 1000), ("tiny.data", None)]
)
def test_large_data_sets_are_limited(host: Host, data: str, limit: int | None) -> None:
    (variant,) = recipe(recipe_text("lab", parts(data=data), host), host).variants
    assert variant.data.config["limit"] == limit


def test_what_only_the_user_can_know_is_marked_and_told(host: Host) -> None:
    needy = parts(stages=["need.options"])
    assert missing_options(needy, host) == ["need.options: amount"]
    text = recipe_text("lab", needy, host)
    assert "amount: null  # FILL IN: how much" in text
    filled = recipe(text.replace("amount: null", "amount: 0.5"), host).variants[0].stages[0].use.config
    assert filled == {"amount": 0.5, "mode": "null"}


def test_a_part_of_the_wrong_kind_is_a_mistake(host: Host) -> None:
    for wrong in (
        {"data": "tiny.mlp"},
        {"model": "tiny.data"},
        {"stages": ["tiny.size"]},
        {"evaluate": ["tiny.train"]},
    ):
        with pytest.raises(CompressitError, match=" not "):
            recipe_text("lab", parts(**wrong), host)


def test_stages_are_called_by_their_kind_then_by_their_method() -> None:
    assert stage_names(["train.supervised", "prune.magnitude"]) == ["train", "prune"]
    assert stage_names(["prune.a", "prune.b", "prune.b", "prune.b"]) == ["prune", "b", "b2", "b3"]
    assert stage_names(["init.x", "model.previous", "_a.-b"]) == ["x", "previous2", "stage2"]


def test_choices_are_the_smallest_data_set_and_a_model_that_can_shrink(host: Host) -> None:
    assert smallest_dataset(host) == "tiny.data"
    assert plainest_model(host) == "tiny.mlp"
    assert any_trainer(host) == "tiny.train"
    assert usual_evaluators(host) == [
        "tiny.accuracy",
        "tiny.odd",
        "tiny.size",
    ]  # no timing, nothing about stages
    with pytest.raises(CompressitError, match="no dataset is installed"):
        smallest_dataset(Host(entry_points=False))


@pytest.mark.parametrize("name", ["", "my lab", "../lab", ".lab", "a/b"])
def test_a_name_is_one_for_a_file(name: str) -> None:
    with pytest.raises(CompressitError, match="is no name for a recipe"):
        checked_name(name)
    assert checked_name("lab.yaml") == checked_name("lab") == "lab"
