"""Sample results for reports: none, a part of a run, or all of it. Invented, and always the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compressit.contract.results import Results, Row

METRICS: Mapping[str, Mapping[str, str]] = {
    name: {"better": better, "unit": unit, "about": name.replace("_", " ")}
    for names, better, unit in (
        ("parameters nonzero macs", "lower", "count"),
        ("bytes", "lower", "bytes"),
        ("train_accuracy validation_accuracy test_accuracy", "higher", "fraction"),
        ("agreement", "higher", "fraction"),
    )
    for name in names.split()
}
MODELS: tuple[tuple[str, int | None, str, str, str | None, int, float], ...] = (
    ("train", None, "", "testing.train", None, 64, 0.95),
    ("narrow", 1, "", "testing.shrink", "train", 52, 0.91),
    ("narrow", 2, "", "testing.shrink", "train", 41, 0.87),
    ("narrow", 3, "", "testing.shrink", "train", 33, 0.83),
    ("prune", None, "sparsity=0.5", "testing.prune", "previous", 64, 0.9),
    ("prune", None, "sparsity=0.9", "testing.prune", "previous", 64, 0.86),
)
"""Stage, round, member, plugin, teacher, width and accuracy, for training, rounds of shrinking, and pruning."""


def full() -> Results:
    """Two variants and two seeds of all models."""
    rows = [_row(v, seed, *model) for v in ("one", "other") for seed in (0, 1) for model in MODELS]
    about = {
        "date": "2026-01-01",
        "command": "compressit run sample.yaml",
        "classes": 10,
        "job_seconds": 12.5,
    }
    return Results("sample", None, rows, METRICS, about, description="made up, for conformance checks")


def unfinished() -> Mapping[str, Results]:
    """The same run in unfinished states, by description."""
    whole = full()
    paths = [f"{row.variant}/seed{row.seed}/{row.name}" for row in whole.rows]
    third = len(paths) // 3
    begun = replace(whole, rows=whole.rows[:third], missing=paths[third:])

    def changed(**fields: Any) -> Results:
        return replace(whole, rows=[replace(row, **fields) for row in whole.rows])

    return {
        "no results yet": replace(whole, rows=[], metrics={}, missing=paths, about={}),
        "a third of the models": begun,
        "models without metrics, curves or notes": changed(metrics={}, curves={}, notes={}),
        "metrics that are not finite": changed(metrics=dict.fromkeys(METRICS, math.nan)),
        "other variants and stages": changed(
            variant="base", stage="other", uses="other.method", teacher=None
        ),
        "failures": replace(begun, failures=["one/seed0/train: RuntimeError: out of memory"]),
    }


def _row(
    variant: str, seed: int, stage: str, number: int | None, member: str, uses: str, teacher: str | None, width: int,
    accuracy: float,
) -> Row:  # fmt: skip
    test = (accuracy if variant == "one" else 0.1) - 0.01 * seed
    parameters = 795 * width
    metrics: dict[str, float] = {
        "parameters": parameters, "nonzero": parameters, "macs": 794 * width, "bytes": 4 * parameters,
        "train_accuracy": min(1.0, accuracy + 0.02), "validation_accuracy": test, "test_accuracy": test,
    }  # fmt: skip
    notes: dict[str, Any] = {"width": width, "images_seen": 20_000, "epochs": 20}
    if teacher is not None:
        metrics["agreement"] = accuracy
    curves = {"loss": [(100.0 * step, 2.3 / step) for step in range(1, 21)]}
    row = Row(variant, stage, number, member, seed, uses, teacher, metrics, notes, curves, 2.5)
    parent = None if stage == "train" else f"narrow-{number - 1:02d}" if number and number > 1 else "train"
    options = {"train": {"epochs": 20}, "narrow": {"width": 0.8, "teacher": "train"}}.get(stage)
    return replace(
        row,
        checkpoint=f"checkpoints/{variant}/seed{seed}/{row.name}.safetensors",
        parent=parent,
        options=options or {"sparsity": float(member.partition("=")[2])},
    )
