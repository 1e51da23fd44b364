"""Kills runs at random moments, lets them go on, and compares what they leave with a run that nobody disturbed.

    python benchmarks/soak.py --kills 100 --seed 0

A round is one store and one run folder: a run is started and killed, several times over, and then left alone until it
ends well. Killed are the main process, a worker or the process that watches it, the process that draws the report, or
the whole group, by SIGKILL, SIGTERM, SIGINT or SIGHUP, after a random time or while the run folder is written.
Afterwards every checkpoint and results.csv must have the bytes of the undisturbed run, and nothing else may be left:
no temporary file, lock, saved progress or process. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

RECIPE = """\
version: 1
name: soak
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic, with: {train: 512, test: 128}}
model: {uses: model.mlp, with: {hidden: [32]}}
variants: {real: {}, fake: {data: {with: {labels: random}}}}
stages:
  train: {uses: train.supervised, with: {epochs: 30, batch_size: 16}}
  noise: {uses: shrink.noise, needs: train, with: {width: 0.5, images: 512, epochs: 30, batch_size: 16, teacher: train}}
  prune: {uses: prune.magnitude, needs: train, with: {sparsity: 0.5}}
evaluate: [eval.accuracy, eval.size]
"""
MOST_KILLS = 8  # in one round
PATIENCE = 120.0  # seconds for a run to end; it takes a tenth
ENDINGS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
TARGETS = ("main", "group", "worker", "folder")


@dataclass
class Found:
    """What was done and what went wrong."""

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    endings: collections.Counter[str] = field(default_factory=collections.Counter)
    rounds: int = 0
    differing: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # exit codes, tracebacks, runs that do not end


@dataclass(frozen=True)
class Place:
    """A folder with a recipe, a store and a run folder."""

    root: Path

    @property
    def out(self) -> Path:
        """The run folder."""
        return self.root / "out"

    def start(self) -> subprocess.Popen[bytes]:
        """The run, in a group of its own as a shell gives it."""
        with (self.root / "stderr.txt").open("ab") as stderr:
            return subprocess.Popen(
                [sys.executable, "-m", "compressit", "run", "recipe.yaml", "--out", "out", "--jobs", "2",
                 "--save-every", "0.1", "--store", str(self.root / "store")],
                cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, process_group=0,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )  # fmt: skip

    def said(self) -> str:
        """All that its runs have said so far."""
        file = self.root / "stderr.txt"
        return file.read_text(errors="replace") if file.exists() else ""

    def processes(self, word: str = "") -> list[int]:
        """The processes that were started for this place, and have that word in their command line."""
        found: list[int] = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                line = (entry / "cmdline").read_bytes()
                ours = os.fsencode(str(self.root)) in line or os.readlink(entry / "cwd") == str(self.root)
                if ours and word.encode() in line and int(entry.name) != os.getpid():
                    found.append(int(entry.name))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        found = soak(Path(folder).resolve(), options.kills, options.seed)
    print(json.dumps({"seed": options.seed, **vars(found), "killed": found.kills.total()}, indent=1))
    raise SystemExit(1 if found.differing or found.leftovers or found.wrong else 0)


def soak(folder: Path, kills: int, seed: int, recipe: str = RECIPE, most: int = MOST_KILLS) -> Found:
    """Rounds of at most `most` kills until there were `kills`."""
    draw = random.Random(seed)
    found = Found()
    quiet = _place(folder / "quiet", recipe)
    assert quiet.start().wait(PATIENCE) == 0, quiet.said()
    while found.kills.total() < kills:
        found.rounds += 1
        place = _place(folder / f"round-{found.rounds}", recipe, quiet)
        planned = min(draw.randint(1, most), kills - found.kills.total())
        while planned and _run_and_kill(place, draw, found):
            planned -= 1
        _finish(place, found)
        _compare(place, quiet, found)
        print(f"round {found.rounds}: {found.kills.total()} kills", file=sys.stderr, flush=True)
        shutil.rmtree(place.root)
    return found


def _place(root: Path, recipe: str, like: Place | None = None) -> Place:
    """A new place; with the history of another, so that nothing needs to be measured first."""
    (root / "store").mkdir(parents=True)
    (root / "recipe.yaml").write_text(recipe)
    if like is not None:
        shutil.copy(like.root / "store" / "history.json", root / "store" / "history.json")
    return Place(root)


def _run_and_kill(place: Place, draw: random.Random, found: Found) -> bool:
    """Whether there was something to kill: the run may have ended before."""
    target, number = draw.choice(TARGETS), draw.choice(list(ENDINGS))
    said = place.said()
    running = place.start()
    victim = _victim(place, running, target, draw)
    try:
        with contextlib.suppress(ProcessLookupError):
            if victim is None:
                raise ProcessLookupError
            (os.killpg if target == "group" else os.kill)(victim, number)
            found.kills[f"{target} {number.name}"] += 1
        code = running.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        found.wrong.append(f"{target} {number.name}: the run did not end")
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        return False
    found.endings[str(code)] += 1
    allowed = {0, 1} if victim != running.pid else {0, ENDINGS[number]}
    if place.said() == said:  # it was still importing: the system ends it
        allowed.add(-number)
    if code not in allowed:
        found.wrong.append(f"{target} {number.name}: exit code {code}: {place.said()[-2000:]}")
    return victim is not None


def _victim(place: Place, running: subprocess.Popen[bytes], target: str, draw: random.Random) -> int | None:
    """Waits for the moment; returns the process to kill, None where the run has ended."""

    def there(word: str) -> bool:
        return running.poll() is not None or bool(place.processes(word))

    word = {"worker": "compressit.running.worker", "folder": "\0report\0"}.get(target)
    if word is not None:
        _wait_for(lambda: there(word))
    _wait_for(lambda: running.poll() is not None, draw.uniform(0.0, 1.0 if target == "folder" else 6.0))
    if running.poll() is not None:
        return None
    others = place.processes(word) if word is not None else []
    return draw.choice(others if target == "worker" and others else [running.pid, *others])


def _finish(place: Place, found: Found) -> None:
    """Lets the run go on until it ends well."""
    if not _wait_for(lambda: not place.processes(), 30.0):
        found.leftovers.append(f"processes {place.processes()}")
    try:
        code = place.start().wait(PATIENCE)
    except subprocess.TimeoutExpired:
        code = None
    if code != 0:
        found.wrong.append(
            f"left alone, the run ended with {code}: {(place.root / 'stderr.txt').read_text()[-2000:]}"
        )
    if "Traceback" in (place.root / "stderr.txt").read_text():
        found.wrong.append((place.root / "stderr.txt").read_text()[-2000:])


def _compare(place: Place, quiet: Place, found: Found) -> None:
    ours, theirs = _files(place.out), _files(quiet.out)
    names = [name for name in theirs if name.startswith("checkpoints/") or name == "results.csv"]
    for name in names:
        if name not in ours or (place.out / name).read_bytes() != (quiet.out / name).read_bytes():
            found.differing.append(f"round {found.rounds}: {name}")
    found.leftovers += [f"round {found.rounds}: out/{name}" for name in sorted(ours - theirs)]
    found.leftovers += [
        f"round {found.rounds}: store/{name}" for name in sorted(_extra(place.root / "store"))
    ]
    if not _wait_for(lambda: not place.processes(), 30.0):
        found.leftovers.append(f"round {found.rounds}: processes {place.processes()}")


def _files(out: Path) -> set[str]:
    """The files of a run folder but for its logs, of which there is one for each worker that was started."""
    names = {str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir()}
    return {name for name in names if not name.startswith("logs/")}


def _extra(store: Path) -> Iterator[str]:
    """What a store has besides results and the history."""
    for path in store.rglob("*"):
        name = path.relative_to(store)
        if name.parts[0] not in ("objects", "runs") and not path.is_dir() and str(name) != "history.json":
            yield str(name)
        if name.parts[0] == "objects" and len(name.parts) == 3 and not (path / "manifest.json").exists():
            yield str(name)


def _wait_for(true: Callable[[], object], patience: float = PATIENCE) -> bool:
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


if __name__ == "__main__":
    main()
