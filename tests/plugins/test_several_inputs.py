"""Data of several inputs, and of token ids, through everything: training, pruning, checkpoints, exports."""

from __future__ import annotations

import importlib
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from tiny import Lab
from torch.nn import functional as F

from compressit.checkpoint.inspect import facts, render
from compressit.checkpoint.model import load
from compressit.contract.nets import in_eval_mode
from compressit.datasets.batched import call, random_inputs, tensors_of
from compressit.datasets.specs import TensorSpec
from compressit.errors import CompressitError
from compressit.exporting.export import export
from compressit.host.plugins import Host
from compressit.python.data import data

PLUGINS = Path(__file__).parents[1] / "fixtures" / "several_plugins.py"
RECIPE = """\
version: 1
name: several
data: {{uses: several.{data}}}
model: {{uses: several.{model}}}
stages:
  train: {{uses: train.supervised, with: {{epochs: 10, batch_size: 8, optimizer: {{lr: 0.02}}}}}}
  prune: {{uses: prune.structured, with: {{keep: 0.625, importance: {importance}, batches: 2, recalibrate: 2}}}}
  distill: {{uses: train.distill, with: {{teacher: train, epochs: 2, batch_size: 16}}}}
evaluate: [eval.accuracy, eval.size, {{uses: eval.latency, with: {{batch_sizes: [1], repetitions: 4}}}}]
"""
ELSEWHERE = """
import sys, torch
from pathlib import Path
from compressit.checkpoint.model import contract_of, load
from compressit.datasets.batched import call, random_inputs
from compressit.host.plugins import Host
host = Host(); host.load_file(Path(sys.argv[1])); file = Path(sys.argv[2])
net = load(file, host=host)
x = random_inputs(contract_of(file).inputs, 3, torch.Generator().manual_seed(5))
with torch.no_grad():
    print(call(net, x).flatten().tolist())
"""


@pytest.fixture
def host() -> Host:
    made = Host()
    made.load_file(PLUGINS)
    return made


@pytest.mark.parametrize(
    ("given", "model", "importance", "macs"),
    # two convolutions of 6 x 6 outputs, and three layers
    [(given, "both", rule, 36 * 8 * 9 * (1 + 8) + 3 * 8 + 16 * 8 + 8 * 4)
     for given, rule in (("pair", "magnitude"), ("named", "taylor"))]
    + [("words", "reader", "magnitude", 8 * 8 + 8 * 2)],
)  # fmt: skip
def test_a_recipe_trains_prunes_distills_and_measures(
    host: Host, tmp_path: Path, given: str, model: str, importance: str, macs: int
) -> None:
    lab = Lab(tmp_path, host)
    plan = lab.plan(RECIPE.format(data=given, model=model, importance=importance))
    done = lab.run(plan)
    assert done["base/seed0/train eval.accuracy"].metrics["train_accuracy"] > 0.7
    assert done["base/seed0/train eval.size"].metrics["macs"] == macs
    assert done["base/seed0/prune eval.size"].metrics["macs"] == pytest.approx(0.625 * macs, rel=0.021)
    assert done["base/seed0/prune"].notes["masked_gap"] < 1e-5
    assert done["base/seed0/distill eval.latency"].metrics["latency_1_median_seconds"] > 0
    file = done["base/seed0/distill"].model_file
    _check_reloaded(host, file)
    _check_exported(host, file, tmp_path)


def _check_reloaded(host: Host, file: Path) -> None:
    """Another process computes the same."""
    done = warm.python("-c", ELSEWHERE, str(PLUGINS), str(file), cwd=file.parent, env=os.environ)
    assert done.returncode == 0, done.stderr
    net, x = _net_and_inputs(host, file)
    with torch.no_grad():
        assert call(net, x).flatten().tolist() == pytest.approx(eval(done.stdout), abs=1e-6)


def _check_exported(host: Host, file: Path, folder: Path) -> None:
    net, x = _net_and_inputs(host, file)
    program = torch.export.load(export(file, "torch-export", folder / "net.pt2", host=host)).module()
    with torch.no_grad():
        assert torch.allclose(call(program, x), call(net, x), atol=1e-5)
    names = list(x) if isinstance(x, dict) else ["input_0", "input_1"]
    card = (export(file, "folder", folder / "net", host=host) / "README.md").read_text()
    assert all(name in card for name in names)
    assert all(name in render(facts(file)) for name in names)


@pytest.mark.extra("onnx")
@pytest.mark.parametrize(("given", "model"), [("pair", "both"), ("named", "both"), ("words", "reader")])
def test_onnxruntime_takes_the_inputs_by_their_names(
    host: Host, tmp_path: Path, given: str, model: str
) -> None:
    lab = Lab(tmp_path, host)
    done = lab.run(lab.plan(RECIPE.format(data=given, model=model, importance="magnitude")))
    file = done["base/seed0/prune"].model_file
    net, x = _net_and_inputs(host, file)
    made = export(file, "onnx", tmp_path / "net.onnx", host=host)
    session = importlib.import_module("onnxruntime").InferenceSession(
        made, providers=["CPUExecutionProvider"]
    )
    names = [tensor.name for tensor in session.get_inputs()]
    assert names == (list(x) if isinstance(x, dict) else ["input_0", "input_1"])
    given_tensors = {name: tensor.numpy() for name, tensor in zip(names, tensors_of(x), strict=True)}
    (got,) = session.run(None, given_tensors)
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(got), call(net, x), atol=1e-5)


def _net_and_inputs(host: Host, file: Path) -> tuple[Any, Any]:
    from compressit.checkpoint.model import contract_of

    contract = contract_of(file)
    assert contract is not None
    return load(file, host=host), random_inputs(contract.inputs, 3, torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("scale: standard", "scale changes a tensor of floats, and the inputs are"),
        ("scale: imagenet", "scale changes"),
        ("augment: [flip]", "augment changes"),
        ("pixels: shuffled", "pixels changes"),
    ],
)
@pytest.mark.parametrize(("given", "model"), [("pair", "both"), ("words", "reader")])
def test_options_of_pixels_are_mistakes(
    host: Host, tmp_path: Path, given: str, model: str, options: str, told: str
) -> None:
    text = RECIPE.format(data=given, model=model, importance="magnitude")
    with pytest.raises(CompressitError, match=told.split()[0]) as caught:
        Lab(tmp_path, host).plan(
            text.replace(f"several.{given}}}", f"several.{given}, with: {{{options}}}}}")
        )
    assert "changes a tensor of floats" in str(caught.value)


def test_noise_like_several_inputs_is_refused_before_anything_is_trained(host: Host, tmp_path: Path) -> None:
    text = RECIPE.format(data="pair", model="both", importance="magnitude")
    text = text.replace(
        "train.distill, with: {teacher: train,", "shrink.noise, with: {teacher: train, images: 32,"
    )
    lab = Lab(tmp_path, host)
    plan = lab.plan(text)
    dry = [job for job in plan.jobs.values() if job.kind == "dry_run" and job.uses == "shrink.noise"]
    before = [job for job in plan.jobs.values() if job.kind in ("init", "dry_run") and job not in dry]
    for job in before:
        lab.runner.run(job, lab.events.append)
    with pytest.raises(
        CompressitError, match=r"shrink\.noise takes one tensor of floats.*input_0 \(1, 6, 6\)"
    ):
        lab.runner.run(dry[0], lab.events.append)


def test_data_of_several_inputs_come_from_python_too(host: Host) -> None:
    generator = torch.Generator().manual_seed(0)
    image, ids = (
        torch.rand(12, 1, 4, 4, generator=generator),
        torch.randint(2, 9, (12, 3), generator=generator),
    )
    y = torch.arange(12) % 3
    found = data(train=({"image": image, "ids": ids}, y), test=({"ids": ids[:6], "image": image[:6]}, y[:6]))
    assert found.contract.inputs == {
        "ids": TensorSpec((3,), "int64", int(ids.min()), int(ids.max())), "image": TensorSpec((1, 4, 4)),
    }  # fmt: skip
    pairs = [((image[i], ids[i]), int(y[i])) for i in range(12)]
    loaded = data(train=torch.utils.data.Subset(pairs, range(12)), announce=lambda text: None)  # type: ignore[arg-type]
    assert torch.equal(loaded.train.x[0], image)
    assert torch.equal(loaded.train.x[1], ids)
    (some, extra), labels = next(loaded.train.batches(4, 0))
    at = [next(i for i in range(12) if torch.equal(image[i], one)) for one in some]
    assert torch.equal(extra, ids[at])
    assert torch.equal(labels, y[at])
    with pytest.raises(CompressitError, match=r"go from 2 to 8, not 0\.\.7"):
        data(train=(ids - ids.min() + 2, y), inputs=TensorSpec((3,), "int64", 0, 7))
    with pytest.raises(CompressitError, match="statistics of data takes one tensor"):
        loaded.train.moments()


def test_random_transforms_of_several_inputs_are_read_anew() -> None:
    class Noisy(torch.utils.data.Dataset[Any]):
        def __init__(self, noise: float) -> None:
            self.noise = noise

        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            x = torch.full((2,), index / 8) + self.noise * torch.rand(2)
            return {"x": x, "ids": torch.tensor([index])}, index % 2

    found = data(train=Noisy(0.1), train_plain=Noisy(0.0), announce=lambda text: None)
    one, again, other = (list(found.train.batches(4, epoch)) for epoch in (0, 0, 1))
    for (x, y), (same, _) in zip(one, again, strict=True):
        assert torch.equal(x["x"], same["x"])
        assert torch.equal(x["ids"][:, 0] % 2, y)
        assert ((x["x"] - x["ids"] / 8) > 0).all()
    assert not torch.equal(one[0][0]["x"], other[0][0]["x"])
    plain = torch.cat([x["x"] for x, _ in found.train.ordered(3)])
    assert torch.equal(plain[:, 0], torch.arange(8) / 8)


def test_what_a_trained_model_answers_is_its_softmax_of_both_inputs(host: Host) -> None:
    """`compute.forward` gives what a hand-written loop gives."""
    from compressit.contract.compute import Compute
    from compressit.contract.kinds import Dataset, Model
    from compressit.running.loading import load_data

    dataset = host.create(Dataset, "several.pair", {})
    found = load_data(dataset, host.task(dataset.task), Path("unused"), print)
    torch.manual_seed(0)
    net = host.create(Model, "several.both", {}).build(found.contract.inputs, 4)
    image, vector = found.train.x
    with torch.no_grad(), in_eval_mode(net):
        wanted = net(image, vector)
    assert torch.allclose(Compute().forward(net, found.train, 7), wanted, atol=1e-6)
    assert math.isclose(float(F.cross_entropy(wanted, found.train.y)), math.log(4), rel_tol=0.2)
