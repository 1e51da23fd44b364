"""How long the results of many models take: flat table, comparison, text, results.json and results.csv.

    python benchmarks/collect_rows.py [rows [points]]

By default 10,000 rows with curves of 50 points, which must take less than 20 s in all.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compressit.contract.results import Results, Row
from compressit.results.comparison import Comparison

COSTS = ("parameters", "nonzero", "macs", "bytes")
SEEDS = 5
SPLITS = ("train", "validation", "test")


def main() -> None:
    """Times each step once."""
    rows, points = (int(word) for word in [*sys.argv[1:], *("10000", "50")[len(sys.argv) - 1 :]])
    results = synthetic(rows, points)
    total = 0.0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        comparison = Comparison.of(results)
        steps: dict[str, Callable[[], Any]] = {
            "Results.table": results.table,
            "write results.json": lambda: results.write_json(file),
            "read results.json": lambda: Results.read_json(file),
            "write results.csv": lambda: results.write_csv(Path(folder) / "results.csv"),
            "Comparison.of": lambda: Comparison.of(results),
            "verdicts": lambda: comparison.verdicts,
            "Comparison.table": comparison.table,
            "notes": lambda: comparison.notes,
            "choose": lambda: comparison.choose(0.02, "macs"),
            "str": lambda: str(comparison),
        }
        for name, step in steps.items():
            begun = time.process_time()  # of this process: others may be at work
            step()
            seconds = time.process_time() - begun
            total += seconds
            print(f"{name:20} {seconds:6.2f} s")
        print(f"{len(results.rows):,} rows, {file.stat().st_size / 1e6:.0f} MB: {total:.1f} s of CPU in all")


def synthetic(rows: int, points: int) -> Results:
    """Strategies with an original, a pruned and a recovered model each, two controls for each strategy, five seeds."""
    draw = random.Random(0)
    strategies = max(1, rows // (3 * 3 * SEEDS))
    compared: dict[str, dict[str, Any]] = {}
    for number in range(strategies):
        name = f"strategy{number}"
        compared[name] = {"final": ["recover"], "control": "", "of": []}
        for kind in ("random", "scratch"):
            compared[f"{kind}-{name}"] = {"final": ["recover"], "control": kind, "of": [name]}
    found = [
        _row(draw, variant, stage, seed, points)
        for variant in compared
        for seed in range(SEEDS)
        for stage in ("train", "prune", "recover")
    ]
    scores = {f"{split}_accuracy": {"better": "higher", "unit": "fraction", "about": ""} for split in SPLITS}
    sizes = {name: {"better": "lower", "unit": "count", "about": ""} for name in COSTS}
    asked = {"metric": "test_accuracy", "selecting": "validation_accuracy", "strategies": compared}
    return Results("many", None, found, scores | sizes, {}, config={"compare": asked})


def _row(draw: random.Random, variant: str, stage: str, seed: int, points: int) -> Row:
    scores = {f"{split}_accuracy": draw.gauss(0.9, 0.01) for split in SPLITS}
    sizes = {name: draw.randint(1000, 100_000) for name in COSTS}
    curves = {"loss": [(step, draw.random()) for step in range(points)]} if stage != "prune" else {}
    notes = {"epochs": 3, "images_seen": 30_000} if stage != "prune" else {"achieved": 0.5}
    parent = {"prune": "train", "recover": "prune"}.get(stage)
    return Row(
        variant,
        stage,
        None,
        "",
        seed,
        "x.y",
        None,
        scores | sizes,
        notes,
        curves,
        dense="train",
        parent=parent,
    )


if __name__ == "__main__":
    main()
