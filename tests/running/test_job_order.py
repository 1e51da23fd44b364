"""Any graph of jobs, any number of workers, any failures: the order is right and nothing is forgotten."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from compressit.contract.job import Job
from compressit.running.job_order import Schedule


def _job(number: int, inputs: Mapping[str, str], kind: str = "stage", exclusive: bool = False) -> Job:
    return Job(
        key=f"k{number}", kind=kind, label=f"t{number}", uses="tiny.train", config={}, seed=0, inputs=inputs,
        data={}, compute={}, exclusive=exclusive,
    )  # type: ignore[arg-type]  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> list[Job]:
    jobs: list[Job] = []
    for number in range(draw(st.integers(1, 12))):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        kind = draw(st.sampled_from(["stage", "evaluate"])) if parents else "init"
        names = ["model" if kind == "evaluate" else "previous", "teacher", "other"]
        inputs = dict(zip(names, (f"k{parent}" for parent in sorted(parents)), strict=False))
        jobs.append(_job(number, inputs, kind, draw(st.booleans()) and kind == "evaluate"))
    return jobs


@given(graphs(), st.integers(1, 3), st.data())
def test_every_job_starts_after_its_inputs_and_exclusive_ones_alone(
    jobs: list[Job], workers: int, data: st.DataObject
) -> None:
    schedule = Schedule(jobs)
    failing = {job.key for job in jobs if data.draw(st.integers(0, 9)) == 0}
    running: list[Job] = []
    done: set[str] = set()
    failed: set[str] = set()
    skipped: set[str] = set()
    while schedule.unfinished:
        while len(running) < workers and (job := schedule.next(running, data.draw(st.integers(1, workers)))):
            assert set(job.inputs.values()) <= done
            assert not (job.exclusive and running)
            assert not any(other.exclusive for other in running)
            schedule.start(job, 1)
            running.append(job)
        assert running, "it never stands still"
        job = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if job.key in failing:
            failed.add(job.key)
            skipped |= {t.key for t in schedule.fail(job)}
        else:
            done.add(job.key)
            schedule.finish(job)
    assert done | failed | skipped == {job.key for job in jobs}
    assert not done & skipped
    needs_failed = set(failed)
    for job in jobs:  # inputs come first
        if needs_failed & set(job.inputs.values()):
            needs_failed.add(job.key)
    assert skipped == needs_failed - failed, "a failure takes down what needs it, and only that"


def test_a_model_is_measured_at_once_best_by_the_worker_that_has_it() -> None:
    jobs = [
        _job(0, {}), _job(1, {}), _job(2, {}),
        _job(3, {"model": "k0"}, "evaluate"), _job(4, {"model": "k1"}, "evaluate"),
    ]  # fmt: skip
    schedule = Schedule(jobs)
    for worker, job in ((1, jobs[0]), (2, jobs[1])):
        schedule.start(job, worker)
        schedule.finish(job)
    assert schedule.next([], 2) == jobs[4]
    assert schedule.next([], 1) == jobs[3]
    assert schedule.next([], 7) == jobs[3]


def test_an_exclusive_job_waits_until_all_else_that_can_run_has_run() -> None:
    jobs = [
        _job(0, {}),
        _job(1, {"model": "k0"}, "evaluate", exclusive=True),
        _job(2, {"previous": "k0"}),
    ]
    schedule = Schedule(jobs)
    schedule.start(jobs[0], 1)
    schedule.finish(jobs[0])
    assert schedule.next([], 1) == jobs[2]
    schedule.start(jobs[2], 1)
    assert schedule.next([jobs[2]], 2) is None
    schedule.finish(jobs[2])
    assert schedule.next([], 1) == jobs[1]
