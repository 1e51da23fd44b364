"""What share of a run's time is not training.

    python benchmarks/overhead.py RECIPE [--profile quick] [--jobs 2]      # runs it, in an empty store
    python benchmarks/overhead.py --store DIR --wall SECONDS [--jobs 2]    # of a run that has ended

Training is what the stages took, by the manifests of the store: all that happens inside a plugin, reading its model and
data included. The rest of the workers' time (wall x jobs) is starting up, evaluations, publishing, reports, and workers
without a job. The store must hold that run alone, and the wall time be that of one uninterrupted run: from the command
to its prompt, as `time` tells it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


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
            wall = run(options.recipe, options.profile, options.jobs, Path(folder))
            report(Path(folder) / "store", wall, options.jobs)
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


def report(store: Path, wall: float, jobs: int) -> None:
    """Prints where the workers' time went."""
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
    print(f"{'wall x jobs':24} {whole:9.1f} s   {wall:.1f} s x {jobs}")
    for kind, taken in seconds.most_common():
        print(f"{kind:24} {taken:9.1f} s   {taken / whole:6.2%}   {counts[kind]} jobs")
    print(f"{'in no job':24} {rest:9.1f} s   {rest / whole:6.2%}")
    print(f"everything but training  {whole - seconds['stage']:9.1f} s   {1 - seconds['stage'] / whole:6.2%}")


if __name__ == "__main__":
    main()
