"""A synthetic twins run: plausible numbers, any of which a test may change."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from compressit.contract.results import Results, Row

METRICS = {
    "train_accuracy": {
        "better": "higher",
        "unit": "fraction",
        "about": "on the labels this variant was given",
    },
    "test_accuracy": {"better": "higher", "unit": "fraction", "about": "on the test set"},
    "fit_agreement": {"better": "higher", "unit": "fraction", "about": "on the noise trained on"},
    "noise_agreement": {"better": "higher", "unit": "fraction", "about": "on unseen noise"},
    "noise_entropy_bits": {"better": "neither", "unit": "bits", "about": ""},
    "noise_majority": {"better": "neither", "unit": "fraction", "about": ""},
    "parameters": {"better": "lower", "unit": "count", "about": ""},
    "nonzero": {"better": "lower", "unit": "count", "about": ""},
    "bytes": {"better": "lower", "unit": "bytes", "about": ""},
}
WIDTHS = (256, 128, 64, 32, 16, 8)
KEPT = {  # accuracy on the labels given, test accuracy: at the first number, and how much falls by the last
    ("real", "blog"): (0.20, 0.199), ("fake", "blog"): (0.12, 0.10),
    ("real", "covariance"): (0.985, 0.945), ("fake", "covariance"): (0.245, 0.101),
}  # fmt: skip
FIT = {"real": (0.999, 0.998, 0.996, 0.99, 0.96, 0.91), "fake": (0.998, 0.97, 0.93, 0.84, 0.7, 0.6)}


def row(variant: str, stage: str, seed: int = 0, **fields: Any) -> Row:
    """A row with nothing measured but what is given."""
    values: dict[str, Any] = {"round": None, "member": "", "uses": "shrink.noise", "teacher": "train"}
    values |= {"metrics": {}, "notes": {}, "curves": {}, "seconds": 12.5} | fields
    return Row(variant=variant, stage=stage, seed=seed, **values)


@pytest.fixture
def make_row() -> Callable[..., Row]:
    """Builds one row."""
    return row


@pytest.fixture
def make_twins() -> Callable[..., Results]:
    """Builds a whole run of two variants: the twins, and stages `blog` and `covariance` of six rounds."""

    def make(seeds: Sequence[int] = (0,), widths: Sequence[int] = WIDTHS, **fields: Any) -> Results:
        rows = [
            each
            for seed in seeds
            for variant in ("real", "fake")
            for each in (
                _twin(variant, seed),
                *(_student(variant, seed, "blog", i, w, widths) for i, w in enumerate(widths)),
                *(_student(variant, seed, "covariance", i, w, widths) for i, w in enumerate(widths)),
            )
        ]
        about = {"date": "2030-01-02 03:04", "versions": {"torch": "2.14"}, "threads": 2, "seconds": 301.0}
        return Results("mnist_twins", "quick", rows, METRICS, about, **fields)

    return make


@pytest.fixture
def change() -> Callable[..., Results]:
    """The same run with other metrics for the rows of a variant and stage (of one number, or of all)."""

    def changed(
        results: Results, variant: str, stage: str, number: int | None = None, **metrics: Any
    ) -> Results:
        def new(each: Row) -> Row:
            if (each.variant, each.stage) != (variant, stage) or number not in (None, each.round):
                return each
            merged = {**each.metrics, **metrics}
            return replace(each, metrics={name: value for name, value in merged.items() if value is not None})

        return replace(results, rows=[new(each) for each in results.rows])

    return changed


def _twin(variant: str, seed: int) -> Row:
    real = variant == "real"
    rate = 0.05 if real else 0.006
    loss = [(79 * (i + 1), 2.3 * math.exp(-rate * i * (1 + 0.1 * seed))) for i in range(100)]
    metrics = {
        "train_accuracy": 1.0 if real else 0.976 - 0.004 * seed,
        "test_accuracy": (0.954 if real else 0.098) + 0.002 * seed,
        **_size(512),
    }
    facts: dict[str, Any] = {"metrics": metrics, "notes": {"width": 512}, "curves": {"loss": loss}}
    checkpoint = f"checkpoints/{variant}/seed{seed}/train.safetensors"
    return row(
        variant, "train", seed, uses="train.supervised", teacher="init", checkpoint=checkpoint, **facts
    )


def _student(variant: str, seed: int, stage: str, index: int, width: int, widths: Sequence[int]) -> Row:
    real, blog = variant == "real", stage == "blog"
    train, test = KEPT[variant, stage]
    fall = 1 - 0.75 * (index / len(widths)) ** 3
    fit = FIT[variant][min(index * len(FIT[variant]) // len(widths), 5)]
    metrics = {
        "train_accuracy": max(train * fall, 0.1) + 0.004 * seed,
        "test_accuracy": max(test * fall, 0.098) - 0.003 * seed,
        "fit_agreement": fit,
        "noise_agreement": fit - (0.08 if real else 0.3),
        "noise_entropy_bits": (0.7 if real else 1.8) if blog else (2.9 if real else 3.2),
        "noise_majority": (0.85 if real else 0.55) if blog else (0.25 if real else 0.16),
        **_size(width),
    }
    floor = 1 - fit if blog else 0.02 / width * 256
    loss = [
        (79 * (i + 1), (2.3 if blog else 60) * math.exp(-0.4 * i) + floor + 0.01 * seed) for i in range(20)
    ]
    seen = [
        (10_000.0 * i, 0.1 + (train - 0.1) * fall * (1 - math.exp(-i / 4)) + 0.01 * seed) for i in range(21)
    ]
    held = [(10_000.0 * i, 0.1 + (test - 0.1) * fall * (1 - math.exp(-i / 4))) for i in range(21)]
    curves: dict[str, Any] = {"loss": loss}
    if not blog:
        curves |= {"retention_train": seen, "retention_test": held}
    noise = {"kind": "uniform" if blog else "covariance", "labels": "hard" if blog else "logits",
             "redraw": "round" if blog else "epoch", "images": 10_000}  # fmt: skip
    notes = {"width": width, "noise": noise, "images_seen": 10_000 if blog else 200_000}
    checkpoint = f"checkpoints/{variant}/seed{seed}/{stage}-{index + 1:02d}.safetensors"
    return row(
        variant,
        stage,
        seed,
        round=index + 1,
        metrics=metrics,
        notes=notes,
        curves=curves,
        checkpoint=checkpoint,
    )


def _size(width: int) -> dict[str, float]:
    parameters = 784 * width + width + width * width + width + width * 10 + 10
    return {
        "parameters": parameters,
        "nonzero": parameters,
        "bytes": 4 * parameters,
        "macs": parameters,
    }
