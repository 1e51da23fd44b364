"""Which task of a run may start next."""

from __future__ import annotations

from collections.abc import Sequence

from compressit.contract.tasks import Task


class Schedule:
    """The tasks of a run that are not done yet."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.unfinished: dict[str, Task] = {task.key: task for task in tasks}
        self._waiting: dict[str, Task] = dict(self.unfinished)
        self._taken: set[str] = set()  # keys that another run was making when they were tried
        self._maker: dict[str, int] = {}  # key -> number of the worker that made it

    def next(self, running: Sequence[Task], worker: int | None) -> Task | None:
        """The first task whose inputs are there, and one that another run was making only where there is no other.

        Evaluations go first, best of a model this worker has in memory; exclusive tasks wait until nothing
        else can run.
        """
        if any(task.exclusive for task in running):
            return None
        ready = [
            t for t in self._waiting.values() if not any(k in self.unfinished for k in t.inputs.values())
        ]
        ready = [task for task in ready if task.key not in self._taken] or ready
        shared = [task for task in ready if not task.exclusive]
        if not shared:
            return ready[0] if ready and not running else None
        evaluations = [task for task in shared if task.kind == "evaluate"]
        own = [task for task in evaluations if self._maker.get(task.inputs["model"]) == worker]
        return (own or evaluations or shared)[0]

    def start(self, task: Task, worker: int) -> None:
        """The task was given to the worker of that number."""
        del self._waiting[task.key]
        self._maker[task.key] = worker

    def postpone(self, task: Task) -> None:
        """Another run is making it: it is tried again after all others."""
        self._waiting[task.key] = task
        self._taken.add(task.key)

    def finish(self, task: Task) -> None:
        """The task is done."""
        del self.unfinished[task.key]

    def fail(self, task: Task) -> list[Task]:
        """Leaves out the task and all that needs it; returns the latter."""
        gone = {task.key}
        skipped: list[Task] = []
        growing = True
        while growing:
            more = [t for t in self._waiting.values() if t.key not in gone and gone & set(t.inputs.values())]
            skipped += more
            gone |= {t.key for t in more}
            growing = bool(more)
        for key in gone:
            self.unfinished.pop(key, None)
            self._waiting.pop(key, None)
        return skipped
