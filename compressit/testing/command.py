"""What `compressit plugins check` does: every check of a plugin, a line for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from compressit.contract.compute import Compute
from compressit.printable import folded
from compressit.testing.check import Outcome, outcomes
from compressit.testing.kit import checks_for
from compressit.testing.subject import Subject

_WORDS = {"ok": "ok", "failed": "FAILED", "skipped": "skipped"}


def check_plugin(
    name: str,
    options: Mapping[str, Any],
    files: Iterable[Path],
    device: str,
    as_json: bool,
    say: Callable[[str], None],
) -> bool:
    """Runs all checks of a plugin and tells how each went; whether all passed (or said nothing).

    Raises CompressitError where there is no such plugin, and for options that are not valid.
    """
    subject = Subject.of(name, options, files, Compute.select(device).device)
    if not as_json:
        say(f"{name} ({subject.kind}) with {json.dumps(subject.options)}")
    done: list[Outcome] = []
    for outcome in outcomes(checks_for(subject), subject):
        done.append(outcome)
        if not as_json:
            say(_line(outcome))
    failed = sum(outcome.status == "failed" for outcome in done)
    skipped = sum(outcome.status == "skipped" for outcome in done)
    if as_json:
        found = [_facts(outcome) for outcome in done]
        say(json.dumps({"plugin": name, "options": subject.options, "checks": found}, indent=1))
    else:
        say(f"{len(done) - failed - skipped} ok, {failed} failed, {skipped} skipped")
    return failed == 0


def _line(outcome: Outcome) -> str:
    about = folded(outcome.reason or outcome.check.about)
    line = f"{_WORDS[outcome.status]:8} {outcome.check.name:24} {about}"
    return f"{line}\n{' ' * 9}help: {folded(outcome.hint)}" if outcome.hint else line


def _facts(outcome: Outcome) -> dict[str, Any]:
    return {
        "check": outcome.check.name,
        "about": outcome.check.about,
        "status": outcome.status,
        "reason": outcome.reason,
        "help": outcome.hint,
    }
