"""Some damage to store, run folder and saved progress; much more: benchmarks/mutate_store.py."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "mutate_store.py"


@pytest.mark.parametrize(
    ("said", "clear"),
    [
        ("{}/store/objects/ab: damaged", True),
        ("{}/store/objects/ab/file.json, line 3: damaged", True),
        ("{}/out cannot be written", False),
        ("the store is damaged", False),
        ("objects", False),
    ],
)
def test_a_refusal_is_clear_when_it_has_the_path_of_what_was_damaged(said: str, clear: bool) -> None:
    names = runpy.run_path(str(BENCHMARK))["_names"]
    place = Path("/tmp/place")
    assert names(said.format(place), place, ["byte out/a.csv", "swap store/objects/ab store/runs"]) is clear


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
    assert 0 < found["most_bytes"] < 5_000_000
