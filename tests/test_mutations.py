"""Some damage to store, run folder and saved progress; much more: benchmarks/mutate_store.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "mutate_store.py"


def test_damage_leads_to_the_same_results_or_to_a_refusal() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "COMPRESSIT_DISABLE_PLUGINS"}
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--mutations", "40", "--seed", "3"],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["mutated"] >= 40
    assert found["wrong"] == []
    assert found["outcomes"]["ended"] > 10
