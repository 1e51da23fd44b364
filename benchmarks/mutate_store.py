"""Damages stores, run folders and saved progress, runs again, and compares with the run that nobody disturbed.

    python benchmarks/mutate_store.py --mutations 1000 --seed 0

A round copies a finished run, or one that was stopped in the middle of its training, and makes one to three changes:
bytes, digits, JSON values, deletions, truncations, files swapped between results, links, pipes, foreign files and
folders. Then the same recipe is run. Allowed are the undisturbed results, bit for bit in results.csv and every
checkpoint, or a refusal: exit code 1 or 2 and a message with the path of what was damaged. Wrong are other results, any
other message, a traceback, and a change to a file outside. `most_bytes` is what its folder held at most.
Every 50th round takes the command line, the others this process. Exit code 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from compressit import api
from compressit.contract.job import Job
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit.recipe.load import load_recipe
from compressit.recipe.model import Recipe
from compressit.results.runfolder import RunFolder
from compressit.running import session
from compressit.running.job import JobRunner
from compressit.running.job_order import Schedule
from compressit.running.runner import Failure, Listener
from compressit.store.objects import Store

RECIPE = """\
version: 1
name: mutated
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic, with: {train: 64, test: 16}}
model: {uses: model.mlp, with: {hidden: [6]}}
stages:
  train: {uses: train.supervised, with: {epochs: 3, batch_size: 16}}
  prune: {uses: prune.magnitude, with: {sparsity: 0.5}}
evaluate: [eval.accuracy, eval.size]
"""
COMMAND_LINE_EVERY = 50


class Stop(BaseException):
    """Stands for a kill."""


@dataclass
class Found:
    """What was done and what came of it."""

    mutations: collections.Counter[str] = field(default_factory=collections.Counter)
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    most_bytes: int = 0  # on the disk


class Quiet:
    """A `Runner` without processes: the jobs in this one."""

    stop_after = -1  # saves of progress

    def __init__(self, options: Any, listener: Listener, jobs: int = 1) -> None:
        store = Store(options.store)
        if Quiet.stop_after > 0:
            save = store.save_progress

            def save_and_stop(*arguments: Any) -> None:
                save(*arguments)
                Quiet.stop_after -= 1
                if Quiet.stop_after == 0:
                    raise Stop

            store.save_progress = save_and_stop
        self._jobs = JobRunner(store, Host(), options.cache, 0.0)
        self._listener = listener

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, jobs: Sequence[Job]) -> None:
        pass

    def calibrate(self, request: Mapping[str, Any]) -> None:
        pass

    def run(self, jobs: Sequence[Job]) -> None:
        schedule = Schedule(jobs)
        while (job := schedule.next([], 0)) is not None:
            schedule.start(job, 0)
            self._listener.started(job)
            try:
                done = self._jobs.run(job, partial(self._listener.progress, job))
            except CompressitError as error:
                schedule.fail(job)
                self._listener.failed(job, Failure(job.label, error.message, error.hint))
            except OSError as error:
                schedule.fail(job)
                self._listener.failed(job, Failure(job.label, f"OSError: {error}"))
            else:
                schedule.finish(job)
                self._listener.finished(job, done.seconds)


class Drawn:
    """A report that is drawn at once."""

    def wait(self, timeout: float) -> int:
        return 0


def _draw(folder: RunFolder, stdout: Any, stderr: Any) -> Drawn:
    folder._own.write("report.html", b"<p>report</p>")  # pyright: ignore[reportPrivateUsage]
    return Drawn()


def mutate(folder: Path, mutations: int, seed: int, command_line_every: int = COMMAND_LINE_EVERY) -> Found:
    """Rounds until there were so many mutations."""
    draw, found = random.Random(seed), Found()
    torch.set_num_threads(1)  # as the command line's workers do
    session.Runner, RunFolder._draw = Quiet, _draw  # type: ignore[assignment] # pyright: ignore
    os.environ["COMPRESSIT_CACHE"] = str(folder / "cache")
    recipe_file = folder / "recipe.yaml"
    recipe_file.write_text(RECIPE)
    recipe = load_recipe(recipe_file)
    starts = {"finished": folder / "finished", "begun": folder / "begun"}
    _run(recipe, starts["finished"])
    Quiet.stop_after = 2
    with contextlib.suppress(Stop):
        _run(recipe, starts["begun"])
    assert list((starts["begun"] / "store" / "progress").glob("*/progress.json")), "it was stopped too late"
    Quiet.stop_after = -1
    right = _results(starts["finished"] / "out")
    for number in range(10**9):
        if found.mutations.total() >= mutations:
            break
        start = draw.choice(list(starts))
        place = folder / "round"
        shutil.copytree(starts[start], place, symlinks=True)
        outside = folder / "outside"
        outside.mkdir()
        for name in ("file", "state-mine.safetensors", "run.json"):
            (outside / name).write_text("mine")
        before = _all(outside)
        done = [_damage(place, starts["finished"], outside, draw) for _ in range(draw.randint(1, 3))]
        done = [name for name in done if name]
        found.mutations.update(name.split(" ")[0] for name in done)
        try:
            through = _command_line if number % command_line_every == command_line_every - 1 else _in_process
            outcome, said = through(recipe, place)
        except Exception:  # noqa: BLE001 - what is looked for
            outcome, said = "traceback", traceback.format_exc()
        there = _results(place / "out")
        if outcome == "ended" and there != right:
            outcome = "other results"
        elif outcome == "refused" and not _names(said, place, done):
            outcome = "unclear refusal"
        found.most_bytes = max(found.most_bytes, _size(folder))
        if _all(outside) != before:
            outcome = "changed what is outside"
        found.outcomes[outcome] += 1
        if outcome not in ("ended", "refused"):
            found.wrong.append(f"seed {seed} round {number} ({start}): {done}: {outcome}: {said[-3000:]}")
        shutil.rmtree(place)
        shutil.rmtree(outside)
    return found


def _run(recipe: Recipe, place: Path) -> str:
    from rich.console import Console

    said = io.StringIO()
    api.run(recipe, out=place / "out", store=place / "store", command="mutated", save_every=0.0,
            console=Console(file=said, width=200))  # fmt: skip
    return said.getvalue()


def _in_process(recipe: Recipe, place: Path) -> tuple[str, str]:
    try:
        return "ended", _run(recipe, place)
    except CompressitError as error:
        return _judged(error.exit_code, str(error))


def _command_line(recipe: Recipe, place: Path) -> tuple[str, str]:
    command = [sys.executable, "-m", "compressit", "run", str(recipe.path)]
    done = subprocess.run(
        [*command, "--out", str(place / "out"), "--store", str(place / "store")],
        cwd=place, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    return _judged(done.returncode, done.stdout + done.stderr)


def _judged(code: int, said: str) -> tuple[str, str]:
    if "Traceback" in said:
        return "traceback", said
    return {0: "ended", 1: "refused", 2: "refused"}.get(code, f"exit code {code}"), said


def _names(said: str, place: Path, done: Sequence[str]) -> bool:
    """Whether a refusal has the path of something that was damaged, or of something in it."""
    told = [Path(path) for path in re.findall(re.escape(str(place)) + r"/[^\s:,']+", said)]
    damaged = [place / path for name in done for path in name.split(" ")[1:]]
    return any(victim in (path, *path.parents) for victim in damaged for path in told)


def _size(folder: Path) -> int:
    sizes = (path.lstat() for path in folder.rglob("*"))
    return sum(facts.st_blocks * 512 for facts in sizes)


def _results(out: Path) -> dict[str, bytes]:
    files = [*out.glob("checkpoints/**/*.safetensors"), out / "results.csv"]
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in files
        if path.is_file() and not path.is_symlink()
    }


def _all(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() if p.is_file() else "" for p in folder.rglob("*")}


def _damage(place: Path, other: Path, outside: Path, draw: random.Random) -> str:
    """Makes one change; says which, "" where it came to nothing."""
    paths = sorted(
        path for path in place.rglob("*") if not path.is_symlink() and (path.is_file() or path.is_dir())
    )
    files = [path for path in paths if path.is_file()]
    name = draw.choice(list(CHANGES))
    victim = draw.choice(paths if name in ("delete", "link", "pipe", "swap", "foreign") else files)
    second = draw.choice(paths)
    if not CHANGES[name](victim, second, outside, draw):
        return ""
    return " ".join(
        [name, *(str(path.relative_to(place)) for path in (victim, second)[: 1 + (name == "swap")])]
    )


def _byte(file: Path, _: Path, outside: Path, draw: random.Random) -> bool:
    content = bytearray(file.read_bytes())
    if not content:
        return False
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return True


def _digit(file: Path, _: Path, outside: Path, draw: random.Random) -> bool:
    content = bytearray(file.read_bytes())
    places = [place for place, byte in enumerate(content) if chr(byte).isascii() and chr(byte).isdigit()]
    if not places:
        return False
    place = draw.choice(places)
    content[place] = ord(draw.choice([d for d in "0123456789" if ord(d) != content[place]]))
    file.write_bytes(content)
    return True


def _value(file: Path, _: Path, outside: Path, draw: random.Random) -> bool:
    if file.suffix != ".json":
        return False
    try:
        node = json.loads(file.read_text())
    except (ValueError, RecursionError):  # an earlier change made it so
        return False
    whole = node
    while isinstance(node, dict | list) and node:
        where = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[where], dict | list) or not node[where] or draw.random() < 0.2:
            node[where] = draw.choice(
                [None, 0, -1, 1e300, float("nan"), "", "../../x", [], {}, True, [[[]]], 2**70]
            )
            file.write_text(json.dumps(whole))
            return True
        node = node[where]
    return False


def _truncate(file: Path, _: Path, outside: Path, draw: random.Random) -> bool:
    os.truncate(file, draw.randint(0, file.stat().st_size))
    return True


def _replace(file: Path, _: Path, outside: Path, draw: random.Random) -> bool:
    file.write_bytes(
        draw.choice([b"", b"{}", b"[]", b"null", b"[" * 100_000, b"\xff\xfe", draw.randbytes(64)])
    )
    return True


def _swap(one: Path, other: Path, outside: Path, draw: random.Random) -> bool:
    if one == other or one in other.parents or other in one.parents or one.is_dir() != other.is_dir():
        return False
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return True


def _copy(one: Path, other: Path, outside: Path, draw: random.Random) -> bool:
    if not other.is_file() or other == one:
        return False
    shutil.copyfile(other, one)
    return True


def _delete(victim: Path, _: Path, outside: Path, draw: random.Random) -> bool:
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    return True


def _link(victim: Path, other: Path, outside: Path, draw: random.Random) -> bool:
    if victim.name in ("out", "store"):  # whoever makes these links means it
        return False
    folder = victim.is_dir()
    _delete(victim, other, outside, draw)
    where = draw.choice(
        [outside if folder else outside / "file", outside / "nowhere", victim, Path("/dev/zero")]
    )
    victim.symlink_to(where)
    return True


def _pipe(victim: Path, other: Path, outside: Path, draw: random.Random) -> bool:
    _delete(victim, other, outside, draw)
    os.mkfifo(victim)
    return True


def _foreign(victim: Path, other: Path, outside: Path, draw: random.Random) -> bool:
    folder = victim if victim.is_dir() else victim.parent
    name = draw.choice(
        ["0" * 64, "x", ".x.0123456789ab.tmp", "state-x.safetensors", "manifest.json", "model.safetensors"]
    )
    if os.path.lexists(folder / name):
        return False
    draw.choice(
        [lambda p: p.mkdir(), lambda p: p.write_text("x"), lambda p: p.symlink_to(outside), os.mkfifo]
    )(folder / name)
    return True


CHANGES: Mapping[str, Callable[[Path, Path, Path, random.Random], bool]] = {
    "byte": _byte, "digit": _digit, "value": _value, "truncate": _truncate, "replace": _replace, "swap": _swap,
    "copy": _copy, "delete": _delete, "link": _link, "pipe": _pipe, "foreign": _foreign,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        found = mutate(Path(folder).resolve(), options.mutations, options.seed)
    print(json.dumps({"seed": options.seed, **vars(found), "mutated": found.mutations.total()}, indent=1))
    raise SystemExit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
