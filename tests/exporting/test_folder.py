from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt
from ruamel.yaml import YAML
from torch import nn

from compressit.checkpoint.header import copy_with, read_header
from compressit.checkpoint.model import Architecture, load, save
from compressit.contract.results import Results, Row
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.exporting.export import export
from compressit.host.plugins import Host

from .conftest import CONV, HEADS, TIED, TINY

Saved = Callable[..., Path]
FILES = ["README.md", "config.json", "model.safetensors"]
LINEAGE = [
    {"stage": "init", "uses": "tiny.conv", "config": {"channels": [8, 12]}, "seed": 0, "key": "00"},
    {"stage": "prune", "uses": "prune.x", "config": {"sparsity": 0.5}, "seed": 0, "key": "01",
     "variant": "base", "data": {"uses": "data.x", "config": {"limit": 10}}},
]  # fmt: skip
CONTRACT = InputSpec((2, 6, 6), "standard", (0.25, 0.5), (0.5, 0.5), ("cat", "dog", "<b>cow</b>"))


def front_matter(card: str) -> dict[str, object]:
    _, front, _ = card.split("---\n", 2)
    return YAML(typ="safe", pure=True).load(front)


def test_the_folder_holds_the_checkpoint_its_facts_and_a_card(saved: Saved, host: Host) -> None:
    path = saved(CONV, 0.5, lineage=LINEAGE, metrics={"test_accuracy": 0.5, "loss": 1e-7}, contract=CONTRACT)
    out = export(path, "folder", host=host)
    assert out == path.with_suffix("")
    assert sorted(file.name for file in out.iterdir()) == FILES
    model, again = load(path, host=host), load(out / "model.safetensors", host=host)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    values = list(model.parameters())
    assert config["sizes"] == {
        "parameters": sum(p.numel() for p in values),
        "nonzero": sum(int((p != 0).sum()) for p in values),
        # 3x3 convolutions of 36 places: dense, depthwise, dense; the classifier on 12 channels of 3x3
        "macs": 36 * 9 * (2 * 8 + 8 + 8 * 12) + 12 * 9 * 3,
        "bytes": sum(v.numel() * v.element_size() for v in model.state_dict().values()),
        "file_bytes": (out / "model.safetensors").stat().st_size,
    }
    assert config["architecture"] == {
        "name": "tiny.conv", "config": {"channels": [8, 12]}, "owner": "tiny_models.py"
    }  # fmt: skip
    assert (config["lineage"], config["metrics"]) == (LINEAGE, {"test_accuracy": 0.5, "loss": 1e-7})
    assert config["input"]["class_names"] == ["cat", "dog", "<b>cow</b>"]
    card = (out / "README.md").read_text(encoding="utf-8")
    front = front_matter(card)
    assert front["metrics"] == {"test_accuracy": 0.5, "loss": 1e-7}
    assert front["sizes"] == config["sizes"]
    for line in (
        '| `prune` | `prune.x` | `{"sparsity": 0.5}` | `data.x {"limit": 10}` |',
        "| `test_accuracy` | 0.5 |",
        "| `macs` | 39,204 |",
        'installed().load_file(Path("tiny_models.py"))  # defines the network',
        "Scale values to their range (pixels to [0, 1]), then subtract the mean `[0.25, 0.5]` and divide by the "
        "standard deviation `[0.5, 0.5]` per channel.",
        "Class names: `cat, dog, <b>cow</b>`.",
    ):
        assert line in card.splitlines(), line
    assert "## Recipe" not in card


def test_the_cards_code_loads_the_model(saved: Saved, host: Host, tmp_path: Path) -> None:
    out = export(saved(CONV), "folder", host=host)
    (out / "tiny_models.py").write_text(TINY.read_text(encoding="utf-8"), encoding="utf-8")
    _, _, source = (out / "README.md").read_text(encoding="utf-8").partition("```python\n")
    source = source.partition("```")[0] + "print(sum(p.numel() for p in net.parameters()), net.training)\n"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=out, capture_output=True, text=True, check=False
    )
    assert done.stdout == "1475 False\n", done.stderr


def test_any_model_has_a_folder(saved: Saved, host: Host) -> None:
    """Tokens, and a net that torch.export cannot follow."""
    config = json.loads((export(saved(TIED), "folder", host=host) / "config.json").read_text())
    assert config["sizes"]["macs"] == 6 * 9
    assert config["sizes"]["parameters"] == 54
    export(saved(HEADS), "folder", host=host)


def test_a_compact_folder_is_smaller_and_loads_dense(saved: Saved, host: Host, tmp_path: Path) -> None:
    path = saved(Architecture("tiny.mlp", {"hidden": [99, 64]}, (1, 8, 8), 5), 0.9)
    out = export(path, "folder", tmp_path / "small", host=host, compact=True)
    weights = out / "model.safetensors"
    assert weights.stat().st_size < path.stat().st_size / 4
    assert read_header(weights).manifest.compact.keys() == {"1.weight", "1.bias", "4.weight", "7.weight"}
    model, again = load(path, host=host), load(weights, host=host)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    config = json.loads((out / "config.json").read_text())
    assert config["sizes"]["bytes"] == 4 * sum(p.numel() for p in model.parameters())
    assert "which stores sparse tensors without their zeros" in (out / "README.md").read_text()
    back = export(weights, "folder", tmp_path / "again", host=host)
    again_manifest = read_header(back / "model.safetensors").manifest
    assert again_manifest == read_header(weights).manifest, "it stays compact"


def test_a_folder_of_an_export_is_written_anew_and_no_other(saved: Saved, host: Host, tmp_path: Path) -> None:
    path = saved(CONV, metrics={"loss": 1.0})
    out = export(path, "folder", host=host)
    (out / ".gitattributes").write_text("kept")
    copy_with(path, path, metrics={"loss": 2.0})
    export(path, "folder", host=host)
    assert "| `loss` | 2 |" in (out / "README.md").read_text()
    assert sorted(file.name for file in out.iterdir()) == sorted([*FILES, ".gitattributes"])
    assert {file.name for file in tmp_path.iterdir()} == {"net", "net.safetensors"}, "nothing left behind"
    for name, content in {"notes.txt": "mine", "config.json": '{"model_type": "bert"}'}.items():
        other = tmp_path / f"with-{name}"
        other.mkdir()
        (other / name).write_text(content)
        with pytest.raises(CompressitError, match="exists, and no export wrote it"):
            export(path, "folder", other, host=host)
        assert [file.name for file in other.iterdir()] == [name]
    with pytest.raises(CompressitError, match="exists, and no export wrote it"):
        export(path, "folder", path, host=host)
    (tmp_path / "empty").mkdir()
    assert export(path, "folder", tmp_path / "empty", host=host).is_dir()


def test_the_recipe_of_a_run_folder_is_in_the_card(saved: Saved, host: Host, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    file = run / "checkpoints" / "base" / "seed1" / "prune.safetensors"
    file.parent.mkdir(parents=True)
    saved(CONV).rename(file)
    row = Row(
        "base", "prune", None, "", 1, "prune.x", None, {}, {}, {},
        checkpoint="checkpoints/base/seed1/prune.safetensors",
    )  # fmt: skip
    text = "version: 1  # ```\nstages: {prune: {uses: prune.x}}\n"
    config = {"recipe": {"file": "my first.yaml", "text": text, "settings": ["name=x"]}, "plugins": [{}]}
    Results("first", "quick", [row], {}, {}, config=config, description="Try it.").write_json(
        run / "results.json"
    )
    card = (export(file, "folder", tmp_path / "out", host=host) / "README.md").read_text()
    assert "`first`, profile `quick`, variant `base`, seed 1: `Try it.`\n\nTo reproduce the model" in card
    blocks = {
        token.info: token.content for token in MarkdownIt("commonmark").parse(card) if token.type == "fence"
    }
    assert blocks["yaml"] == text
    assert blocks["sh"] == "compressit run 'my first.yaml' --profile quick --set name=x --trust\n"
    Results("first", None, [row], {}, {}, config={"variants": {}}).write_json(run / "results.json")
    card = (export(file, "folder", tmp_path / "out", host=host) / "README.md").read_text()
    assert "The recipe was created in Python" in card
    (run / "results.json").write_text("[]")
    assert "## Recipe" not in (export(file, "folder", tmp_path / "out", host=host) / "README.md").read_text()


def test_what_cannot_be_exported_is_refused_at_once(saved: Saved, host: Host, tmp_path: Path) -> None:
    path = saved(CONV)
    for arguments, message in {
        ("onyx", None): "unknown export format",
        ("onnx", tmp_path / "net.pt2"): r"for onnx, give a file name that ends in \.onnx",
        ("torch-export", tmp_path): r"ends in \.pt2",
    }.items():
        with pytest.raises(CompressitError, match=message):
            export(path, *arguments, host=host)
    with pytest.raises(CompressitError, match="--compact only works with --to folder"):
        export(path, "onnx", host=host, compact=True)
    save(nn.Linear(2, 2), live := tmp_path / "live.safetensors", host=host)
    with pytest.raises(CompressitError, match=r"live\.safetensors was saved without a registered model"):
        export(live, "folder", host=host)
    with pytest.raises(CompressitError, match="nowhere"):
        export(tmp_path / "nowhere.safetensors", "folder", host=host)
    assert {file.name for file in tmp_path.iterdir()} == {"net.safetensors", "live.safetensors"}
