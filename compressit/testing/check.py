"""What a check is: a named function that raises, with what it needs to pass first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from compressit.errors import CompressitError, place_in
from compressit.testing.subject import Subject


class ConformanceError(AssertionError):
    """A plugin breaks the contract: what is wrong, and what to do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n      help: {self.hint}" if self.hint else self.message


class NotApplicable(Exception):  # noqa: N818 - a finding, not an error
    """A check that says nothing about this plugin, and why."""


class _Blocked(NotApplicable):
    """A check that was not tried."""


@dataclass(frozen=True)
class Check:
    """One rule of the contract. `needs`: checks without which it would only say the same again."""

    name: str
    about: str  # one line: what holds when it passes
    test: Callable[[Subject], None]
    needs: tuple[Check, ...] = ()

    def run(self, subject: Subject) -> None:
        """Raises ConformanceError, or NotApplicable; carried out once, whoever asks."""
        if self.name not in subject.outcomes:
            subject.outcomes[self.name] = self._outcome(subject)
        error = subject.outcomes[self.name]
        if error is not None:
            raise error

    def _outcome(self, subject: Subject) -> Exception | None:
        for need in self.needs:
            try:
                need.run(subject)
            except (ConformanceError, _Blocked):
                return _Blocked(f"it needs '{need.name}', which did not pass")
            except NotApplicable:
                continue  # it found nothing wrong
        try:
            self.test(subject)
        except (ConformanceError, NotApplicable) as error:
            return error
        except CompressitError as error:
            told = ConformanceError(error.message, error.hint)
            told.__cause__ = error
            return told
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody's code
            told = ConformanceError(f"{type(error).__name__}: {error}{_place(error, subject)}")
            told.__cause__ = error
            return told
        return None


@dataclass(frozen=True)
class Outcome:
    """How a check went."""

    check: Check
    status: Literal["ok", "failed", "skipped"]
    reason: str = ""
    hint: str | None = None


def check(*needs: Check) -> Callable[[Callable[[Subject], None]], Check]:
    """Makes a Check of a function: its name, the first line of its docstring, and what it needs."""

    def make(test: Callable[[Subject], None]) -> Check:
        about = (test.__doc__ or "").strip().split("\n")[0].rstrip(".")
        return Check(test.__name__, about, test, needs)

    return make


def outcomes(checks: Sequence[Check], subject: Subject) -> Iterator[Outcome]:
    """Every check's outcome, one after another: a failed one stops nothing."""
    for each in checks:
        try:
            each.run(subject)
            yield Outcome(each, "ok")
        except NotApplicable as error:
            yield Outcome(each, "skipped", str(error))
        except ConformanceError as error:
            yield Outcome(each, "failed", error.message, error.hint)


def _place(error: BaseException, subject: Subject) -> str:
    """The last line of the plugin's own files that the error passed through."""
    return place_in(error, [file.path for file in subject.files[1:]] or [subject.source.parent])
