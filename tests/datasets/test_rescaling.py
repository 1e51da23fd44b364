"""A model from a file is fed by its own mean and deviation wherever a recipe or a call names it, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import BASE, Lab, recipe_of
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.contract.compute import Compute
from compressit.contract.kinds import Dataset
from compressit.datasets.preparation import prepare
from compressit.datasets.rescaling import fed
from compressit.datasets.splits import InputSpec
from compressit.errors import RecipeError
from compressit.python.evaluation import evaluate_file
from compressit.seeds import Streams

STANDARD = BASE.replace("{uses: tiny.data}", "{uses: tiny.data, with: {scale: standard}}")
# another mean and deviation:
OTHER = STANDARD.replace("scale: standard", "scale: standard, images: 10, tone: 0.1")
SHRINK = "  shrink: {uses: tiny.shrink, with: {teacher: net.safetensors}}\n"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab with a net that was trained on inputs of scale standard."""
    lab = Lab(tmp_path)
    done = lab.run(lab.plan(STANDARD + "evaluate: [tiny.accuracy]\n"))
    (tmp_path / "net.safetensors").write_bytes(done["base/seed0/train"].model_file.read_bytes())
    return lab


def test_a_fed_model_computes_on_other_data_what_it_does_on_its_own() -> None:
    torch.manual_seed(0)
    net, pixels = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 4)), torch.rand(5, 2, 3, 3)
    own = InputSpec((2, 3, 3), "standard", (0.4, 0.6), (0.2, 0.3), ())
    data = InputSpec((2, 3, 3), "standard", (0.5, 0.1), (0.7, 0.9), ())

    def scaled(by: InputSpec) -> torch.Tensor:
        assert by.mean is not None
        assert by.std is not None
        view = (1, 2, 1, 1)
        return (pixels - torch.tensor(by.mean).view(view)) / torch.tensor(by.std).view(view)

    wanted = net(scaled(own))
    names = list(net.state_dict())
    assert not torch.allclose(net(scaled(data)), wanted, atol=1e-3)
    assert fed(net, own, own) is net
    assert torch.equal(net(scaled(own)), wanted), "not a bit is changed where nothing is to be"
    torch.testing.assert_close(fed(net, own, data)(scaled(data)), wanted)
    assert list(net.state_dict()) == names


def test_a_teacher_from_a_file_is_fed_by_its_own_statistics(lab: Lab) -> None:
    plan = lab.plan(OTHER + SHRINK)
    job = next(job for job in plan.jobs.values() if job.label.endswith("/shrink"))
    ctx = lab.runner._inputs(job, lambda event: None).context(Streams(0, "shrink"))
    file = lab.root / "net.safetensors"
    dataset = lab.host.create(Dataset, "tiny.data", job.data["config"])
    raw = dataset.load(type("Context", (), {"announce": print, "cache": lab.root})())
    as_trained = prepare(raw, dataset.config, 3, dataset.class_names, like=checkpoint.contract_of(file))
    assert ctx.data.contract.mean != as_trained.contract.mean
    alone = checkpoint.load(file, host=lab.host)
    wanted = Compute.select("cpu").forward(alone, as_trained.test.x)
    torch.testing.assert_close(ctx.compute.forward(ctx.model(str(file)), ctx.data.test.x), wanted)


def test_a_recipe_that_starts_from_a_file_is_measured_as_the_file_says(lab: Lab) -> None:
    file = lab.root / "net.safetensors"
    text = OTHER.replace("{uses: tiny.mlp}", "{from: net.safetensors}") + "evaluate: [tiny.accuracy]\n"
    found = lab.run(lab.plan(text))
    settings = ["images=10", "tone=0.1"]
    measured = evaluate_file(file, "tiny.data", settings, ["tiny.accuracy"], lab.host)
    assert found["base/seed0/init tiny.accuracy"].metrics == measured
    assert checkpoint.contract_of(found["base/seed0/train"].model_file) == checkpoint.contract_of(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BASE + SHRINK, "shrink.with.teacher: .* scale 'standard', but tiny.data gives 'unit'"),
        (BASE.replace("uses: tiny.mlp", "from: net.safetensors"), "model.from: .* scale 'standard'"),
        (
            BASE.replace("tiny.mlp", "tiny.mlp, weights: net.safetensors"),
            "model.weights: .* scale 'standard'",
        ),
    ],
)
def test_another_scale_is_refused_where_the_model_is_named(lab: Lab, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=rf"recipe\.yaml:\d+:\d+: .*{words}"):
        recipe_of(text, lab.host, folder=lab.root)


def test_other_classes_are_refused_where_the_model_is_named(lab: Lab) -> None:
    file = lab.root / "net.safetensors"
    architecture = checkpoint.Architecture("tiny.mlp", {"hidden": [4]}, (1, 2, 3), 4)
    checkpoint.save(checkpoint.build(architecture, lab.host), file, architecture, host=lab.host)
    with pytest.raises(RecipeError, match=r"recipe\.yaml:\d+:\d+: .*teacher: .* has 4 outputs"):
        recipe_of(BASE + SHRINK, lab.host, folder=lab.root)


def test_the_statistics_of_a_starting_file_are_part_of_the_keys(lab: Lab) -> None:
    text = STANDARD.replace("{uses: tiny.mlp}", "{from: net.safetensors}")
    fresh, started = lab.plan(STANDARD), lab.plan(text)
    ids = [next(iter(plan.jobs.values())).data for plan in (fresh, started)]
    assert "like" not in ids[0]
    assert ids[1]["like"]["scale"] == "standard"
    assert ids[0]["id"] != ids[1]["id"]
