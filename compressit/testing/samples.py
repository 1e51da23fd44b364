"""Results that a report may be given: none, some of a run, all of it. Made up, the same every time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compressit.contract.results import Results, Row

ROUNDS = 3
_METRICS: Mapping[str, Mapping[str, str]] = {
    name: {"better": better, "unit": unit, "about": name.replace("_", " ")}
    for names, better, unit in (
        (("parameters", "nonzero", "macs"), "lower", "count"),
        (("bytes",), "lower", "bytes"),
        (("train_accuracy", "validation_accuracy", "test_accuracy"), "higher", "fraction"),
        (("agreement",), "higher", "fraction"),
    )
    for name in names
}


def full() -> Results:
    """Two variants and two seeds: a training, rounds of shrinking taught by it, pruning at two sparsities."""
    rows = [row for variant in ("one", "other") for seed in (0, 1) for row in _rows(variant, seed)]
    about = {
        "date": "2026-01-01",
        "command": "compressit run sample.yaml",
        "classes": 10,
        "job_seconds": 12.5,
    }
    return Results("sample", None, rows, _METRICS, about, description="made up, for conformance checks")


def unfinished() -> Mapping[str, Results]:
    """The same run at other times of its life, by what is the matter with it."""
    whole = full()
    nothing = replace(whole, rows=[], metrics={}, missing=[_path(row) for row in whole.rows], about={})
    half = whole.rows[: len(whole.rows) // 3]
    begun = replace(whole, rows=half, missing=[_path(row) for row in whole.rows[len(half) :]])
    unmeasured = [replace(row, metrics={}, curves={}, notes={}) for row in whole.rows]
    nan = [replace(row, metrics=dict.fromkeys(row.metrics, math.nan)) for row in whole.rows]
    other = [
        replace(row, variant="base", stage="another", uses="other.method", teacher=None) for row in whole.rows
    ]
    return {
        "no results yet": nothing,
        "a third of the models": begun,
        "models without metrics, curves or notes": replace(whole, rows=unmeasured),
        "metrics that are not finite": replace(whole, rows=nan),
        "other variants and stages": replace(whole, rows=other),
        "failures": replace(begun, failures=["one/seed0/train: RuntimeError: out of memory"]),
    }


def _rows(variant: str, seed: int) -> list[Row]:
    common: dict[str, Any] = {"variant": variant, "seed": seed}
    rows = [_row("train", None, "", "testing.train", None, 64, 0.95, **common)]
    for number in range(1, ROUNDS + 1):
        width = math.ceil(64 * 0.8**number)
        rows.append(
            _row("narrow", number, "", "testing.shrink", "train", width, 0.95 - 0.04 * number, **common)
        )
    for sparsity in (0.5, 0.9):
        member = f"sparsity={sparsity}"
        rows.append(
            _row("prune", None, member, "testing.prune", "previous", 64, 0.95 - sparsity / 10, **common)
        )
    return rows


def _row(
    stage: str, number: int | None, member: str, uses: str, teacher: str | None, width: int, accuracy: float, *,
    variant: str, seed: int,
) -> Row:  # fmt: skip
    test = (accuracy if variant == "one" else 0.1) - 0.01 * seed
    parameters = 784 * width + 11 * width
    metrics: dict[str, float] = {
        "parameters": parameters, "nonzero": parameters, "macs": 794 * width, "bytes": 4 * parameters,
        "train_accuracy": min(1.0, accuracy + 0.02), "validation_accuracy": test, "test_accuracy": test,
    }  # fmt: skip
    notes: dict[str, Any] = {"width": width, "images_seen": 20_000, "epochs": 20}
    if teacher is not None:
        metrics |= {"agreement": accuracy}
    curves = {"loss": [(100.0 * step, 2.3 / step) for step in range(1, 21)]}
    name = stage + (f"@{member}" if member else "") + (f"-{number:02d}" if number is not None else "")
    file = f"checkpoints/{variant}/seed{seed}/{name}.safetensors"
    return Row(variant, stage, number, member, seed, uses, teacher, metrics, notes, curves, 2.5, file)


def _path(row: Row) -> str:
    return f"{row.variant}/seed{row.seed}/{row.name}"
