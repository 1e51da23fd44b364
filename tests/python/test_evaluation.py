"""Measuring a checkpoint file on a dataset, outside any recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import BASE, Lab, tiny_host

import compressit
from compressit.checkpoint import model as checkpoint
from compressit.config import Config, ModelRef
from compressit.contract.kinds import Dataset
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError, RecipeError
from compressit.host.plugins import Host
from compressit.python.evaluation import evaluate, evaluate_file
from compressit.recipe.settings import options_by_plugin
from compressit.running.loading import load_data

EVALUATORS = ("tiny.accuracy", "tiny.size")


@pytest.fixture
def host() -> Host:
    return tiny_host()


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSIT_CACHE", str(tmp_path / "cache"))


def _trained(root: Path, scale: str) -> tuple[Path, dict[str, float]]:
    """A trained checkpoint, and what its recipe measured."""
    lab = Lab(root)
    options = "{epochs: 30, optimizer: {name: adam, lr: 0.02}}"
    text = BASE.replace("tiny.train}", f"tiny.train, with: {options}}}") + "evaluate: [tiny.accuracy]\n"
    plan = lab.plan(text.replace("{uses: tiny.data}", f"{{uses: tiny.data, with: {{scale: {scale}}}}}"))
    found = lab.run(plan)
    return found["base/seed0/train"].model_file, found["base/seed0/train tiny.accuracy"].metrics


@pytest.mark.parametrize("scale", ["unit", "standard"])
def test_a_file_measures_as_it_did_in_its_recipe(tmp_path: Path, host: Host, scale: str) -> None:
    file, measured = _trained(tmp_path, scale)
    assert measured["test_accuracy"] > 0.9
    said: list[str] = []
    found = evaluate_file(file, "tiny.data", (), EVALUATORS, host, said.append)
    assert found == {**measured, "parameters": 123, "bytes": 492, "mean_weight": 2.0}
    assert said == ["loading dots"]


def test_inputs_are_scaled_as_in_training_whatever_data_they_are_measured_on(
    tmp_path: Path, host: Host
) -> None:
    """Three images have another mean and deviation; the network knows those of its training set."""
    file, measured = _trained(tmp_path, "standard")
    for limit in (3, 20):
        found = evaluate_file(file, "tiny.data", [f"limit={limit}"], ["tiny.accuracy"], host)
        assert found["test_accuracy"] == measured["test_accuracy"]
    own = evaluate_file(file, "tiny.data", ["limit=1", "scale=standard"], ["tiny.accuracy"], host)
    assert own["test_accuracy"] < measured["test_accuracy"], "unless it is asked for"


def test_another_scale_than_in_training_is_told(tmp_path: Path, host: Host) -> None:
    file, _ = _trained(tmp_path, "standard")
    for setting, told in (
        ("scale=unit", [f"{file} was trained on inputs of scale standard, but is measured on unit"]),
        ("scale=standard", []),
        ("limit=3", []),
    ):
        said: list[str] = []
        evaluate_file(file, "tiny.data", [setting], ["tiny.size"], host, said.append)
        assert [text for text in said if text != "loading dots"] == told


def test_options_of_the_dataset_are_taken(tmp_path: Path, host: Host) -> None:
    file, measured = _trained(tmp_path, "unit")
    found = evaluate_file(file, "tiny.data", ["labels=random", "seed=3"], ["tiny.accuracy"], host)
    assert found["test_accuracy"] == measured["test_accuracy"]
    assert found["train_accuracy"] < 0.7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["limit=0"], r"tiny\.data\.limit must be at least 1 \(got 0\)"),
        (["limit=many"], r"tiny\.data\.limit must be a whole number"),
        (["limits=3"], r"unknown key 'limits' in tiny\.data\n +help: did you mean 'limit'"),
        (["limit"], "must look like path=value"),
        (["limit=[1"], "--set"),
    ],
)
def test_mistakes_in_the_settings_are_told(
    tmp_path: Path, host: Host, settings: list[str], message: str
) -> None:
    file = _file(tmp_path, host)
    with pytest.raises(CompressitError, match=message):
        evaluate_file(file, "tiny.data", settings, EVALUATORS, host)


def _file(folder: Path, host: Host, shape: tuple[int, ...] = (1, 2, 3), classes: int = 3) -> Path:
    torch.manual_seed(0)
    architecture = checkpoint.Architecture("tiny.mlp", {"hidden": [4]}, shape, classes)
    net = checkpoint.build(architecture, host)
    checkpoint.save(net, folder / "net.safetensors", architecture, host=host)
    return folder / "net.safetensors"


def test_data_that_do_not_fit_are_refused(tmp_path: Path, host: Host) -> None:
    with pytest.raises(
        CompressitError, match=r"takes inputs \(1, 3, 2\) .* tiny\.data has inputs \(1, 2, 3\)"
    ):
        evaluate_file(_file(tmp_path, host, (1, 3, 2)), "tiny.data", (), EVALUATORS, host)
    with pytest.raises(CompressitError, match=r"has 4 outputs, but tiny\.data has .* and 3"):
        evaluate_file(_file(tmp_path, host, classes=4), "tiny.data", (), EVALUATORS, host)


def test_a_file_that_says_nothing_of_its_inputs_is_measured_on_unit_pixels(
    tmp_path: Path, host: Host
) -> None:
    found = evaluate_file(_file(tmp_path, host), "tiny.data", (), EVALUATORS, host)
    assert 0 <= found["test_accuracy"] <= 1


def test_an_evaluator_that_judges_a_stage_is_refused(tmp_path: Path, host: Host) -> None:
    with pytest.raises(
        CompressitError, match=r"tiny\.fidelity judges a stage of a recipe, not a single model"
    ):
        evaluate_file(_file(tmp_path, host), "tiny.data", (), ["tiny.fidelity"], host)


class Other(Config):
    than: ModelRef = "train"


def test_there_is_no_other_model_to_compare_with(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least of all the model itself, from which everything is at distance 0."""
    plugin: Any = host.find("tiny.odd").plugin
    monkeypatch.setattr(plugin, "Config", Other)
    monkeypatch.setattr(plugin, "evaluate", lambda self, model, ctx: ctx.model(self.config.than))
    with pytest.raises(CompressitError, match=r"tiny\.odd compares the model with another model, 'train'"):
        evaluate_file(_file(tmp_path, host), "tiny.data", (), ["tiny.odd"], host)


@pytest.mark.parametrize("evaluator", ["tiny.odd"])
def test_evaluators_are_held_to_what_a_recipe_holds_them_to(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch, evaluator: str
) -> None:
    plugin: Any = host.find(evaluator).plugin
    monkeypatch.setattr(plugin, "evaluate", lambda self, model, ctx: ctx.note(seen=1) or {"fine": 1.0})
    with pytest.raises(CompressitError, match=r"tiny\.odd noted 'seen'"):
        evaluate_file(_file(tmp_path, host), "tiny.data", (), [evaluator], host)
    monkeypatch.setattr(
        plugin, "evaluate", lambda self, model, ctx: torch.set_default_dtype(torch.float64) or {}
    )
    with pytest.raises(CompressitError, match=r"changed process settings .*: default dtype"):
        evaluate_file(_file(tmp_path, host), "tiny.data", (), [evaluator], host)
    assert torch.get_default_dtype() == torch.float32


def test_files_and_plugins_that_are_not_there_are_named(tmp_path: Path, host: Host) -> None:
    with pytest.raises(CompressitError, match=r"nothing\.safetensors: No such file"):
        evaluate_file(tmp_path / "nothing.safetensors", "tiny.data", (), EVALUATORS, host)
    with pytest.raises(CompressitError, match=r"no dataset is called 'tiny\.dta'"):
        evaluate_file(_file(tmp_path, host), "tiny.dta", (), EVALUATORS, host)
    with pytest.raises(CompressitError, match=r"no evaluator is called 'tiny\.sise'"):
        evaluate_file(_file(tmp_path, host), "tiny.data", (), ["tiny.sise"], host)


def test_a_contract_without_a_builder_is_not_enough(tmp_path: Path, host: Host) -> None:
    contract = InputSpec((1, 2, 3), "unit", None, None, ("a", "b", "c"))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3))
    checkpoint.save(net, tmp_path / "live.safetensors", None, contract, host=host)
    with pytest.raises(CompressitError, match="without a registered builder"):
        evaluate_file(tmp_path / "live.safetensors", "tiny.data", (), EVALUATORS, host)


GAPS = (
    BASE + "seeds: [0, 1]\n"
    "evaluate: [tiny.accuracy, {uses: tiny.gap, with: {other: train@seed=1, scale: 3.0}}]\n"
)


def _two_seeds(root: Path, host: Host) -> tuple[Path, Path, dict[str, float]]:
    """The models of two seeds, and the distance between them as their run measured it."""
    lab = Lab(root, host)
    plan = lab.plan(GAPS)
    found = lab.run(plan)
    files = [found[f"base/seed{seed}/train"].model_file for seed in (0, 1)]
    named = [root / f"{name}.safetensors" for name in "ab"]
    for file, name in zip(files, named, strict=True):
        name.write_bytes(file.read_bytes())
    return named[0], named[1], dict(found["base/seed0/train tiny.gap"].metrics)


def test_options_of_an_evaluator_and_a_model_to_compare_with_give_the_runs_numbers(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, measured = _two_seeds(tmp_path, host)
    options = {"tiny.gap": {"other": str(other), "scale": 3.0}}
    found = evaluate_file(one, "tiny.data", (), ["tiny.gap"], host, options=options)
    assert found == measured
    assert measured["weights"] > 0
    monkeypatch.setattr("compressit.python.evaluation.installed", lambda: host)
    net, than = (checkpoint.load(file, host=host) for file in (one, other))
    dataset = host.create(Dataset, "tiny.data", {})
    data = load_data(dataset, host.task(dataset.task), tmp_path, lambda text: None)
    before = than.state_dict()["1.weight"].clone()
    given = {"tiny.gap": {"other": than, "scale": 3.0}}
    assert evaluate(net, data, "tiny.gap", options=given) == measured
    assert (
        evaluate(one, data, "tiny.gap", options={"tiny.gap": {**given["tiny.gap"], "other": other}})
        == measured
    )
    assert torch.equal(than.state_dict()["1.weight"], before)
    assert all(value.requires_grad for value in than.parameters()), "the net that was given stays as it was"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiny.gap": {"scale": "much"}}, r"tiny\.gap\.scale must be a number"),
        ({"tiny.gap": {"skale": 1.0}}, r"unknown key 'skale' in tiny\.gap\n +help: did you mean 'scale'"),
        ({"tiny.gap": {"other": "no.safetensors"}}, r"no\.safetensors"),
        ({"tiny.gap": {}}, r"'previous', which only a recipe has\n +help: give the option a checkpoint"),
        ({"tiny.gab": {}}, r"'tiny\.gab', which is not measured\n +help: did you mean 'tiny\.gap'"),
    ],
)
def test_mistakes_in_an_evaluators_options_are_told(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("compressit.python.evaluation.installed", lambda: host)
    with pytest.raises(CompressitError, match=message):
        evaluate(_file(tmp_path, host), "tiny.data", "tiny.gap", options=options)


def test_with_gives_options_by_plugin() -> None:
    texts = ["eval.latency.batch_sizes=[1, 8]", "a.b.deep.er=x", "eval.latency.warmup=3"]
    assert options_by_plugin(texts, ["eval.latency", "a.b"]) == {
        "eval.latency": {"batch_sizes": [1, 8], "warmup": 3},
        "a.b": {"deep": {"er": "x"}},
    }
    with pytest.raises(RecipeError) as caught:
        options_by_plugin(["eval.size.x=1", "eval.latency"], ["eval.latency"])
    assert [str(problem).split(": ")[0] for problem in caught.value.problems] == [
        "--with eval.latency", "--with eval.size.x=1",
    ]  # fmt: skip


def test_what_is_neither_data_nor_an_evaluators_name_is_told() -> None:
    net, x = torch.nn.Flatten(), torch.rand(4, 1, 8, 8)
    data = compressit.data(train=(x, torch.arange(4)))
    with pytest.raises(CompressitError, match="data are a tuple"):
        compressit.evaluate(net, (x, torch.zeros(4)))  # type: ignore[arg-type]
    with pytest.raises(CompressitError, match="names of evaluators, not a list"):
        compressit.evaluate(net, data, ["eval.size", "eval.accuracy"])  # type: ignore[arg-type]


def test_options_without_an_evaluator_tell_how_to_name_one() -> None:
    with pytest.raises(RecipeError) as caught:
        options_by_plugin(["eval.latency.warmup=1"], [])
    assert "--evaluator" in str(caught.value.problems[0].hint)
