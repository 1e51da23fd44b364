"""A few random kills; many more: benchmarks/soak.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"
RECIPE = """\
version: 1
name: soak
compute: {device: cpu, threads: 1}
data: {uses: data.synthetic, with: {train: 512, test: 64}}
model: {uses: model.mlp, with: {hidden: [16]}}
stages:
  train: {uses: train.supervised, with: {epochs: 40, batch_size: 16}}
  prune: {uses: prune.magnitude, with: {sparsity: 0.5}}
evaluate: [eval.accuracy, eval.size]
"""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_killed_runs_end_with_the_bytes_of_one_that_nobody_disturbed(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(SOAK.parent)!r})
import soak
found = soak.soak(Path({str(tmp_path)!r}), kills=3, seed=4, recipe={RECIPE!r}, most=3)
print(found.kills.total(), found.differing, found.leftovers, found.wrong)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 [] [] []\n"
