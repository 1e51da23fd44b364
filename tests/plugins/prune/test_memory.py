from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "memory.py"


def test_magnitude_pruning_takes_no_more_than_three_times_the_net() -> None:
    command = [sys.executable, str(BENCHMARK), "--only", "magnitude", "--network", "alexnet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"([\d.]+)x$", done.stdout.strip())
    assert found, done.stdout
    assert 1 < float(found[1]) < 3
