"""docs/halve.md: own images and own weights become a pruned, recovered and exported net, by its blocks alone."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from blocks import Block, blocks, own_places, run_line, shows

import compressit

PAGE = "halve.md"
TIMES = "{uses: eval.latency, stages: [train, recover]}"
FEWER = TIMES.replace("}", ", with: {warmup: 1, repetitions: 4}}")  # 50 passes of 128 images say no more
MADE = Path("runs", "halve", "checkpoints", "base", "seed0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every block of the page has run, in its order."""
    folder = tmp_path_factory.mktemp("halve")
    environment = own_places(folder)
    printed = ""
    for block in blocks(PAGE):
        if block.title == "halve.yaml":
            assert TIMES in block.text
            block = replace(block, text=block.text.replace(TIMES, FEWER))
        if block.title:
            block.write(folder)
        elif block.language == "sh":
            printed = "".join(run_line(line, folder, environment) for line in block.text.splitlines())
        else:
            for line in block.text.splitlines():
                assert shows(printed, line), f"not printed: {line}\n{printed}"
    return folder


def test_the_net_has_half_the_macs_and_reloads(folder: Path) -> None:
    with (folder / "runs" / "halve" / "results.csv").open() as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    assert float(rows["recover"]["macs"]) / float(rows["train"]["macs"]) == pytest.approx(0.5, abs=0.02)
    net = compressit.load(folder / MADE / "recover.safetensors")
    assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_times_are_measured_where_the_recipe_asks(folder: Path) -> None:
    with (folder / "runs" / "halve" / "results.csv").open() as file:
        timed = {row["stage"] for row in csv.DictReader(file) if row["latency_1_median_seconds"]}
    assert timed == {"train", "recover"}


def test_the_export_answers_as_the_net(folder: Path) -> None:
    x = torch.rand(3, 3, 64, 64)
    exported = torch.export.load(folder / MADE / "recover.pt2").module()
    net = compressit.load(folder / MADE / "recover.safetensors")
    assert torch.allclose(exported(x), net(x), atol=1e-4)


def test_the_readme_shows_the_same_recipe_with_more_measured() -> None:
    (recipe,) = (block for block in blocks(PAGE) if block.title == "halve.yaml")
    assert recipe.text.split("evaluate:")[0] == _readmes().split("evaluate:")[0]


@pytest.mark.extra("onnx")
def test_the_readmes_recipe_leaves_files_to_deploy_and_times_of_each_runtime(folder: Path) -> None:
    few = "runtime: [onnxruntime, onnxruntime-int8, eager]"
    assert few in _readmes()
    text = _readmes().replace(few, f"{few}, warmup: 1, repetitions: 4").replace("name: halve", "name: ship")
    text = text.replace("max_drop: 0.02", "max_drop: 1")  # whatever two epochs on few images learned
    Block("yaml", "ship.yaml", text).write(folder)
    run_line("compressit run ship.yaml", folder, own_places(folder))
    with (folder / "runs" / "ship" / "results.csv").open() as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    for stage in ("train", "recover"):
        assert float(rows[stage]["latency_1_onnxruntime_int8_median_seconds"]) > 0
    made = {file.name for file in (folder / "runs" / "ship" / "exports").rglob("*.onnx")}
    assert len(made) == 2
    assert not rows["train"]["onnx_bytes"]


def _readmes() -> str:
    """The recipe of README.md's first story."""
    text = (Path(__file__).parent.parent.parent / "README.md").read_text(encoding="utf-8")
    return text[text.index("version: 1\nname: halve") :].split("```")[0]
