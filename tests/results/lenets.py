"""Results of a comparison with controls: six strategies, three seeds, every number drawn from a fixed stream."""

from __future__ import annotations

import random
from typing import Any

from compressit.contract.results import Results, Row

METRICS = {
    "validation_accuracy": {"better": "higher", "unit": "fraction", "about": "on the validation split"},
    "test_accuracy": {"better": "higher", "unit": "fraction", "about": "on the test images"},
    "test_loss": {"better": "lower", "unit": "nats", "about": "cross-entropy on the test images"},
    "parameters": {"better": "lower", "unit": "count", "about": "all parameters, including biases"},
    "nonzero": {"better": "lower", "unit": "count", "about": "parameters that are not zero"},
    "macs": {"better": "lower", "unit": "count", "about": "for one input"},
    "bytes": {"better": "lower", "unit": "bytes", "about": "of the tensors"},
    "latency_1_median_seconds": {"better": "lower", "unit": "seconds", "about": "of a batch of 1"},
}
DENSE = {"parameters": 266610, "nonzero": 266610, "macs": 266200, "bytes": 1066440}
# strategy: (accuracy lost, share of the weights left, whether the shape is smaller)
STRATEGIES = {
    "magnitude-ft": (0.004, 0.25, False), "magnitude-kd": (0.001, 0.25, False), "structured-ft": (0.011, 0.5, True),
    "structured-kd": (0.006, 0.25, True), "noise-ladder": (0.032, 0.12, True), "soft-labels": (0.008, 0.33, True),
}  # fmt: skip
CONTROLS = {
    "longer": ("longer", (), (-0.002, 1.0, False)),
    "random-structured-ft": ("random", ("structured-ft", "structured-kd"), (0.016, 0.5, True)),
    "scratch-structured-ft": ("scratch", ("structured-ft", "structured-kd"), (0.013, 0.5, True)),
    "thin": ("thin", ("structured-ft", "structured-kd"), (0.012, 0.5, True)),
}


def lenets(seeds: int = 3, budget: dict[str, float] | None = None, **fields: Any) -> Results:
    """The results as a run writes them."""
    rows: list[Row] = []
    known = {**STRATEGIES, **{name: facts for name, (_, _, facts) in CONTROLS.items()}}
    for variant, (lost, share, shape) in known.items():
        for seed in range(seeds):
            rows += _rows(variant, seed, lost, share, shape)
    strategies = {name: {"final": ["recover"], "control": "", "of": []} for name in STRATEGIES}
    strategies |= {
        name: {"final": ["recover"], "control": kind, "of": list(of)}
        for name, (kind, of, _) in CONTROLS.items()
    }
    compare = {
        "metric": "test_accuracy", "selecting": "validation_accuracy", "baseline": "original",
        "budget": {"macs": 0.6, "max_drop": 0.01} if budget is None else budget,
        "strategies": strategies, "epochs": dict.fromkeys(strategies, 5),
    }  # fmt: skip
    written = {
        "file": "compare_strategies.yaml",
        "text": "version: 1\nname: compare_strategies\n",
        "settings": [],
    }
    values: dict[str, Any] = {
        "config": {"compare": compare, "recipe": written},
        "about": {
            "date": "2030-01-02",
            "hosts": [{"host": "lab", "cores": 2, "gpu": ""}],
            "job_seconds": 812.0,
        },
        "description": "Six ways to make LeNet-300-100 smaller, and what each costs. The same recovery for all.",
    }
    return Results("compare_strategies", None, rows, METRICS, **(values | fields))


def _rows(variant: str, seed: int, lost: float, share: float, shape: bool) -> list[Row]:
    parent, own = random.Random(f"original/{seed}"), random.Random(f"{variant}/{seed}")
    dense = 0.962 + parent.gauss(0, 0.0015)
    curve = [(float(step), 2.3 / (1 + step / 40) + own.gauss(0, 0.02)) for step in range(1, 200, 4)]
    train = _row(variant, "train", seed, dense, DENSE, 0.0021 + parent.gauss(0, 2e-5), {"epochs": 10}, curve)
    left = {name: round(value * share) for name, value in DENSE.items()}
    small = left if shape else {**DENSE, "nonzero": left["nonzero"]}
    times = 0.0021 * (0.3 + 0.7 * share if shape else 1.0) + own.gauss(0, 3e-5)
    accuracy = dense - lost + own.gauss(0, 0.0014)
    return [train, _row(variant, "recover", seed, accuracy, small, times, {"epochs": 5}, curve)]


def _row(
    variant: str, stage: str, seed: int, accuracy: float, sizes: dict[str, int], times: float,
    notes: dict[str, Any], curve: list[tuple[float, float]],
) -> Row:  # fmt: skip
    metrics = {
        "validation_accuracy": accuracy + 0.001,
        "test_accuracy": accuracy,
        "test_loss": 4 * (1 - accuracy),
    }
    metrics |= {**sizes, "latency_1_median_seconds": times}
    return Row(
        variant, stage, None, "", seed, "train.supervised", None, metrics, notes, {"loss": curve}, seconds=8.1,
        checkpoint=f"checkpoints/{variant}/seed{seed}/{stage}.safetensors", dense="train",
        parent=None if stage == "train" else "train",
    )  # fmt: skip
