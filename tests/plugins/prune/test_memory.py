from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "memory.py"


@pytest.mark.parametrize("plugin", ["magnitude", "structured"])
def test_pruning_takes_no_more_than_three_times_the_net(plugin: str) -> None:
    command = [sys.executable, str(BENCHMARK), "--only", plugin, "--network", "alexnet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"([\d.]+)x$", done.stdout.strip())
    assert found, done.stdout
    assert 1 < float(found[1]) < 3
