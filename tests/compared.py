"""Results of runs that compare strategies, made of plain numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from compressit.contract.results import Kept, Results, Row

UNITS = {
    "test_accuracy": ("higher", "fraction"),
    "validation_accuracy": ("higher", "fraction"),
    "test_loss": ("lower", "nats"),
    "parameters": ("lower", "count"),
    "macs": ("lower", "count"),
    "latency_1_median_seconds": ("lower", "seconds"),
    "latency_1_iqr_seconds": ("lower", "seconds"),
}
METRICS = {name: {"better": better, "unit": unit, "about": ""} for name, (better, unit) in UNITS.items()}
Values = Mapping[str, float | Sequence[float]]
"""Metrics; a sequence has a value per seed."""


def row(variant: str, stage: str, seed: int, metrics: Mapping[str, float], **facts: Any) -> Row:
    """One model."""
    parent = None if stage == "train" else "train"
    facts = {"dense": "train", "parent": parent, "notes": {"epochs": 2, "images_seen": 200}} | facts
    member, notes = facts.pop("member", ""), facts.pop("notes")
    return Row(variant, stage, None, member, seed, "x.y", None, dict(metrics), notes, {}, **facts)


def compared(
    original: Values,
    strategies: Mapping[str, Values],
    controls: Mapping[str, tuple[str, Sequence[str], Values]] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    **asked: Any,
) -> Results:
    """Results of a recipe with `compare`: every variant has the original `train` and its own `made`.

    `controls`: the kind, the strategies it is for and the metrics of each, by name.
    """
    own = {name: ("", (), values) for name, values in strategies.items()} | dict(controls or {})
    rows: list[Row] = []
    for name, (_, _, values) in own.items():
        for place, seed in enumerate(seeds):
            rows.append(row(name, "train", seed, _at(original, place)))
            rows.append(row(name, "made", seed, _at(values, place)))
    recorded = {
        name: {"final": ["made"], "control": kind, "of": list(of)} for name, (kind, of, _) in own.items()
    }
    config = {"compare": {"metric": "test_accuracy", "strategies": recorded} | asked}
    metrics = {name: facts for name, facts in METRICS.items() if any(name in made.metrics for made in rows)}
    return Results("compared", None, rows, metrics, {}, config=config)


def with_right(results: Results, folder: Path, right: Mapping[str, Sequence[bool]]) -> Results:
    """The results with arrays of which examples the models of seed 0 answer correctly, by `variant/stage`."""
    rows: list[Row] = []
    (folder / "arrays").mkdir()
    for made in results.rows:
        answers = right.get(f"{made.variant}/{made.stage}") if made.seed == 0 else None
        if answers is None:
            rows.append(made)
            continue
        file = f"arrays/{made.variant}-{made.stage}.safetensors"
        content = save({"correct": np.array(answers)})
        (folder / file).write_bytes(content)
        kept = Kept(file, hashlib.sha256(content).hexdigest(), "correct")
        rows.append(replace(made, arrays={"correct": kept}))
    return replace(results, rows=rows, folder=folder)


def noisy(mean: float, seeds: int, draw: np.random.Generator, deviation: float = 0.01) -> list[float]:
    """A metric of several seeds."""
    return draw.normal(mean, deviation, seeds).tolist()


def _at(values: Values, place: int) -> dict[str, float]:
    return {
        name: float(value[place]) if isinstance(value, Sequence) else value for name, value in values.items()
    }
