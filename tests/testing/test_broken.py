"""Every check is proven by a plugin that breaks it and nothing else: a check that cannot fail is worth nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from compressit.testing import (
    CHECKS,
    Check,
    Subject,
    checks_for,
    datasets,
    evaluators,
    models,
    options,
    outcomes,
    reports,
    rounds,
    stages,
)

BROKEN = Path(__file__).parent.parent / "broken_plugins"
RUNS = ("runs_under_jobs", "no_pickle")  # worker processes: tried where they are the point
ROOMS: Mapping[str, tuple[Check, ...]] = {
    "options": options.CHECKS,
    "stages": (*stages.TRAINER, *stages.COMPRESSOR, rounds.climbs),
    "evaluators": evaluators.CHECKS,
    "models": models.CHECKS,
    "datasets": datasets.CHECKS,
    "reports": reports.CHECKS,
    "runs": tuple(check for kind in CHECKS.values() for check in kind if check.name in RUNS),
}
ALL = sorted({(room, check.name) for room, checks in ROOMS.items() for check in checks})


def test_every_check_is_in_a_room() -> None:
    known = {check.test for checks in ROOMS.values() for check in checks}
    assert {check.test for kind in CHECKS.values() for check in kind} <= known


def test_every_broken_plugin_belongs_to_a_check() -> None:
    files = {(path.parent.name, path.stem) for path in BROKEN.glob("*/*.py")}
    assert files == set(ALL)


@pytest.mark.parametrize(("room", "name"), ALL)
def test_a_broken_plugin_fails_that_check_alone(room: str, name: str) -> None:
    subject = Subject.of(f"broken.{name}", files=[BROKEN / room / f"{name}.py"])
    checks = [check for check in checks_for(subject) if room == "runs" or check.name not in RUNS]
    found = list(outcomes(checks, subject))
    failed = {outcome.check.name: outcome.reason for outcome in found if outcome.status == "failed"}
    assert list(failed) == [name], failed
    assert failed[name]
    needing = {check.name for check in checks if any(need.name == name for need in check.needs)}
    skipped = {outcome.check.name for outcome in found if outcome.status == "skipped"}
    assert needing <= skipped, "they could only say the same again"
