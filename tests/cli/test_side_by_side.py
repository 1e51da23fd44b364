"""Two runs at once on one store: they wait for each other, share their work and end alike."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from filelock import FileLock

from .sandbox import PATIENCE, Running, Sandbox, rows

# Every call of a plugin leaves a line: appended in one write, so that two processes lose none.
PLUGIN = """\
import os
from pathlib import Path

from compressit.contract.hookspecs import hookimpl
from compressit.contract.kinds import Evaluator, Metric, Trainer


def told(text):
    handle = os.open(Path(__file__).with_name("calls.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, (text + "\\n").encode())
    os.close(handle)


class Halve(Trainer):
    name = "mine.halve"

    def train(self, model, ctx):
        told(f"{ctx.streams.stage} {ctx.data.train.y.sum()}")
        for parameter in model.parameters():
            parameter.data.mul_(0.5)
        return model


class Norm(Evaluator):
    name = "mine.norm"
    uses_stage = True
    metrics = {"norm": Metric("neither", "count")}

    def evaluate(self, model, ctx):
        told(f"norm of {ctx.judged.stage} {ctx.data.train.y.sum()}")
        return {"norm": sum(float(parameter.norm()) for parameter in model.parameters())}


@hookimpl
def compressit_trainers():
    return [Halve]


@hookimpl
def compressit_evaluators():
    return [Norm]
"""
RECIPE = """\
version: 1
name: shared
compute: {device: cpu, threads: 1}
plugins: [./mine.py]
data: {uses: data.synthetic, with: {train: 64, test: 32}}
model: {uses: model.mlp, with: {hidden: [8]}}
variants: {real: {}, fake: {data: {with: {labels: random}}}}
stages:
  first: {uses: mine.halve}
  second: {uses: mine.halve}
  third: {uses: mine.halve, needs: first}
evaluate: [mine.norm, eval.accuracy]
"""


def test_no_job_is_done_twice_and_both_end_with_the_same_results(sandbox: Sandbox) -> None:
    sandbox.write("mine.py", PLUGIN)
    sandbox.write("recipe.yaml", RECIPE)
    jobs = sandbox.jobs("recipe.yaml", "--trust")
    held = sandbox.store / "locks" / f"{jobs['real/seed0/init']['key']}.lock"
    held.parent.mkdir(parents=True)
    with FileLock(held):  # neither can begin before both have planned to do everything
        runs = {out: sandbox.start("run", "recipe.yaml", "--trust", "--out", out) for out in ("one", "two")}
        for run in runs.values():
            run.until(lambda run=run: f"{len(jobs)} of {len(jobs)} jobs to do" in run.log.read_text())
    for run in runs.values():
        _ended_well(run)

    calls = Counter((sandbox.folder / "calls.txt").read_text().splitlines())
    assert len(calls) == 2 * 3 * 2, "two variants of three stages, each with its norm"
    assert set(calls.values()) == {1}, calls
    one, two = (sandbox.folder / out for out in runs)
    assert (one / "results.csv").read_bytes() == (two / "results.csv").read_bytes()
    assert rows(one) == rows(two)
    assert len(rows(one)) == 6
    published = {path.parent.name for path in sandbox.store.glob("objects/*/*/manifest.json")}
    assert published == {job["key"] for job in jobs.values()}
    assert not _left(sandbox.store)


def _ended_well(run: Running) -> None:
    run.process.communicate(timeout=PATIENCE)
    assert run.process.returncode == 0, run.log.read_text()


def _left(store: Path) -> list[Path]:
    """Half-written results and saved states."""
    return [path for folder in ("tmp", "progress") for path in (store / folder).glob("*")]
