"""Implements `compressit plugins check`: runs all checks of a plugin and prints one line each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from compressit.contract.compute import Compute
from compressit.printable import folded
from compressit.testing.check import Outcome, outcomes
from compressit.testing.kit import checks_for
from compressit.testing.subject import Subject


def check_plugin(
    name: str,
    options: Mapping[str, Any],
    files: Iterable[Path],
    device: str,
    as_json: bool,
    say: Callable[[str], None],
) -> bool:
    """Runs all checks of a plugin and reports each outcome; returns True if none failed.

    Raises CompressitError for an unknown plugin or invalid options.
    """
    subject = Subject.of(name, options, files, Compute.select(device).device)
    lines = (lambda text: None) if as_json else say
    lines(f"{name} ({subject.kind}) with {json.dumps(subject.options)}")
    done: list[Outcome] = []
    for outcome in outcomes(checks_for(subject), subject):
        done.append(outcome)
        lines(_line(outcome))
    count = Counter(outcome.status for outcome in done)
    lines(f"{count['ok']} ok, {count['failed']} failed, {count['skipped']} skipped")
    if as_json:
        found = {"plugin": name, "options": subject.options, "checks": [_facts(each) for each in done]}
        say(json.dumps(found, indent=1))
    return count["failed"] == 0


def _line(outcome: Outcome) -> str:
    word = "FAILED" if outcome.status == "failed" else outcome.status
    line = f"{word:8} {outcome.check.name:24} {folded(outcome.reason or outcome.check.about)}"
    return f"{line}\n{' ' * 9}help: {folded(outcome.hint)}" if outcome.hint else line


def _facts(outcome: Outcome) -> dict[str, Any]:
    return {
        "check": outcome.check.name,
        "about": outcome.check.about,
        "status": outcome.status,
        "reason": outcome.reason,
        "help": outcome.hint,
    }
