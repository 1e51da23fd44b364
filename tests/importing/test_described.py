"""`import --model`: weights that say what network they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_host
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import read_header
from compressit.errors import CompressitError
from compressit.importing.described import Described, Told
from compressit.importing.weights import import_weights


def _file(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Path, nn.Module]:
    """A training's checkpoint of a net as `tiny.mlp` builds it for 1 x 2 x 3 inputs and 5 classes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4, 5)).to(dtype)
    torch.save({"state_dict": nn.DataParallel(net).state_dict(), "epoch": 3}, folder / "net.pth")
    return folder / "net.pth", net.eval()


def _described(options: dict[str, Any], **told: Any) -> Described:
    return Described("tiny.mlp", options, Told.model_validate({"input": [1, 2, 3], **told}), tiny_host())


def test_the_checkpoint_needs_nothing_else(tmp_path: Path) -> None:
    file, net = _file(tmp_path)
    target = tmp_path / "net.safetensors"
    told = _described({"hidden": [4]}, scale={"mean": [0.5], "std": [0.25]})
    lines = list(import_weights(file, target, described=told).lines())
    assert lines[-2] == "next, in a recipe: model: {from: net.safetensors}"
    fresh = 'weights: {file: net.safetensors, fresh: ["4.*"]}'
    assert lines[-1] == f"for other classes: model: {{uses: tiny.mlp, with: {{hidden: [4]}}, {fresh}}}"
    loaded, x = checkpoint.load(target, host=tiny_host()), torch.rand(3, 1, 2, 3)
    assert torch.equal(loaded(x), net(x))
    architecture, contract = checkpoint.architecture_of(target), checkpoint.contract_of(target)
    assert architecture is not None
    assert (architecture.name, architecture.outputs) == ("tiny.mlp", 5), "the length of the last tensor"
    assert contract is not None
    assert (contract.inputs.shape, contract.scale, contract.mean, contract.std) == (
        (1, 2, 3),
        "standard",
        (0.5,),
        (0.25,),
    )
    assert contract.class_names == ("0", "1", "2", "3", "4")
    assert read_header(target).manifest.probe is not None


def test_half_precision_becomes_the_models_type(tmp_path: Path) -> None:
    file, net = _file(tmp_path, torch.float16)
    import_weights(file, tmp_path / "net.safetensors", described=_described({"hidden": [4]}))
    loaded = checkpoint.load(tmp_path / "net.safetensors", host=tiny_host())
    assert torch.equal(loaded[1].weight, net[1].weight.float())  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "told", "words"),
    [
        ({"hidden": [8]}, {}, r"1\.weight \(4, 6\), not \(8, 6\)"),
        ({"hidden": [4, 4]}, {}, r"missing: 7\.weight \(5, 4\)"),
        ({"hidden": [4]}, {"input": [7]}, r"1\.weight \(4, 6\), not \(4, 7\)"),
        ({"hidden": [4]}, {"classes": 6}, r"4\.bias \(5,\), not \(6,\)"),
    ],
)
def test_what_does_not_fit_is_told_by_names_and_shapes_and_nothing_is_written(
    tmp_path: Path, options: dict[str, Any], told: dict[str, Any], words: str
) -> None:
    file, _ = _file(tmp_path)
    with pytest.raises(CompressitError, match=words) as caught:
        import_weights(file, tmp_path / "net.safetensors", described=_described(options, **told))
    assert "--set" in str(caught.value.hint)
    assert not (tmp_path / "net.safetensors").exists()


def test_a_scale_has_a_number_for_each_channel() -> None:
    assert Told.model_validate({"input": [3, 8, 8], "scale": "imagenet"}).scale != "imagenet"
    with pytest.raises(ValueError, match="3 numbers, and inputs have 1 channels"):
        Told.model_validate({"input": [1, 8, 8], "scale": "imagenet"})
