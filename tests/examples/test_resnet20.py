"""examples/resnet20_cifar10jpeg.yaml, with a small net and few images in place of the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import Bench

import compressit
from compressit.host.plugins import installed
from compressit.importing.described import Described, Told
from compressit.importing.weights import import_weights
from compressit_plugins.models.published import CifarResnet

RECIPE = Path(__file__).parent.parent.parent / "examples" / "resnet20_cifar10jpeg.yaml"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _photos(folder: Path, each: int) -> None:
    """JPEG files of ten classes, each with a brightness of its own."""
    draws = np.random.default_rng(0)
    for part in ("train", "test"):
        for label, name in enumerate(CLASSES):
            (folder / part / name).mkdir(parents=True)
            for number in range(each):
                pixels = draws.integers(0, 30, (32, 32, 3)) + 22 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{number:04}.jpg")


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A ResNet-8 in the form of the published files, imported."""
    torch.manual_seed(0)
    state = CifarResnet((3, 32, 32), 10, blocks=1, width=8).state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "r.th")
    told = Told.model_validate({"input": [3, 32, 32], "scale": "imagenet"})
    described = Described("model.cifar_resnet", {"depth": 8, "width": 8}, told, installed())
    import_weights(tmp_path / "r.th", tmp_path / "resnet.safetensors", described=described)
    return tmp_path / "resnet.safetensors"


def test_an_imported_net_and_class_folders_become_a_smaller_recovered_net(
    bench: Bench, imported: Path, tmp_path: Path
) -> None:
    _photos(tmp_path / "photos", each=16)
    settings = [
        f"model.from={imported}", f"data.with.root={tmp_path / 'photos'}", "data.with.limit=160",
        "data.with.validation=20", "stages.tune.with.epochs=8", "variants.half.stages.recover.with.epochs=8",
        "stages.tune.with.batch_size=16", "variants.half.stages.recover.with.batch_size=16",
    ]  # fmt: skip
    recipe = compressit.load_recipe(RECIPE, "quick", settings)
    run = compressit.run(recipe, out=tmp_path / "run", store=tmp_path / "store")
    rows = {row.stage: row.metrics for row in run.results.rows}
    assert rows["recover"]["macs"] / rows["tune"]["macs"] == pytest.approx(0.5, abs=0.02)
    assert rows["tune"]["test_accuracy"] > rows["init"]["test_accuracy"] + 0.1
    assert rows["recover"]["test_accuracy"] > rows["prune"]["test_accuracy"]
    small = compressit.load(run.folder / "checkpoints" / "half" / "seed0" / "recover.safetensors")
    assert small(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
