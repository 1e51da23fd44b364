"""`compressit sensitivity`, in processes of its own."""

from __future__ import annotations

import json

import pytest

from .sandbox import Sandbox

RECIPE = """\
version: 1
name: small
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic, with: {train: 128, validation: 0.25}}
model: {uses: model.mlp, with: {hidden: [24, 16]}}
stages:
  train: {uses: train.supervised, with: {epochs: 12, batch_size: 16, optimizer: {name: adam, lr: 0.01}}}
  half: {uses: prune.structured, with: {target: macs, keep: 0.6, recalibrate: 0}}
evaluate: [eval.accuracy, eval.size]
"""


def test_it_measures_once_and_its_ratios_reach_the_target_in_a_run(sandbox: Sandbox) -> None:
    sandbox.write("recipe.yaml", RECIPE)
    done = sandbox.run("sensitivity", "recipe.yaml", "--max-drop", "0.1", "--write", "new.yaml")
    lines = done.out.splitlines()
    assert lines[1].split() == ["layer", "-0.25", "-0.5", "-0.75"]
    assert {line.split()[0] for line in lines[2:4]} == {"linear1", "linear2"}
    figure = next(line.removeprefix("figure: ") for line in lines if line.startswith("figure: "))
    assert (sandbox.folder / figure).read_bytes().startswith(b"\x89PNG")
    limited = lines[lines.index("ratios:") + 1].split(": ")
    sandbox.run("run", "new.yaml", "--out", "new")
    rows = json.loads((sandbox.folder / "new" / "results.json").read_text())["rows"]
    notes = next(row["notes"] for row in rows if row["stage"] == "half")
    assert notes["achieved"] == pytest.approx(0.6, rel=0.02)
    before, after = notes["widths"][limited[0].strip()]
    assert after == pytest.approx(before * float(limited[1]), abs=0.5)
    again = sandbox.run("sensitivity", "recipe.yaml")
    assert "nothing to do" in again.err
    of_file = sandbox.run(
        "sensitivity", "new/checkpoints/base/seed0/train.safetensors", "--data", "data.synthetic",
        "--set", "train=128", "--set", "validation=0.25",
    )  # fmt: skip
    assert of_file.out.splitlines()[1:4] == lines[1:4]


def test_mistakes_are_told_without_torch(sandbox: Sandbox) -> None:
    sandbox.write("recipe.yaml", RECIPE)
    for words, told in (
        (("--stage", "trian"), "train"),
        (("--write", "new.yaml"), "--max-drop"),
        (("--data", "data.mnist"), ".safetensors"),
        (("--with", "eval.sensitivity.ratios=[2]"), "ratios"),
        (("--max-drop", "0.1", "--write", "recipe.yaml"), "there already"),
    ):
        assert told in sandbox.light("sensitivity", "recipe.yaml", *words, code=2).err
