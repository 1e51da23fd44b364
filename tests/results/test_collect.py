"""Curves, arrays and pictures of stages and evaluators, options and parents: from the store to a report."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import PLUGINS, Bench, Lab, recipe_of, tiny_host
from torch.nn import functional as F

from compressit.checkpoint import model as checkpoint
from compressit.contract.kinds import Dataset
from compressit.contract.pictures import is_png
from compressit.contract.results import Results
from compressit.errors import CompressitError, RecipeError
from compressit.files.sealed import read_sealed
from compressit.host.plugins import Host
from compressit.results.collect import collect
from compressit.results.runfolder import RunFolder
from compressit.running.loading import load_data
from compressit.store.objects import Artifact

RECORDING = PLUGINS.parent / "recording_plugins.py"
RECIPE = """\
version: 1
name: recorded
data: {uses: tiny.data}
model: {uses: tiny.mlp}
stages:
  train: {uses: tiny.train}
  prune: {uses: tiny.prune, sweep: {with.sparsity: [0.5, 0.8]}}
  again: {uses: tiny.train}
  shrink: {uses: tiny.shrink, needs: train, repeat: 2, with: {teacher: train}}
evaluate: [tiny.accuracy, {uses: rec.line, with: {points: 3}}]
report: [rec.report]
"""


@pytest.fixture(scope="module")
def host() -> Host:
    host = tiny_host()
    host.load_file(RECORDING)
    return host


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, host: Host) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"), host)
    lab.run(lab.plan(RECIPE))
    return lab


@pytest.fixture
def run(lab: Lab, tmp_path: Path, bench: Bench) -> RunFolder:
    """A finished run's folder."""
    run = RunFolder(tmp_path / "run", lab.plan(RECIPE), lab.host, "compressit run", print)
    assert run.finish(_artifacts(lab), [], complete=True)
    return run


def _artifacts(lab: Lab) -> dict[str, Artifact]:
    found = {key: lab.store.find(key) for key in lab.plan(RECIPE).jobs}
    return {key: artifact for key, artifact in found.items() if artifact is not None}


def _row(results: Results, name: str) -> Any:
    return next(row for row in results.rows if row.name == name)


def _read(folder: Path) -> Results:
    return Results.read_json(folder / "results.json")


def test_rows_have_the_curves_of_their_stage_and_of_evaluators(run: RunFolder, host: Host) -> None:
    results = _read(run.folder)
    row = _row(results, "prune@sparsity=0.5")
    dataset = host.create(Dataset, "tiny.data", {})
    split = load_data(dataset, host.task(dataset.task), run.folder, print).split("test")
    ends = [checkpoint.load(run.folder / str(r.checkpoint), host=host) for r in (row, _row(results, "train"))]
    losses = [float(F.cross_entropy(net(split.x), split.y).detach()) for net in ends]
    assert [x for x, _ in row.curves["line"]] == [0.0, 0.5, 1.0]
    assert [row.curves["line"][0][1], row.curves["line"][2][1]] == pytest.approx(losses, rel=1e-5)
    assert "loss" in _row(results, "train").curves
    assert "line" not in _row(results, "shrink-01").curves, "a narrower net has no line to its teacher"
    assert results.records["line"]["x"] == "share of the way to the reference"
    assert {name: facts["kind"] for name, facts in results.records.items()} == {
        "line": "curve", "losses": "array", "weights": "picture", "first.bin": "file",
    }  # fmt: skip


def test_arrays_and_pictures_are_read_from_a_copy_of_the_folder_without_the_store(
    run: RunFolder, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere" / "copied"
    shutil.copytree(run.folder, copy)
    shutil.rmtree(run.folder)
    results = _read(copy)
    row = _row(results, "prune@sparsity=0.8")
    losses = results.array(row, "losses")
    assert losses.dtype == np.float32
    assert losses.tolist() == pytest.approx([y for _, y in row.curves["line"]])
    assert all(is_png(results.picture(row, "weights")) for row in results.rows)
    assert len({results.picture(row, "weights") for row in results.rows}) == len(results.rows)


def test_files_for_other_programs_are_in_exports_as_they_were_given(run: RunFolder, host: Host) -> None:
    for row in _read(run.folder).rows:
        kept = row.files["first.bin"]
        assert kept.file == f"exports/{row.variant}/seed0/{row.name}/first.bin"
        net = checkpoint.load(run.folder / str(row.checkpoint), host=host)
        first = next(p for p in net.parameters() if p.ndim == 2)
        assert (run.folder / kept.file).read_bytes() == first.detach().numpy().tobytes()


def test_a_stages_own_arrays_are_there_too(run: RunFolder) -> None:
    results = _read(run.folder)
    row = _row(results, "train")
    assert len(results.array(row, "loss")) == row.curves["loss"][-1][0], "one per optimizer step"


def test_every_file_is_listed_with_its_digest(run: RunFolder) -> None:
    listed = read_sealed(run.folder / "run.json")["files"]
    results = _read(run.folder)
    kept = [
        kept
        for row in results.rows
        for kept in (*row.arrays.values(), *row.pictures.values(), *row.files.values())
    ]
    assert kept
    assert {k.file: k.sha256 for k in kept}.items() <= listed.items()


def test_options_are_those_of_the_stage_and_of_what_it_was_made_from(run: RunFolder) -> None:
    results = _read(run.folder)
    row = _row(results, "again@sparsity=0.8")
    assert [other.name for other in results.lineage(row)] == [
        "again@sparsity=0.8",
        "prune@sparsity=0.8",
        "train",
    ]
    assert [other.options.get("sparsity") for other in results.lineage(row)] == [None, 0.8, None]
    assert [other.name for other in results.lineage(_row(results, "shrink-02"))] == [
        "shrink-02",
        "shrink-01",
        "train",
    ]
    assert results.lineage(_row(results, "train")) == [_row(results, "train")]


def test_what_is_not_there_is_named(run: RunFolder, lab: Lab) -> None:
    results = _read(run.folder)
    row = _row(results, "shrink-01")
    with pytest.raises(CompressitError, match="shrink-01 has no array 'losses'") as error:
        results.array(row, "losses")
    assert error.value.hint == "it has loss, taught"
    with pytest.raises(CompressitError, match="has no picture 'none'"):
        results.picture(row, "none")
    loose = collect(lab.plan(RECIPE), _artifacts(lab), [], "")
    with pytest.raises(CompressitError, match="not read from one"):
        loose.picture(_row(loose, "train"), "weights")


@pytest.mark.parametrize("fault", ["changed", "gone", "link", "above", "outside"])
def test_only_the_runs_own_unchanged_files_are_read(run: RunFolder, tmp_path: Path, fault: str) -> None:
    results = _read(run.folder)
    row = _row(results, "train")
    file = run.folder / row.pictures["weights"].file
    match fault:
        case "changed":
            file.write_bytes(file.read_bytes() + b"x")
        case "gone":
            file.unlink()
        case "link":
            shutil.move(file, tmp_path / "moved.png")
            file.symlink_to(tmp_path / "moved.png")
        case "above":
            shutil.move(run.folder / "pictures", tmp_path / "pictures")
            (run.folder / "pictures").symlink_to(tmp_path / "pictures")
        case _:
            shutil.copy(file, tmp_path / "outside.png")
            row.pictures["weights"] = type(row.pictures["weights"])(
                "../outside.png", row.pictures["weights"].sha256, "weights"
            )
    with pytest.raises(CompressitError, match="was changed" if fault == "changed" else "is missing"):
        results.picture(row, "weights")


def test_a_file_that_holds_no_such_array_is_named(run: RunFolder) -> None:
    results = _read(run.folder)
    row = _row(results, "train")
    row.arrays["other"] = replace(row.arrays["loss"], name="other")
    picture = row.pictures["weights"]
    row.arrays["picture"] = picture
    for name in ("other", "picture"):
        with pytest.raises(CompressitError, match=f"does not hold the array '{name}'"):
            results.array(row, name)


def test_a_folder_in_the_file_is_refused(run: RunFolder) -> None:
    """It would say where pictures are read."""
    from compressit.files.sealed import write_sealed

    file = run.folder / "results.json"
    write_sealed(file, {**read_sealed(file), "folder": "/"})
    with pytest.raises(ValueError, match="folder"):
        Results.read_json(file)
    assert "folder" not in json.loads((run.folder / "run.json").read_text())


def test_a_run_restores_what_was_lost_and_removes_what_is_no_longer_of_it(run: RunFolder, lab: Lab) -> None:
    assert run.finished() is not None
    kept = _row(_read(run.folder), "train").pictures["weights"].file
    (run.folder / kept).unlink()
    assert run.finished() is None
    before = {path: os.stat(path).st_mtime_ns for path in (run.folder / "arrays").rglob("*.safetensors")}
    again = RunFolder(run.folder, lab.plan(RECIPE), lab.host, "compressit run", print)
    again.finish(_artifacts(lab), [], complete=True)
    assert again.finished() is not None
    assert {path: os.stat(path).st_mtime_ns for path in before} == before, (
        "what is there is not written again"
    )
    fewer = {key: a for key, a in _artifacts(lab).items() if a.manifest["job"]["uses"] != "rec.line"}
    again.finish(fewer, [], complete=True)
    assert not (run.folder / "pictures").exists()
    assert not list(run.folder.rglob("rec.line*"))


def test_two_evaluators_cannot_give_one_name(host: Host) -> None:
    text = RECIPE.replace("evaluate: [", "evaluate: [{uses: rec.line, with: {points: 9}}, ")
    with pytest.raises(
        RecipeError, match=r"rec\.line measures barrier, line, losses, weights, first\.bin, which rec\.line"
    ):
        recipe_of(text, host)


def test_an_evaluator_may_not_take_the_name_of_a_stages_curve(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    train: Any = host.find("tiny.train").plugin
    own = train.train
    monkeypatch.setattr(
        train, "train", lambda self, model, ctx: ctx.log(1, line=2.0) or own(self, model, ctx)
    )
    lab = Lab(tmp_path, host)
    with pytest.raises(
        CompressitError, match=r"rec\.line declares the curve 'line', but the stage it measures"
    ):
        lab.run(lab.plan(RECIPE))
