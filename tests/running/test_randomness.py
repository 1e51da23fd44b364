"""One key, one result: whatever code that is not ours draws from, and whoever ran before."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import BASE, PLUGINS, Lab, same, tensors, tiny_host

import compressit
from compressit.checkpoint import model as checkpoint
from compressit.contract.results import Results
from compressit.host.plugins import Host
from compressit.processes.python import environment
from compressit.python.evaluation import evaluate_file
from compressit.results.page import render
from compressit.seeds import seeded

DRAWING = PLUGINS.parent / "drawing_plugins.py"
RECORDING = PLUGINS.parent / "recording_plugins.py"
RECIPE = """\
version: 1
name: drawn
data: {uses: drawn.data}
model: {uses: drawn.net}
stages:
  train: {uses: drawn.train}
  again: {uses: drawn.train}
evaluate: [drawn.measure, drawn.first]
"""


@pytest.fixture
def host() -> Host:
    host = Host(entry_points=False)
    host.load_file(DRAWING)
    return host


def _state() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]


def test_results_depend_on_no_job_that_ran_before(tmp_path: Path, host: Host) -> None:
    together, apart = Lab(tmp_path / "one", host), Lab(tmp_path / "two", host)
    plan = together.plan(RECIPE)
    found = together.run(plan)
    for job in reversed(plan.jobs.values()):  # evaluators in another order, each job by a worker of its own
        runner = apart.new_runner()
        torch.seed(), np.random.seed(), random.seed()
        for needed in plan.jobs.values():
            if needed.key in job.inputs.values() or needed.kind == "init":
                _with_inputs(runner, plan, needed)
        runner.run(job, lambda event: None)
    for label, artifact in found.items():
        job = next(t for t in plan.jobs.values() if t.label == label)
        other = apart.store.find(job.key)
        assert other is not None
        assert other.metrics == artifact.metrics, label
    for path in ("base/seed0/train", "base/seed0/again"):
        assert same(tensors(together.store, plan, path), tensors(apart.store, plan, path)), path


def test_an_evaluator_draws_the_same_for_every_model_and_without_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise numbers of a ladder's rounds differ by what was drawn, not by the models."""
    host = tiny_host()
    host.load_file(RECORDING)
    lab = Lab(tmp_path, host)
    stages = "  shrink: {uses: tiny.shrink, repeat: 2, with: {teacher: train}}\n  again: {uses: tiny.train}\n"
    plan = lab.plan(BASE + stages + "seeds: [0, 3]\nevaluate: [rec.dice]\n")
    found = lab.run(plan)
    numbers = {
        seed: [
            a.metrics for label, a in found.items() if label.endswith("rec.dice") and f"seed{seed}" in label
        ]
        for seed in (0, 3)
    }
    assert len(numbers[0]) == 4
    assert all(len({tuple(m.values()) for m in metrics}) == 1 for metrics in numbers.values())
    assert numbers[0][0] != numbers[3][0]
    monkeypatch.setattr("compressit.python.evaluation.installed", lambda: host)
    file = found["base/seed0/shrink-02"].model_file
    for seed in (0, 3):
        assert evaluate_file(file, "tiny.data", (), ["rec.dice"], host, seed=seed) == numbers[seed][0]


def _with_inputs(runner: Any, plan: Any, job: Any) -> None:
    for key in job.inputs.values():
        _with_inputs(runner, plan, plan.jobs[key])
    runner.run(job, lambda event: None)


def test_a_dataset_cannot_carry_out_what_is_the_hosts(tmp_path: Path, host: Host) -> None:
    """Variants share what is loaded: a dataset that cut it to one variant's `limit` would cut the other's too."""
    text = RECIPE + "variants: {few: {data: {with: {limit: 9}}}, many: {}}\n"
    found = Lab(tmp_path, host).run(Lab(tmp_path, host).plan(text))
    images = {label.split("/")[0]: a.metrics["images"] for label, a in found.items() if "measure" in label}
    assert images == {"few": 9, "many": 30}


def test_what_is_called_in_ones_own_process_leaves_its_random_numbers_alone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("arguments", "stage", "evaluation"):
        monkeypatch.setattr(f"compressit.python.{module}.installed", lambda: host)
    calls: list[Any] = []
    for seed in (1, 2):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        before = _state()
        data = compressit.data("drawn.data")
        net = checkpoint.fresh(checkpoint.Architecture("drawn.net", {}, (4,), 3), 0, host)
        trained = compressit.stage("drawn.train")(net, data)
        metrics = compressit.evaluate(trained, data, "drawn.first", "drawn.measure")
        assert _state() == before
        calls.append((data.train.x, net.project, trained.head.weight, metrics))
    one, other = calls
    assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))
    assert one[3] == other[3]


def test_a_report_that_draws_gives_the_same_page(tmp_path: Path, host: Host) -> None:
    report: Any = host.find("drawn.report").plugin
    pages = []
    for seed in (1, 2):
        np.random.seed(seed), random.seed(seed)
        render(Results("drawn", None, (), {}, {}), [(report.name, lambda: report(report.Config()))], tmp_path)
        pages.append((tmp_path / "report.html").read_text())
    assert "drawn: 0." in pages[0]
    assert pages[0] == pages[1]


def test_a_seeded_block_leaves_every_generator_where_it_was() -> None:
    before = _state()
    drawn = []
    for _ in range(2):
        with contextlib.suppress(ZeroDivisionError), seeded(5):
            drawn.append((float(torch.rand(())), np.random.rand(), random.random()))
            raise ZeroDivisionError
    assert drawn[0] == drawn[1]
    assert _state() == before


def test_sets_have_one_order_in_every_process_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that walks through a set of texts (class names, files) would give each worker another result."""
    orders = set()
    for seed in ("1", "2", "random"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        command = [sys.executable, "-c", "print(list({str(i) for i in range(50)}))"]
        orders.add(subprocess.run(command, env=environment(), check=True, capture_output=True).stdout)
    assert len(orders) == 1
