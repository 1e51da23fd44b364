"""What share of a run's time is not training, and what share is in no job at all.

    python benchmarks/overhead.py RECIPE [--profile quick] [--jobs 2]      # runs it, in an empty store
    python benchmarks/overhead.py --store DIR --wall SECONDS [--jobs 2]    # of a run that has ended

By the manifests of the store: all that happens inside a job, reading its model and data included, is the job's. The
rest of the workers' time (wall x jobs) is the start (planning, importing torch, measuring the machine), publishing and
handing out between jobs, workers without a job, and the report. The store must hold that run alone, and the wall time
be that of one uninterrupted run: from the command to its prompt, as `time` tells it. On a machine with other work both
parts get longer, and the second more: compare two versions by turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", type=Path, nargs="?", help="a recipe to run")
    parser.add_argument("--profile")
    parser.add_argument("--store", type=Path, help="the store of a run that has ended")
    parser.add_argument("--wall", type=float, help="how many seconds that run took")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if options.recipe is not None and options.store is None and options.wall is None:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.time()
            wall = run(options.recipe, options.profile, options.jobs, Path(folder))
            report(Path(folder) / "store", wall, options.jobs, begun)
    elif options.recipe is None and options.store is not None and options.wall is not None:
        report(options.store, options.wall, options.jobs)
    else:
        parser.error("give a recipe, or --store and --wall")


def run(recipe: Path, profile: str | None, jobs: int, folder: Path) -> float:
    """Seconds of the whole command; data that is not in the cache is downloaded in them."""
    command = [sys.executable, "-m", "compressit", "run", str(recipe), "--jobs", str(jobs)]
    command += ["--store", str(folder / "store"), "--out", str(folder / "out")]
    started = time.perf_counter()
    subprocess.run(command + (["--profile", profile] if profile else []), check=True)
    return time.perf_counter() - started


def report(store: Path, wall: float, jobs: int, begun: float | None = None) -> None:
    """Prints where the workers' time went. `begun`: when the command was started, if that is known."""
    manifests = [json.loads(path.read_bytes()) for path in store.glob("objects/*/*/manifest.json")]
    if not manifests:
        sys.exit(f"{store} holds no results")
    seconds, counts = Counter[str](), Counter[str]()
    for manifest in manifests:
        kind = manifest["job"]["kind"]
        seconds[kind] += manifest["seconds"]
        counts[kind] += 1
    whole = wall * jobs
    rest = whole - seconds.total()
    if rest < 0:
        sys.exit(
            f"the jobs took {seconds.total():.0f} s, more than {wall:.0f} s x {jobs}: not the time of this run"
        )

    def say(what: str, taken: float, more: str = "") -> None:
        print(f"{what:36} {taken:9.1f} s   {taken / whole:7.2%}   {more}".rstrip())

    say("wall x jobs", whole, f"{wall:.1f} s x {jobs}")
    for kind, taken in seconds.most_common():
        say(kind, taken, f"{counts[kind]} jobs")
    say("in no job", rest)
    first, last, working = span(manifests)
    idle = jobs * (last - first) - seconds.total()
    if begun is not None:
        say("  before the first job", jobs * (first - begun), f"{first - begun:.1f} s x {jobs}")
        say("  after the last job", jobs * (begun + wall - last), f"{begun + wall - last:.1f} s x {jobs}")
    say("  between jobs", idle, f"{idle / len(manifests):.3f} s a job")
    for number, taken in sorted(working.items()):
        if number < jobs:
            say(f"    of it while {number} of {jobs} had a job", (jobs - number) * taken, f"{taken:.1f} s")
    say("everything but training", whole - seconds["stage"])


def span(manifests: list[dict[str, Any]]) -> tuple[float, float, Counter[int]]:
    """When the first job began and the last one ended (a job's end is when its result was published), and for how many
    seconds between them how many jobs were at work."""
    edges = [(manifest["created"] - manifest["seconds"], 1) for manifest in manifests]
    edges = sorted(edges + [(manifest["created"], -1) for manifest in manifests])
    working, number = Counter[int](), 0
    for (moment, change), (following, _) in pairwise(edges):
        number += change
        working[number] += following - moment
    return edges[0][0], edges[-1][0], working


if __name__ == "__main__":
    main()
