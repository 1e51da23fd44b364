"""What the blocks of a recipe are checked against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from compressit.checkpoint.starting import Offer
from compressit.contract.tasks import Task
from compressit.errors import CompressitError, Mark, Problem
from compressit.host.plugins import Host

T = TypeVar("T")


@dataclass(frozen=True)
class Scope:
    """What a block is checked against, and the list of problems found."""

    host: Host
    folder: Path  # paths in the recipe are relative to it
    problems: list[Problem]
    stages: frozenset[str] = frozenset()  # stage names that a ModelRef may use
    complete: bool = True  # False: a plugin file was not loaded; it may define an unknown name
    validation: bool = True  # False: the data has no validation split, so no option may need one
    tasks: tuple[Task[Any], ...] = ()  # of the recipe; none where `task` or `data` has a mistake
    offer: Offer | None = None  # what the data offer a model; None: unknown, `data` has a mistake

    def problem(self, message: str, where: Mark, hint: str | None = None) -> None:
        """Notes a mistake."""
        self.problems.append(Problem(message, where, hint))

    def tried(self, path: str, where: Mark, call: Callable[..., T], *given: Any) -> T | None:
        """What the call returns. If it raises CompressitError, notes the mistake and returns None."""
        try:
            return call(*given)
        except CompressitError as error:
            return self.problem(f"{path}: {error.message}", where, error.hint)

    def start(self, where: Mark) -> Path:
        """The folder that a relative path at this place starts from: of an argument the current one, as in a shell."""
        return Path.cwd() if where.typed else self.folder

    def file(self, name: str, where: Mark) -> Path:
        """The absolute path of a file that is named there. Raises CompressitError if it does not exist."""
        try:
            path = (self.start(where) / name).resolve()
            if path.is_file():
                return path
        except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a NUL
            pass
        raise CompressitError(f"there is no file {name}", f"looked in {self.start(where)}")


@dataclass(frozen=True)
class Reference:
    """A model that a block's options name, with the option's path and the place of that name."""

    name: str
    mark: Mark
    path: str = ""
