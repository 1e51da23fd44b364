"""What `--help`, `check` and a run with nothing to do cost, beside `import typer, pydantic`.

    python benchmarks/startup.py [--rounds 10]

Processor seconds (user + system) of whole processes, in turn; prints medians and the ratios round by round.
Every module is compiled beforehand, as installing a package does, whatever PYTHONDONTWRITEBYTECODE says.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

RECIPE = Path(__file__).parent.parent / "examples" / "mnist_twins.yaml"
COMMANDS = {
    "import typer, pydantic": [sys.executable, "-c", "import typer, pydantic"],
    "compressit --help": [sys.executable, "-m", "compressit", "--help"],
    "compressit check": [sys.executable, "-m", "compressit", "check", str(RECIPE)],
    "compressit plan": [sys.executable, "-m", "compressit", "plan", str(RECIPE)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    count = parser.parse_args().rounds + 1  # the first compiles, and warms the file cache
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        rounds = [
            {name: cost(command, environment) for name, command in COMMANDS.items()} for _ in range(count)
        ][1:]
    base = next(iter(COMMANDS))
    for name in COMMANDS:
        seconds = statistics.median(r[name] for r in rounds)
        ratios = [r[name] / r[base] for r in rounds]
        spread = f"(from {min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:24} {seconds:6.3f} s   {statistics.median(ratios):5.2f}x  {spread}")


def cost(command: list[str], environment: Mapping[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
