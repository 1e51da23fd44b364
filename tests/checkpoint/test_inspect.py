from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from compressit.checkpoint.header import copy_with
from compressit.checkpoint.inspect import facts, render
from compressit.checkpoint.model import save
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host

from .samples import MLP, TIED


def test_facts_are_the_models_own(make: Callable[..., nn.Module], host: Host, tmp_path: Path) -> None:
    model, path = make(TIED), tmp_path / "tied.safetensors"
    save(model, path, TIED, host=host, metrics={"test_accuracy": 0.75})
    found = facts(path)
    assert found["parameters"] == sum(p.numel() for p in model.parameters()) == 9 * 6
    assert found["tensors"] == [{"name": "embed.weight", "dtype": "F32", "shape": [9, 6]}]
    assert (found["tensor_bytes"], found["file_bytes"]) == (9 * 6 * 4, path.stat().st_size)
    assert found["tied"] == [["embed.weight", "head.weight"]]
    assert found["model"]["name"] == "tiny.tied"
    assert found["metrics"] == {"test_accuracy": 0.75}
    assert json.loads(json.dumps(found)) == found


def test_the_text_says_what_it_is_what_it_eats_and_where_it_comes_from(
    make: Callable[..., nn.Module], host: Host, tmp_path: Path
) -> None:
    path = tmp_path / "mlp.safetensors"
    contract = InputSpec((1, 4, 4), "standard", (0.5,), (0.25,), ("cat", "dog", "cow", "hen", "ant"))
    lineage = [
        {"stage": "train", "uses": "train.sgd", "seed": 3},
        {"stage": "blog-02", "uses": "shrink.noise"},
    ]
    metrics = {"test_accuracy": 0.954, "ratio": float("nan")}
    save(make(MLP), path, MLP, contract, host, lineage, metrics)
    text = render(facts(path))
    for line in (
        'model        tiny.mlp {"hidden": [12, 8]} (from tiny_plugins.py)',
        "inputs       (1, 4, 4), 5 outputs",
        f"parameters   {16 * 12 + 12 + 12 * 8 + 8 + 8 * 5 + 5:,}",
        "(value - [0.5]) / [0.25] per channel",
        "class names  cat, dog, cow, hen, ant",
        'train: train.sgd {"seed": 3}',
        "test_accuracy  0.954",
        "ratio          not finite",
        "1.weight  F32    12 x 16",
    ):
        assert line in text
    assert text.index("train: train.sgd") < text.index("blog-02: shrink.noise")
    assert "changed" not in text


def test_what_changed_since_the_model_was_built_is_said(
    make: Callable[..., nn.Module], host: Host, tmp_path: Path
) -> None:
    model = make(MLP)
    model[1] = host.module_types()[-1].cls()(16, 3, 12)
    save(model, tmp_path / "a.safetensors", MLP, host=host)
    assert "1 is a tiny.LowRank" in render(facts(tmp_path / "a.safetensors"))
    save(make(MLP), tmp_path / "b.safetensors", None, host=host)
    assert "no registered builder" in render(facts(tmp_path / "b.safetensors"))


def test_a_file_cannot_send_commands_to_the_terminal(saved: Path) -> None:
    copy_with(saved, saved, lineage=[{"stage": "a\x1b]0;owned\x07\nb", "uses": "\u202ereversed"}])
    text = render(facts(saved))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"a\x1b]0;owned\x07\nb" in text


def test_damage_is_not_described_as_a_checkpoint(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-1] ^= 255
    saved.write_bytes(content)
    with pytest.raises(CompressitError, match="were changed"):
        facts(saved)
