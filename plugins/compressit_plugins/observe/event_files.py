"""A run as event files in its folder `tensorboard`: a TensorBoard run for each model, `tensorboard/real/seed0/blog-04`.

A file's name has the key of the job whose result it holds. A result never changes, so a file that is there is never
written again. Live points have a file of their own, which is removed when the result is there.

`tensorboard` itself writes the events, not `torch.utils.tensorboard`, which would load torch into the main process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue] - made by protobuf
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

from compressit import Job, JobEnd, RunStart

FOLDER = "tensorboard"
PREFIX = "events.out.tfevents."  # TensorBoard reads files that contain it
LIVE = "live"  # the ending of files of live points, and the group of their tags
_WRITING = ".writing"  # a name that TensorBoard does not read
_TIMES = frozenset({"epoch", "epochs", "step", "seconds", "resumed"})  # progress that is no curve


@dataclass(frozen=True)
class Place:
    """Where the result of a job goes: among the events of a model."""

    model: str  # "real/seed0/blog-04"
    key: str  # of the job
    called: str = ""  # what the recipe calls the evaluation by `as`

    @property
    def ending(self) -> str:
        """How its file's name ends, after the time at which it was made."""
        return f".{self.key}" + (f".{self.called}" if self.called else "")

    def tag(self, group: str, name: str) -> str:
        """What TensorBoard calls a curve or metric: its group, and its name in the results."""
        return f"{group}/{self.called}_{name}" if self.called else f"{group}/{name}"


@dataclass(frozen=True)
class Board:
    """The event files of a run."""

    run: RunStart
    _places: Mapping[str, list[Place]]  # by the key of the job
    _live: dict[Place, IO[bytes]] = field(default_factory=dict[Place, IO[bytes]])
    _told: dict[str, int] = field(default_factory=dict[str, int])  # messages so far, by the key of the job

    @staticmethod
    def of(run: RunStart) -> Board:
        """Removes what is no result of the run's models. Raises CompressitError if something is in the way."""
        places: dict[str, list[Place]] = {}
        for model in run.models:
            own = [
                Place(model.path, model.job),
                *(Place(model.path, *named) for named in model.measures.items()),
            ]
            for place in own:
                places.setdefault(place.key, []).append(place)
            for file in _written(run, model.path):
                if not file.name.endswith(tuple(place.ending for place in own)):
                    file.unlink()
        return Board(run, places)

    def live(self, job: Job, numbers: Mapping[str, float]) -> None:
        """A point of each number over its epoch; over its step, or the count of messages, where no epoch is told."""
        self._told[job.key] = count = self._told.get(job.key, 0) + 1
        at = int(numbers.get("epoch", numbers.get("step", count)))
        points = {f"{LIVE}/{name}": value for name, value in numbers.items() if name not in _TIMES}
        for place in self._places.get(job.key, ()) if points else ():
            file = self._live.get(place)
            if file is None:
                file = self._live[place] = self._new(place, f"{place.ending}.{LIVE}").open("xb", buffering=0)
                _begin(file)
            _write(file, at, points)

    def keep(self, end: JobEnd) -> None:
        """The curves of a result, at their x, and its metrics, at its round; in place of its live points."""
        for place in self._places.get(end.job.key, ()):
            live = self._live.pop(place, None)
            if live is not None:
                live.close()
                os.unlink(live.name)
            points = list(_points(place, end))
            if points and not any(
                file.name.endswith(place.ending) for file in _written(self.run, place.model)
            ):
                temporary = self.run.file(f"{FOLDER}/{place.model}/{_WRITING}")
                with temporary.open("wb") as file:
                    _begin(file)
                    for step, values in points:
                        _write(file, step, values)
                temporary.rename(self._new(place, place.ending))

    def close(self) -> None:
        """No more live points."""
        for file in self._live.values():
            file.close()
        self._live.clear()

    def _new(self, place: Place, ending: str) -> Path:
        """A new file. TensorBoard reads them in the order of their names, so these begin with the time."""
        return self.run.file(f"{FOLDER}/{place.model}/{PREFIX}{time.time():017.6f}{ending}")


def _written(run: RunStart, model: str) -> list[Path]:
    """The event files of a model."""
    folder = run.file(f"{FOLDER}/{model}/{_WRITING}").parent
    return sorted(file for file in folder.iterdir() if file.name.startswith(PREFIX))


def _points(place: Place, end: JobEnd) -> Iterator[tuple[int, dict[str, float]]]:
    """All points of a result, by step. TensorBoard's steps are whole numbers: a curve over others is left out."""
    for name, curve in end.curves.items():
        if all(float(x).is_integer() for x, _ in curve):
            yield from ((int(x), {place.tag("curves", name): y}) for x, y in curve)
    if end.metrics:
        yield end.job.round or 0, {place.tag("metrics", name): value for name, value in end.metrics.items()}


def _begin(file: IO[bytes]) -> None:
    _record(file, Event(wall_time=time.time(), file_version="brain.Event:2"))


def _write(file: IO[bytes], step: int, values: Mapping[str, float]) -> None:
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    _record(file, Event(wall_time=time.time(), step=step, summary=summary))


def _record(file: IO[bytes], event: Event) -> None:
    RecordWriter(file).write(event.SerializeToString())
