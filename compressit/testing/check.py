"""A check: a named function that raises if a plugin fails it, the kinds it applies to, and its prerequisites."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from compressit.errors import CompressitError, place_in
from compressit.host.plugins import KINDS
from compressit.testing.subject import Subject


class ConformanceError(AssertionError):
    """A plugin violates the contract. The message says what is wrong, the hint how to fix it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n      help: {self.hint}" if self.hint else self.message


class NotApplicable(Exception):  # noqa: N818 - a finding, not an error
    """A check does not apply to this plugin; the message says why."""


@dataclass(frozen=True)
class Check:
    """One rule of the contract. `needs`: checks that must pass first, since this one would fail for the same reason."""

    name: str
    about: str  # one line: what holds when it passes
    test: Callable[[Subject], None]
    needs: tuple[Check, ...] = ()
    kinds: tuple[str, ...] = tuple(KINDS)

    def run(self, subject: Subject) -> None:
        """Raises ConformanceError or NotApplicable. Runs the check only once per subject."""
        outcome = self.outcome(subject)
        if outcome.status == "skipped":
            raise NotApplicable(outcome.reason)
        if outcome.status == "failed":
            raise ConformanceError(outcome.reason, outcome.hint) from outcome.cause

    def outcome(self, subject: Subject) -> Outcome:
        """The check's outcome. Runs the check only once per subject."""
        return subject.keep(f"outcome of {self.name}", lambda: self._carried_out(subject))

    def _carried_out(self, subject: Subject) -> Outcome:
        for need in self.needs:
            if subject.kind in need.kinds and need.outcome(subject).stops:
                reason = f"requires '{need.name}', which did not pass"
                return Outcome(self, "skipped", reason, stops=True)
        try:
            self.test(subject)
        except NotApplicable as found:
            return Outcome(self, "skipped", str(found))
        except (ConformanceError, CompressitError) as error:
            return Outcome(self, "failed", error.message, error.hint, error, stops=True)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - plugin code
            own = [file.path for file in subject.files[1:]] or [Path(inspect.getfile(subject.plugin)).parent]
            return Outcome(
                self, "failed", f"{type(error).__name__}: {error}{place_in(error, own)}", None, error, True
            )
        return Outcome(self, "ok")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check."""

    check: Check
    status: Literal["ok", "failed", "skipped"]
    reason: str = ""
    hint: str | None = None
    cause: BaseException | None = None
    stops: bool = False  # checks that need this one are skipped


def check(*kinds: str, needs: Sequence[Check] = ()) -> Callable[[Callable[[Subject], None]], Check]:
    """Turns a function into a Check for plugins of these kinds (default: all).

    The check gets the function's name; `about` is the first line of the docstring.
    """

    def make(test: Callable[[Subject], None]) -> Check:
        about = (test.__doc__ or "").strip().split("\n")[0].rstrip(".")
        return Check(test.__name__, about, test, tuple(needs), kinds or tuple(KINDS))

    return make


def none_found(names: Iterable[str], message: str, hint: str | None = None) -> None:
    """Raises ConformanceError if there are any names: `message: the first five of them`."""
    if first := list(islice(names, 5)):
        raise ConformanceError(f"{message}: {', '.join(first)}", hint)


def outcomes(checks: Sequence[Check], subject: Subject) -> Iterator[Outcome]:
    """The outcome of every check, in order. Continues after failures."""
    return (each.outcome(subject) for each in checks)
