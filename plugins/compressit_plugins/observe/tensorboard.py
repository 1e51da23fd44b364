"""`observe.tensorboard`: what a run does as TensorBoard's events. Needs the extra `compressit[tensorboard]`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import CompressitError, Config, Observer, hookimpl

if TYPE_CHECKING:
    from compressit import Job, JobEnd, RunEnd, RunStart
    from compressit_plugins.observe.event_files import Board


class TensorBoardConfig(Config):
    """What is written."""

    live: bool = Field(True, description="also points while a job runs, which its curves replace at its end")


class TensorBoard(Observer[TensorBoardConfig]):
    """Losses, curves and metrics as events for `tensorboard --logdir RUN`, live and exact at a job's end."""

    name = "observe.tensorboard"
    example: ClassVar[Mapping[str, Any]] = {"live": True}
    _board: Board

    def check(self) -> None:
        """Raises CompressitError if TensorBoard is not installed."""
        if find_spec("tensorboard") is None:
            raise CompressitError(
                "TensorBoard is not installed, which writes the events",
                "pip install 'compressit[tensorboard]'",
            )

    def run_started(self, run: RunStart) -> None:
        """Removes live points of earlier runs, and events of results that this run's models no longer have."""
        from compressit_plugins.observe.event_files import Board

        self._board = Board.of(run)

    def job_found(self, end: JobEnd) -> None:
        """Its curves and metrics, unless an earlier run wrote them: no point is there twice."""
        self._board.keep(end)

    def job_progress(self, job: Job, numbers: Mapping[str, float]) -> None:
        """A live point of each number."""
        if self.config.live:
            self._board.live(job, numbers)

    def job_finished(self, end: JobEnd) -> None:
        """Its curves and metrics, in place of the live points."""
        self._board.keep(end)

    def run_ended(self, end: RunEnd) -> None:
        """Closes all files."""
        self._board.close()


@hookimpl
def compressit_observers() -> list[type[Observer]]:
    return [TensorBoard]
