"""What people take away: exported checkpoints, results, a report that is kept fresh."""

from __future__ import annotations

import csv
import errno
import json
import math
import re
import shlex
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import BASE, PLUGINS, TWINS, Bench, Drawing, Lab, job_of, point, same, tiny_host

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.header import read_header
from compressit.contract.results import Results
from compressit.errors import CompressitError
from compressit.files import ownfolder
from compressit.files.reading import digest
from compressit.files.sealed import read_sealed, write_sealed
from compressit.host.plugins import Host
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan
from compressit.processes.python import INCOMPLETE
from compressit.recipe.load import load_recipe
from compressit.results import runfolder
from compressit.results.collect import collect, short_name
from compressit.results.page import render
from compressit.results.runfolder import RunFolder
from compressit.store.objects import Artifact


class Done:
    """A plan whose jobs have run, and a folder for it."""

    def __init__(self, lab: Lab, root: Path, text: str = TWINS) -> None:
        self.lab = lab
        self.root = root
        self.plan = lab.plan(text)
        lab.run(self.plan)
        self.said: list[str] = []
        self.folder = self.new_folder()

    def new_folder(
        self, plan: Plan | None = None, name: str = "run", command: str = "compressit run tiny.yaml"
    ) -> RunFolder:
        return RunFolder(self.root / name, plan or self.plan, self.lab.host, command, self.said.append)

    def artifacts(self, *without: str) -> dict[str, Artifact]:
        """What the store has, less the models of these paths."""
        gone = {point(self.plan, path).model for path in without}
        found = {key: self.lab.store.find(key) for key in self.plan.jobs if key not in gone}
        return {key: artifact for key, artifact in found.items() if artifact is not None}

    @property
    def path(self) -> Path:
        return self.folder.folder

    def collected(self, artifacts: dict[str, Artifact] | None = None) -> Results:
        return collect(self.plan, artifacts or self.artifacts(), [], "")

    def finish(self, folder: RunFolder | None = None) -> bool:
        self.said.clear()
        return (folder or self.folder).finish(self.artifacts(), [], complete=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def done(lab: Lab, tmp_path: Path, bench: Bench) -> Done:
    return Done(lab, tmp_path)


# Checkpoints


def test_every_model_is_exported_with_its_lineage_and_metrics(done: Done) -> None:
    done.finish()
    files = sorted(path.relative_to(done.path) for path in (done.path / "checkpoints").rglob("*.safetensors"))
    names = ["prune", "shrink-01", "shrink-02", "train"]
    assert [str(f) for f in files] == [
        f"checkpoints/{v}/seed0/{n}.safetensors" for v in ("fake", "real") for n in names
    ]
    rows = {f"{row.variant}/seed0/{row.name}": row for row in done.collected().rows}
    for p in done.plan.points:
        file = done.path / f"checkpoints/{p.path}.safetensors"
        assert same(load_file(file), done.lab.model(done.plan, p.path))
        manifest = read_header(file).manifest
        assert manifest.lineage[-1]["key"] == p.model
        assert manifest.lineage[-1]["variant"] == p.variant
        assert manifest.metrics == rows[p.path].metrics
        assert checkpoint.load(file, host=done.lab.host)(torch.zeros(1, 1, 2, 3)).shape == (1, 3)


def test_an_export_is_written_again_only_when_it_is_other(done: Done) -> None:
    done.finish()
    folder = done.path / "checkpoints/real/seed0"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    fewer = {key: a for key, a in done.artifacts().items() if done.plan.jobs[key].uses != "tiny.fidelity"}
    done.folder.finish(fewer, [], complete=False)
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert "train.safetensors" in {name for name in before if after[name] == before[name]}
    assert "agreement" not in read_header(folder / "shrink-01.safetensors").manifest.metrics


def test_the_lineage_speaks_of_this_runs_variants(done: Done) -> None:
    """The models were made by a run that called the variant otherwise."""
    plan = done.lab.plan(TWINS.replace("variants: {real:", "variants: {original:"))
    assert job_of(plan, "original/seed0/train").key == job_of(done.plan, "real/seed0/train").key
    other = done.new_folder(plan, "other")
    done.finish(other)
    lineage = read_header(other.folder / "checkpoints/original/seed0/prune.safetensors").manifest.lineage
    assert [step.get("variant") for step in lineage] == [None, "original", "original"]


def test_a_model_that_two_variants_share_is_exported_for_both(lab: Lab, tmp_path: Path, bench: Bench) -> None:
    done = Done(lab, tmp_path, BASE + "variants: {a: {}, b: {evaluate: [tiny.size]}}\n")
    done.finish()
    exported = [done.path / f"checkpoints/{v}/seed0/train.safetensors" for v in "ab"]
    assert same(*map(load_file, exported))
    assert [read_header(file).manifest.metrics.get("parameters") for file in exported] == [None, 123]


# results.json and results.csv


def test_rows_stand_in_the_recipes_order_with_counts_as_whole_numbers(done: Done) -> None:
    done.finish()
    with (done.path / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["variant"], row["stage"], row["round"]) for row in table] == [
        (variant, *model)
        for variant in ("real", "fake")
        for model in (("train", ""), ("prune", ""), ("shrink", "1"), ("shrink", "2"))
    ]
    assert [row["parameters"] for row in table] == ["123", "123", "63", "33"] * 2
    assert [row["bytes"] for row in table] == ["492", "492", "252", "132"] * 2
    assert [row["width"] for row in table] == ["12", "12", "6", "3"] * 2
    assert table[0]["mean_weight"] == "2.0", "no count: it stays a fraction"
    content = json.loads((done.path / "results.json").read_text())
    assert [type(row["metrics"]["parameters"]) for row in content["rows"]] == [int] * 8
    assert content["metrics"]["parameters"]["unit"] == "count"
    again = Results.read_json(done.path / "results.json").table()
    assert table == [{name: "" if v is None else str(v) for name, v in row.items()} for row in again]


def _dense(done: Done) -> dict[str, str | None]:
    return {row.name: row.dense for row in done.collected().rows}


def test_the_dense_parent_is_the_first_model_that_was_trained_or_given(
    done: Done, lab: Lab, tmp_path: Path, bench: Bench
) -> None:
    assert _dense(done) == dict.fromkeys(["train", "prune", "shrink-01", "shrink-02"], "train")
    done.finish()
    with (done.path / "results.csv").open(newline="") as file:
        ratios = [float(row["compression_ratio"]) for row in csv.DictReader(file)]
    assert ratios == pytest.approx([1, 1, 123 / 63, 123 / 33] * 2)

    stages = "  prune: {uses: tiny.prune}\n  tune: {uses: tiny.train}\n"
    at_once = Done(lab, tmp_path, BASE.replace("  train: {uses: tiny.train}\n", stages))
    assert _dense(at_once) == {"prune": None, "tune": None}, "what was pruned at once never was a dense row"

    given = done.path / "checkpoints/real/seed0/train.safetensors"
    text = BASE.replace("{uses: tiny.mlp}", f"{{from: {given}}}").replace(
        "  train: {uses: tiny.train}\n", stages
    )
    assert _dense(Done(lab, tmp_path, text)) == dict.fromkeys(["init", "prune", "tune"], "init")


def test_an_unfinished_run_lists_what_is_missing_and_what_failed(done: Done) -> None:
    artifacts = done.artifacts("real/seed0/shrink-02", "fake/seed0/prune")
    done.folder.finish(artifacts, ["fake/seed0/prune: broken"], complete=False)
    results = Results.read_json(done.path / "results.json")
    assert results.missing == ["real/seed0/shrink-02", "fake/seed0/prune"]
    assert results.failures == ["fake/seed0/prune: broken"]
    assert len(results.rows) == 6
    about = {name: results.about[name] for name in ("models", "command", "classes")}
    assert about == {"models": "6 of 8", "command": "compressit run tiny.yaml", "classes": 3}
    assert math.isfinite(results.about["job_seconds"])
    assert results.config["plugins"] == [{"path": str(PLUGINS), "digest": done.plan.recipe.plugins[0].digest}]
    assert not (done.path / "checkpoints/fake/seed0/prune.safetensors").exists()
    models = {key: a for key, a in done.artifacts().items() if done.plan.jobs[key].kind != "evaluate"}
    assert [row.metrics for row in done.collected(models).rows] == [{}] * 8


def test_metrics_that_were_not_finite_are_noted_and_told(done: Done) -> None:
    artifacts = done.artifacts()
    keys = point(done.plan, "real/seed0/prune").metrics
    (key,) = (key for key in keys if done.plan.jobs[key].uses == "tiny.accuracy")
    manifest = {**artifacts[key].manifest, "metrics": {}, "notes": {"not_finite": ["test_accuracy"]}}
    artifacts[key] = replace(artifacts[key], manifest=manifest)
    assert done.collected(artifacts).warnings() == ["real/seed0/prune: not finite: test_accuracy"]


def test_a_name_too_long_for_a_file_system_is_shortened(done: Done) -> None:
    (trained,) = (p for p in done.plan.points if p.path == "real/seed0/train")
    points = tuple(replace(trained, variant="x" * 300 + end) for end in "ab")
    folder = done.new_folder(replace(done.plan, points=points))
    done.finish(folder)
    files = {str(row.checkpoint) for row in Results.read_json(folder.folder / "results.json").rows}
    assert len(files) == 2
    assert all((folder.folder / file).is_file() for file in files)


@pytest.mark.parametrize("name", ["é" * 300, "x" * 121, "a" * 110 + "é" * 60])
def test_shortened_names_are_short_in_bytes(name: str) -> None:
    assert len(short_name(name).encode()) <= 120
    assert short_name(name) != short_name(name + "b")
    assert short_name("x" * 120) == "x" * 120


# What an earlier run left


def test_what_an_earlier_run_made_and_this_one_does_not_is_removed(done: Done, bench: Bench) -> None:
    bench.figures = ["old.png", "both.png"]
    done.finish()
    root = done.path
    for name in ("figures/mine.png", "checkpoints/real/seed0/mine.safetensors"):
        (root / name).write_bytes(b"mine")
    bench.figures = ["new.png", "both.png"]
    other = done.lab.plan(TWINS, "stages.shrink.repeat=1")
    done.lab.run(other)
    folder = done.new_folder(other)
    found = {key: a for key in other.jobs if (a := done.lab.store.find(key)) is not None}
    folder.finish({}, [], complete=False)
    assert (root / "checkpoints/real/seed0/shrink-02.safetensors").exists(), "not before the new run is done"
    folder.finish(found, [], complete=True)
    there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert {name for name in there if name.startswith("figures")} == {
        "figures/mine.png", "figures/new.png", "figures/both.png",
    }  # fmt: skip
    assert "checkpoints/real/seed0/mine.safetensors" in there
    assert not {name for name in there if "shrink-02" in name}
    assert "figures/mine.png" not in json.loads((root / "run.json").read_text())["files"]


def test_a_list_that_names_files_elsewhere_removes_nothing(done: Done, tmp_path: Path) -> None:
    folder, precious = done.path, tmp_path / "precious"
    folder.mkdir()
    for mine in (precious, folder / "notes.txt"):
        mine.write_text("x")
    listed = [str(precious), "checkpoints/../../precious", "../precious", "notes.txt", 7]
    (folder / "run.json").write_text(json.dumps({"files": listed[:4]}))
    done.finish()
    for files in (listed, dict.fromkeys(map(str, listed), digest(precious))):
        write_sealed(folder / "run.json", {"format": 2, "state": "finished", "files": files})
        done.finish()
    assert precious.exists()
    assert (folder / "notes.txt").exists()


def test_the_results_of_another_recipe_are_not_written_over(done: Done, lab: Lab) -> None:
    done.finish()
    renamed = lab.plan(TWINS.replace("name: tiny", "name: other"))
    with pytest.raises(CompressitError, match=r"another recipe, 'tiny'; this one is 'other'(.|\n)*--out"):
        done.new_folder(renamed)
    done.new_folder(lab.plan(TWINS, "stages.shrink.repeat=1"))
    for name in ("run.json", "results.json"):
        done.new_folder(lab.plan(TWINS))
        (done.path / name).write_text("[")
    done.new_folder(renamed)


# Whether it is finished


def test_a_finished_folder_knows_its_plan(done: Done) -> None:
    assert done.folder.finished() is None, "there is nothing yet"
    done.finish()
    found = done.folder.finished()
    assert found is not None
    assert len(found.rows) == 8
    assert done.new_folder().finished() is not None
    for plan in (
        done.lab.plan(TWINS, "stages.prune.with.sparsity=0.9"),
        done.lab.plan(TWINS.replace("name: tiny\n", "name: tiny\ndescription: new\n")),
        done.lab.plan(TWINS.replace("report: [tiny.report]", "report: []")),
    ):
        assert done.new_folder(plan).finished() is None


CHECKPOINT = "checkpoints/real/seed0/train.safetensors"


@pytest.mark.parametrize(
    "file", ["results.json", "results.csv", "report.html", CHECKPOINT, "run.json", "figures/a.png"]
)
def test_a_file_that_is_not_as_it_was_written_makes_it_unfinished_and_is_put_right(
    done: Done, bench: Bench, file: str
) -> None:
    bench.figures = ["a.png"]
    done.finish()
    path = done.path / file
    good = path.read_bytes()
    for bad in (None, b"", b"{}", b'{"schema": 99}', good[:-2] + bytes([good[-2] ^ 1]) + good[-1:]):
        path.unlink() if bad is None else path.write_bytes(bad)
        assert done.folder.finished() is None
        assert done.finish(done.new_folder())
        assert path.read_bytes() == good or file.endswith((".json", ".csv"))  # these say when
        assert done.new_folder().finished() is not None


def test_an_edited_report_is_drawn_again(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    done.finish()
    of = runfolder.code_digest
    monkeypatch.setattr(
        runfolder, "code_digest", lambda *roots: of(*roots) + str("compressit.results.page" in roots)
    )
    assert done.folder.finished() is None


def test_an_edited_template_is_drawn_again(
    done: Done, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done.finish()
    templates = shutil.copytree(runfolder.TEMPLATES, tmp_path / "templates")
    monkeypatch.setattr(runfolder, "TEMPLATES", templates)
    assert done.new_folder().finished() is not None
    with (templates / "report.css").open("a") as file:
        file.write("h1 { color: green; }")
    assert done.new_folder().finished() is None


def test_a_report_that_cannot_be_drawn_is_told_and_tried_again(
    done: Done, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.draw_fails = True
    assert not done.finish()
    assert done.said == ["report: the pencil broke"]
    assert done.folder.finished() is None

    def draw(folder: RunFolder, stdout: Any, stderr: Any) -> Drawing:
        stderr.write(b"UserWarning: a font\n  warn()\n")
        stdout.write(b"tiny.report: no figures: ValueError: x; see report.html\n")
        return Drawing(INCOMPLETE)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "_draw", draw)
        assert not done.finish()
    assert done.said == ["tiny.report: no figures: ValueError: x; see report.html"], "a line for each"
    assert done.folder.finished() is None
    bench.draw_fails = False
    assert done.finish()
    assert done.said == []
    assert done.folder.finished() is not None


# What changed since, and what a killed run left


def test_a_list_that_leaves_files_out_is_not_one_of_a_finished_run(done: Done) -> None:
    """Somebody wrote it to have other files taken for this run's."""
    done.finish()
    facts = read_sealed(done.path / "run.json")
    for gone in ("results.json", "report.html", CHECKPOINT):
        files = {name: known for name, known in facts["files"].items() if name != gone}
        write_sealed(done.path / "run.json", {**facts, "files": files})
        assert done.folder.finished() is None
    write_sealed(done.path / "run.json", facts)
    assert done.folder.finished() is not None


def test_what_a_killed_run_wrote_is_not_taken_for_results(done: Done) -> None:
    done.finish()
    other = done.lab.plan(TWINS, "stages.prune.with.sparsity=0.9")
    with pytest.raises(_Killed), done.new_folder(other).writing():
        raise _Killed
    assert done.new_folder().finished() is None
    assert done.new_folder(other).finished() is None
    with done.new_folder().writing():
        assert done.finish()
    assert done.new_folder().finished() is not None


class _Killed(BaseException):
    """What ends a run between its first file and its last."""


def test_a_run_says_which_results_it_replaces_and_leaves_no_page_of_them(done: Done) -> None:
    command = "compressit run tiny.yaml --set x=1"
    first = done.new_folder(command=command)
    with first.writing():
        done.finish(first)
    with done.new_folder(command=command).writing():
        assert not any("replaces" in line for line in done.said), "the same ones"
    with done.new_folder(done.lab.plan(TWINS, "stages.prune.with.sparsity=0.9")).writing():
        assert not (done.path / "report.html").exists()
    assert any(f"replaces (was: {command})" in line for line in done.said)


def test_temporary_files_of_killed_writers_go(done: Done) -> None:
    done.finish()
    left, mine = (
        done.path / "checkpoints/.a.safetensors.0123456789ab.tmp",
        done.path / "checkpoints/notes.tmp",
    )
    for path in (left, mine):
        path.write_text("x")
    with done.new_folder().writing():
        assert (left.exists(), mine.exists()) == (False, True)


def test_one_run_writes_at_a_time(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownfolder, "LOCK_PATIENCE", 0.0)
    refused = pytest.raises(CompressitError, match=r"another run is writing to it: .*process(.|\n)*--out")
    with done.new_folder().writing(), refused:
        done.new_folder().writing().__enter__()
    with done.new_folder().writing():
        pass


@pytest.mark.parametrize(
    "place", ["run.json", "results.csv", "checkpoints", "checkpoints/real", "logs", "figures"]
)
def test_links_in_its_places_are_refused_before_anything_runs(done: Done, tmp_path: Path, place: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("precious")
    done.path.mkdir()
    (done.path / "run.json").touch()
    way = done.path / place
    way.unlink(missing_ok=True)
    way.parent.mkdir(exist_ok=True)
    way.symlink_to(home / "thesis.txt" if place.endswith((".json", ".csv")) else home)
    with pytest.raises(CompressitError, match=f"{place} is a link"), done.new_folder().writing():
        pass
    assert (home / "thesis.txt").read_text() == "precious"
    assert [path.name for path in home.iterdir()] == ["thesis.txt"]


def test_what_another_run_wrote_meanwhile_is_looked_at_again(done: Done, lab: Lab) -> None:
    """It waited for the lock, and the folder was empty before."""
    waiting = done.new_folder(lab.plan(TWINS.replace("name: tiny", "name: other")))
    with done.folder.writing():
        done.finish()
    before = contents(done.path)
    with pytest.raises(CompressitError, match="another recipe"), waiting.writing():
        pass
    assert contents(done.path) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# A disk that is full


def test_a_full_disk_is_told_once_and_stops_nothing(done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = done.new_folder()
    monkeypatch.setattr(ownfolder, "write_sealed", full)
    monkeypatch.setattr(runfolder, "REFRESH_EVERY", 0.0)
    monkeypatch.setattr(folder, "_due", 0.0)
    with folder.writing():
        folder.refresh(done.artifacts(), [])
        folder.refresh(done.artifacts(), [])
        assert not folder.finish(done.artifacts(), [], complete=True)
    assert [line for line in done.said if "No space left" in line] == [done.said[0]]
    monkeypatch.undo()
    assert done.new_folder().finished() is None
    assert done.finish(done.new_folder())


def test_a_folder_that_vanishes_is_made_again(done: Done, bench: Bench) -> None:
    folder = done.new_folder()
    with folder.writing():
        shutil.rmtree(folder.folder)
        assert folder.finish(done.artifacts(), [], complete=True)
    assert done.new_folder().finished() is not None


@pytest.mark.parametrize("what", ["run", "."])
def test_a_folder_that_becomes_a_link_in_the_middle_of_a_run_is_not_followed(
    done: Done, tmp_path: Path, what: str
) -> None:
    place, foreign = tmp_path / "place", tmp_path / "foreign"
    for folder in (place, foreign / "run"):
        folder.mkdir(parents=True)
    mine = done.new_folder(name="place/run")
    with mine.writing():
        (place / what).resolve().rename(tmp_path / "moved")
        (place / what).resolve().symlink_to(foreign)
        before = contents(foreign)
        assert not mine.finish(done.artifacts(), [], complete=True)
    assert contents(foreign) == before
    assert "link" in done.said[-1]
    assert "--out" in done.said[-1]


def test_a_place_that_cannot_be_written_is_said_before_anything_runs(done: Done, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("file", "file/run", "x" * 300):
        with pytest.raises(CompressitError, match=r"cannot be written(.|\n)*--out"):
            done.new_folder(name=name).writing().__enter__()


# While it runs


def test_it_is_refreshed_every_half_minute_and_never_twice_at_once(
    done: Done, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(runfolder.time, "monotonic", lambda: now[0])
    folder = done.new_folder()
    drawing = _Slow()
    monkeypatch.setattr(RunFolder, "_draw", lambda self, *files: drawing.start(self, bench))

    def tick(seconds: float) -> int:
        now[0] += seconds
        folder.refresh(done.artifacts("real/seed0/prune"), [])
        return bench.drawn

    assert tick(29) == 0
    assert not folder.folder.exists()
    assert tick(2) == 1
    assert "real/seed0/prune" in Results.read_json(folder.folder / "results.json").missing
    assert tick(60) == 1, "the last drawing still runs"
    drawing.running = False
    assert tick(1) == 1, "it took 61 s: the next one waits for 50 times as long"
    assert tick(3000) == 1
    assert tick(100) == 2
    drawing.running = False
    assert tick(0.1) == 2
    assert tick(29) == 2, "a quick one: half a minute"
    assert tick(2) == 3


class _Slow:
    """A drawing process that ends when it is told to."""

    running = False

    def start(self, folder: RunFolder, bench: Bench) -> _Slow:
        bench.drawn += 1
        self.running = True
        return self

    def poll(self) -> int | None:
        return None if self.running else 0


# The real thing, once


def test_the_report_is_drawn_with_the_recipes_own_plugins(lab: Lab, tmp_path: Path) -> None:
    done = Done(lab, tmp_path)
    assert done.finish()
    html = (done.path / "report.html").read_text()
    assert "There are 8 rows." in html
    assert done.folder.finished() is not None


def test_a_changed_plugin_file_is_not_run_for_the_report(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(PLUGINS.read_text())
    done = Done(Lab(tmp_path, tiny_host(mine)), tmp_path, TWINS.replace(str(PLUGINS), str(mine)))
    mine.write_text(PLUGINS.read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    assert not done.finish()
    assert "no report is called 'tiny.report'" in done.said[0]
    assert not (tmp_path / "ran").exists()


# The recipe as it was written


WRITTEN = """\
# as written: <b>&amp;
version: 1
name: written
plugins: [./mine.py]
data: {uses: tiny.data}
model: {uses: tiny.mlp}
profiles: {quick: {stages: {train: {with: {epochs: 1}}}}}
stages:
  train: {uses: tiny.train, with: {epochs: 4}}
  prune: {uses: tiny.prune}
evaluate: [tiny.accuracy]
"""


def test_the_pages_command_and_recipe_make_the_same_plan(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    for folder in (home, other):
        folder.mkdir()
        (folder / "mine.py").write_text(PLUGINS.read_text())
    (home / "lab 1.yaml").write_text(WRITTEN)
    arguments = ("--profile", "quick", "--set", "stages.prune.with.sparsity=0.25", "--set", "seeds=[3, 4]")

    def plan(file: Path, *options: str) -> tuple[Plan, Host]:
        host = Host(entry_points=False)
        given = list(zip(options[::2], options[1::2], strict=True))
        settings = [value for name, value in given if name == "--set"]
        recipe = load_recipe(file, dict(given).get("--profile"), settings, trust=True, host=host)
        return make_plan(recipe, host), host

    first, _ = plan(home / "lab 1.yaml", *arguments)
    render(collect(first, {}, [], "python mine.py"), [], tmp_path / "run")
    html = (tmp_path / "run" / "report.html").read_text()
    assert str(tmp_path) not in html, "paths as they were written"
    command, recipe = (
        unescape(re.findall(rf'<pre id="{name}"[^>]*>(.*?)</pre>', html, re.DOTALL)[0])
        for name in ("command", "recipe")
    )
    assert recipe == WRITTEN
    run, verb, name, *options, trust = shlex.split(command)
    assert (run, verb, trust) == ("compressit", "run", "--trust")
    (other / name).write_text(recipe)
    again, _ = plan(other / name, *options)
    assert list(again.jobs) == list(first.jobs)
    assert len(first.points) == 4
