"""Any graph of tasks, any number of workers, any failures: the order is right and nothing is forgotten."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from compressit.contract.tasks import Task
from compressit.running.schedule import Schedule


def _task(number: int, inputs: Mapping[str, str], kind: str = "stage", exclusive: bool = False) -> Task:
    return Task(
        key=f"k{number}", kind=kind, label=f"t{number}", uses="tiny.train", config={}, seed=0, inputs=inputs,
        data={}, compute={}, exclusive=exclusive,
    )  # type: ignore[arg-type]  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> list[Task]:
    tasks: list[Task] = []
    for number in range(draw(st.integers(1, 12))):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        kind = draw(st.sampled_from(["stage", "evaluate"])) if parents else "init"
        names = ["model" if kind == "evaluate" else "previous", "teacher", "other"]
        inputs = dict(zip(names, (f"k{parent}" for parent in sorted(parents)), strict=False))
        tasks.append(_task(number, inputs, kind, draw(st.booleans()) and kind == "evaluate"))
    return tasks


@given(graphs(), st.integers(1, 3), st.data())
def test_every_task_starts_after_its_inputs_and_exclusive_ones_alone(
    tasks: list[Task], jobs: int, data: st.DataObject
) -> None:
    schedule = Schedule(tasks)
    failing = {task.key for task in tasks if data.draw(st.integers(0, 9)) == 0}
    running: list[Task] = []
    done: set[str] = set()
    failed: set[str] = set()
    skipped: set[str] = set()
    while schedule.unfinished:
        while len(running) < jobs and (task := schedule.next(running, data.draw(st.integers(1, jobs)))):
            assert set(task.inputs.values()) <= done
            assert not (task.exclusive and running)
            assert not any(other.exclusive for other in running)
            schedule.start(task, 1)
            running.append(task)
        assert running, "it never stands still"
        task = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if task.key in failing:
            failed.add(task.key)
            skipped |= {t.key for t in schedule.fail(task)}
        else:
            done.add(task.key)
            schedule.finish(task)
    assert done | failed | skipped == {task.key for task in tasks}
    assert not done & skipped
    needs_failed = set(failed)
    for task in tasks:  # inputs come first
        if needs_failed & set(task.inputs.values()):
            needs_failed.add(task.key)
    assert skipped == needs_failed - failed, "a failure takes down what needs it, and only that"


def test_a_model_is_measured_at_once_best_by_the_worker_that_has_it() -> None:
    tasks = [
        _task(0, {}), _task(1, {}), _task(2, {}),
        _task(3, {"model": "k0"}, "evaluate"), _task(4, {"model": "k1"}, "evaluate"),
    ]  # fmt: skip
    schedule = Schedule(tasks)
    for worker, task in ((1, tasks[0]), (2, tasks[1])):
        schedule.start(task, worker)
        schedule.finish(task)
    assert schedule.next([], 2) == tasks[4]
    assert schedule.next([], 1) == tasks[3]
    assert schedule.next([], 7) == tasks[3]


def test_an_exclusive_task_waits_until_all_else_that_can_run_has_run() -> None:
    tasks = [
        _task(0, {}),
        _task(1, {"model": "k0"}, "evaluate", exclusive=True),
        _task(2, {"previous": "k0"}),
    ]
    schedule = Schedule(tasks)
    schedule.start(tasks[0], 1)
    schedule.finish(tasks[0])
    assert schedule.next([], 1) == tasks[2]
    schedule.start(tasks[2], 1)
    assert schedule.next([tasks[2]], 2) is None
    schedule.finish(tasks[2])
    assert schedule.next([], 1) == tasks[1]
