"""Students of another kind: built by a model plugin, or from a checkpoint; in a recipe and from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

import compressit
from compressit.checkpoint.model import architecture_of, load
from compressit.errors import CompressitError, RecipeError
from compressit.host.plugins import Host, installed
from compressit.recipe.load import parse_recipe

RECIPE = """\
version: 1
name: students
data: {uses: data.synthetic, with: {train: 96, test: 32}}
model: {uses: model.mlp, with: {hidden: [24]}}
stages:
  train: {uses: train.supervised, with: {epochs: 1}}
  small: {uses: distill.soft_labels, with: {teacher: train, epochs: 2, student: STUDENT}}
  half: {uses: prune.magnitude, with: {sparsity: 0.75}}
evaluate: [eval.size]
"""
NETS = '''
import compressit
from compressit import Config, Model, hookimpl
from pydantic import Field
class Options(Config):
    outputs: int = Field(1, description="outputs")
class Net(Model[Options]):
    """A net of a local file."""
    name = "model.local"
    def build(self, inputs, outputs):
        from torch import nn
        return nn.Sequential(nn.Flatten(), nn.Linear(64, self.config.outputs))
@hookimpl
def compressit_models():
    return [Net]
'''
CONVNET = "{uses: model.convnet, with: {channels: [4]}}"


def recipe(student: str) -> str:
    return RECIPE.replace("STUDENT", student)


def mistakes(text: str, folder: Path) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "r.yaml", installed(), path=folder / "r.yaml")
    return [f"{p.where.line}:{p.where.column} {p.message}" for p in caught.value.problems if p.where]


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    """A checkpoint of a net for these data, half of whose weights are zero."""
    net = compressit.stage("prune.magnitude", sparsity=0.5)(
        _mlp(), compressit.data("data.synthetic", train=96)
    )
    file = tmp_path / "pruned.safetensors"
    compressit.save(net, file, uses="model.mlp", hidden=[12], inputs=(1, 8, 8))
    return file


def _lab(folder: Path, host: Host | None = None) -> tiny.Lab:
    return tiny.Lab(folder, host or Host())


def _mlp() -> nn.Module:
    torch.manual_seed(3)
    return (
        installed()
        .create(compressit.Model, "model.mlp", {"hidden": [12]})
        .build(compressit.TensorSpec((1, 8, 8)), 10)
    )


def test_a_net_of_another_kind_learns_and_says_what_it_is(tmp_path: Path) -> None:
    lab = _lab(tmp_path)
    done = lab.run(lab.plan(recipe(CONVNET)))
    for stage in ("small", "half"):  # what follows starts from it
        file = done[f"base/seed0/{stage}"].model_file
        built = architecture_of(file)
        assert built is not None
        assert (built.name, built.config["channels"]) == ("model.convnet", [4])
        assert sum(p.numel() for p in load(file).parameters()) == 4 * 9 + 2 * 4 + 4 * 10 + 10
    assert done["base/seed0/small"].notes["epochs"] == 2


def test_its_weights_are_drawn_by_the_stages_stream_and_as_the_recipe_says(tmp_path: Path) -> None:
    """`hard: 1` and a rate of almost nothing: the result is the fresh net."""
    still = recipe(CONVNET).replace("epochs: 2", "epochs: 1, hard: 1, optimizer: {lr: 1.0e-30}")
    scaled = still.replace("hidden: [24]}", "hidden: [24]}, init: {scale: 2.0}")
    nets: list[dict[str, Any]] = []
    for number, text in enumerate((still, still, scaled)):
        lab = _lab(tmp_path / str(number))
        nets.append(load(lab.run(lab.plan(text))["base/seed0/small"].model_file).state_dict())
    once, again, twice = nets
    assert all(torch.equal(once[name], again[name]) for name in once)
    torch.testing.assert_close(twice["output.weight"], 2 * once["output.weight"])


def test_a_checkpoint_is_trained_on_with_its_zeros(tmp_path: Path, pruned: Path) -> None:
    lab = _lab(tmp_path)
    done = lab.run(lab.plan(recipe("pruned.safetensors")))
    before, after = load(pruned), load(done["base/seed0/small"].model_file)
    assert not torch.equal(before.get_parameter("linear1.weight"), after.get_parameter("linear1.weight"))
    for name, value in before.named_parameters():
        if value.ndim > 1:
            assert torch.equal(value == 0, after.get_parameter(name) == 0), name
    assert "base/seed0/small dry run" in done


def test_options_are_checked_where_they_are_written(tmp_path: Path) -> None:
    assert mistakes(recipe("{uses: model.mlp, with: {bias: 2, depth: 3}}"), tmp_path) == [
        "7:112 stages.small.with.student.with.bias must be true or false (got 2)",
        "7:115 unknown key 'depth' in stages.small.with.student.with",
    ]
    (unknown,) = mistakes(recipe("{uses: model.mpl}"), tmp_path)
    assert unknown.startswith("7:88 stages.small.with.student.uses")
    (other,) = mistakes(recipe("{uses: train.supervised}"), tmp_path)
    assert other.startswith("7:88 stages.small.with.student.uses")


@pytest.mark.parametrize(
    ("student", "told"),
    [
        ("train", "must be a model plugin or a checkpoint"),
        ("missing.safetensors", "there is no file missing.safetensors"),
        (f"{CONVNET}, width: 0.3", "stands beside `width`"),
    ],
)
def test_what_is_no_student_is_a_mistake(student: str, told: str, tmp_path: Path) -> None:
    (found,) = mistakes(recipe(student), tmp_path)
    assert told in found


def test_a_checkpoint_for_other_classes_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "three.safetensors"
    net = _mlp()
    net.register_module("output", nn.Linear(12, 3))
    compressit.save(net, file, uses="model.mlp", hidden=[12], inputs=(1, 8, 8))
    (found,) = mistakes(recipe("three.safetensors"), tmp_path)
    assert found.startswith("7:81 stages.small.with.student: ")
    assert "3" in found


def test_defaults_are_written_out_and_written_options_are_read_back(tmp_path: Path) -> None:
    made = parse_recipe(recipe("{uses: model.mlp}"), "r.yaml", installed(), path=tmp_path / "r.yaml")
    student = made.variants[0].stages[1].use.config["student"]
    assert student == {
        "uses": "model.mlp",
        "with": {"hidden": [512, 512], "activation": "relu", "bias": True, "residual": False},
    }
    again = parse_recipe(recipe(str(student).replace("True", "true")), "r.yaml", installed())
    assert again.variants[0].stages[1].use.config["student"] == student


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path / "nets.py"


def _with_local(student: str) -> str:
    return recipe(student).replace("data:", "plugins: [nets.py]\ndata:", 1)


def test_wrong_outputs_are_told_before_anything_is_trained(tmp_path: Path, local: Path) -> None:
    host = Host()
    host.load_file(local)
    lab = _lab(tmp_path, host)
    plan = lab.plan(_with_local("{uses: model.local, with: {outputs: 7}}"))
    with pytest.raises(CompressitError, match="7"):
        lab.run(plan)
    assert not list(tmp_path.rglob("*train*.safetensors"))


def test_the_students_code_is_part_of_the_key(tmp_path: Path, local: Path) -> None:
    def keys() -> dict[str, str]:
        host = Host()
        host.load_file(local)
        plan = _lab(tmp_path, host).plan(_with_local("{uses: model.local, with: {outputs: 10}}"))
        return {job.label: job.key for job in plan.jobs.values()}

    before = keys()
    local.write_text(NETS.replace("nn.Flatten(), ", "nn.Flatten(), nn.Identity(), "))
    after = keys()
    moved = {label.removeprefix("base/seed0/") for label in before if before[label] != after[label]}
    assert {"small", "small dry run", "half"} <= moved
    assert not moved & {"init", "train"}


def test_in_python_too(pruned: Path) -> None:
    data = compressit.data("data.synthetic", train=96)
    method = compressit.stage(
        "distill.soft_labels",
        teacher=_mlp(),
        epochs=1,
        student={"uses": "model.mlp", "with": {"hidden": [5]}},
    )
    assert method(_mlp(), data).get_parameter("linear1.weight").shape == (5, 64)
    trained = compressit.stage("distill.soft_labels", teacher=_mlp(), epochs=1, student=pruned)(_mlp(), data)
    zeros = load(pruned).get_parameter("linear1.weight") == 0
    assert torch.equal(trained.get_parameter("linear1.weight") == 0, zeros)
    with pytest.raises(CompressitError, match=r"student\.with\.hidden\.0 must be a whole number"):
        compressit.stage("distill.soft_labels", student={"uses": "model.mlp", "with": {"hidden": ["a"]}})


def test_in_python_a_list_of_nets_teaches_the_mean_of_their_logits() -> None:
    """As one net whose logits are that mean does: Sequential nets side by side."""

    class Mean(nn.Module):
        def __init__(self, *nets: nn.Module) -> None:
            super().__init__()
            self.nets = nn.ModuleList(nets)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([net(x) for net in self.nets]).mean(0)

    def twin(seed: int) -> nn.Module:
        net = _mlp()
        torch.manual_seed(seed)
        nn.init.normal_(net.get_parameter("output.weight"))
        return net

    data = compressit.data("data.synthetic", train=96)
    nets = [twin(1), twin(2)]
    both, mean, one = (
        compressit.stage("train.distill", teacher=teacher, epochs=1, hard=0)(_mlp(), data)
        for teacher in (nets, Mean(*nets), nets[0])
    )
    for ours, theirs in zip(both.parameters(), mean.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(both.get_parameter("output.weight"), one.get_parameter("output.weight"))
    with pytest.raises(CompressitError, match="takes no teacher"):
        compressit.stage("prune.magnitude", teacher=nets, sparsity=0.5)
    with pytest.raises(CompressitError, match="teacher must be text or must have at least 1 item"):
        compressit.stage("train.distill", teacher=[])
