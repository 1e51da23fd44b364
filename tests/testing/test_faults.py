"""Everything a check looks at is proven by a plugin that breaks that and nothing else: a check that cannot fail is
worth nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
from ruamel.yaml import YAML

from compressit.testing import CHECKS, Subject, checks_for, outcomes

pytestmark = pytest.mark.usefixtures("warm_workers")

BROKEN = Path(__file__).parent.parent / "broken_plugins"
FAULTS: dict[str, dict[str, dict[str, Any]]] = YAML(typ="safe").load(BROKEN / "faults.yaml")
TEMPLATES = jinja2.Environment(loader=jinja2.FileSystemLoader(BROKEN))
RUNS = ("runs_under_jobs", "no_pickle")  # worker processes: tried where they are the point
CASES = [
    pytest.param(template, check, says, code, id=f"{template}-{check}-{says}")
    for template, checks in FAULTS.items()
    for check, faults in checks.items()
    for says, code in faults.items()
]


def subject_of(template: str, code: str | dict[str, str], folder: Path) -> Subject:
    """The plugin that the template becomes, with these lines in it."""
    file = folder / "faulty.py"
    holes = code if isinstance(code, dict) else {"code": code}
    file.write_text(TEMPLATES.get_template(f"{template}.j2").render({"code": "", "more": "", **holes}))
    return Subject.of("broken.variant", files=[file])


def test_every_check_has_a_fault_that_it_finds() -> None:
    proven = {
        check.test
        for template, checks in FAULTS.items()
        for check in CHECKS["model" if template == "options" else template]
        if check.name in checks
    }
    assert proven == {check.test for checks in CHECKS.values() for check in checks}


@pytest.mark.parametrize(("template", "check", "says", "code"), CASES)
def test_a_fault_is_found_and_nothing_else(
    template: str, check: str, says: str, code: str | dict[str, str], tmp_path: Path
) -> None:
    subject = subject_of(template, code, tmp_path)
    checks = [each for each in checks_for(subject) if check in RUNS or each.name not in RUNS]
    if template == "report":  # drawing a page takes seconds
        checks = [each for each in checks if each.name == check]
    found = {outcome.check.name: outcome for outcome in outcomes(checks, subject)}
    failed = {name: outcome.reason for name, outcome in found.items() if outcome.status == "failed"}
    assert list(failed) == [check], failed
    assert says in failed[check]
    needing = {each.name for each in checks if any(need.name == check for need in each.needs)}
    assert all(found[name].status == "skipped" for name in needing), "they could only say the same again"


@pytest.mark.parametrize(
    "code",
    ['if ctx.round == 2: raise CompressitError("once is enough")', "import sets_once"],
    ids=["a round that says why it cannot", "what an import sets once, as scikit-learn does"],
)
def test_what_is_in_order_is_no_fault(code: str, tmp_path: Path) -> None:
    (tmp_path / "sets_once.py").write_text('import os\nos.environ["SETS_ONCE"] = "1"\n')
    subject = subject_of("compressor", code, tmp_path)
    checks = [each for each in checks_for(subject) if each.name not in RUNS]
    assert {outcome.reason for outcome in outcomes(checks, subject) if outcome.status == "failed"} == set()
