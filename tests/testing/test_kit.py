"""Checks as tests and as commands: what they are called with, what they say, what they need."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from compressit.cli import build
from compressit.errors import CompressitError
from compressit.host.plugins import installed
from compressit.recipe.settings import options_of
from compressit.testing import (
    Check,
    ConformanceError,
    NotApplicable,
    Subject,
    checks_for,
    outcomes,
    parametrize,
)
from compressit.testing.stand import call

MINE = """\
import os
import time

import torch
from pydantic import Field

from compressit import Compressor, Config, hookimpl


class MineConfig(Config):
    factor: float = Field(gt=0, lt=1, description="what every weight is multiplied with")
    note: bool = Field(False, description="whether to note a size, which is wrong")


class Mine(Compressor[MineConfig]):
    \"\"\"Scale every weight.\"\"\"

    name = "prune.mine"
    example = {"factor": 0.5}

    def compress(self, model, ctx):
        for weight in model.parameters():
            weight.data.mul_(self.config.factor)
        if self.config.note:
            ctx.note(parameters=1)
        return model


@hookimpl
def compressit_compressors():
    return [Mine]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A plugin file that conforms."""
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


@pytest.fixture
def command(mine: Path) -> Iterator[Any]:
    """`compressit plugins check` of the file in this process: its exit code, output and what it raised."""
    options = ("--plugin", str(mine), "--trust")
    yield lambda *words: CliRunner().invoke(build(), ["plugins", "check", "prune.mine", *options, *words])
    installed.cache_clear()  # the command loaded files into it


def change(file: Path, *changes: tuple[str, str]) -> None:
    """Replaces texts of a file."""
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def outcome(subject: Subject, name: str) -> Any:
    """How the check of that name goes."""
    (check,) = (check for check in checks_for(subject) if check.name == name)
    return check.outcome(subject)


def test_options_are_laid_over_the_example(mine: Path) -> None:
    assert Subject.of("prune.mine", files=[mine]).options == {"factor": 0.5, "note": False}
    subject = Subject.of("prune.mine", {"note": True}, [mine])
    assert subject.options == {"factor": 0.5, "note": True}
    assert "parameters = 1" in outcome(subject, "honest_sizes").reason


def test_required_options_need_an_example(mine: Path) -> None:
    change(mine, ('example = {"factor": 0.5}', ""))
    with pytest.raises(CompressitError, match="without factor") as error:
        Subject.of("prune.mine", files=[mine])
    assert "example = " in str(error.value.hint)
    assert Subject.of("prune.mine", {"factor": 0.1}, [mine]).options["factor"] == 0.1


@pytest.mark.parametrize("by_class", [True, False])
def test_a_plugin_of_this_session_is_found_in_its_own_file(mine: Path, by_class: bool) -> None:
    installed().load_file(mine)
    plugin = installed().find("prune.mine").plugin
    if by_class:
        installed.cache_clear()  # only its file brings it back
    subject = Subject.of(plugin if by_class else "prune.mine")
    assert [file.path.name for file in subject.files] == ["testing_bench.py", "mine.py"]
    assert not [name for name in installed().names() if name.startswith("testing.")], "the bench is the kit's"
    installed.cache_clear()


def test_a_check_is_carried_out_once_and_what_needs_it_is_skipped(mine: Path) -> None:
    calls: list[str] = []

    def fails(subject: Subject) -> None:
        calls.append("fails")
        raise ConformanceError("it does not", "make it")

    def crashes(subject: Subject) -> None:
        raise KeyError("weight")

    first, third = Check("first", "", fails), Check("third", "", crashes)
    second, elsewhere = (
        Check("second", "", crashes, (first,)),
        Check("elsewhere", "", fails, kinds=("model",)),
    )
    fourth = Check(
        "fourth", "", lambda subject: None, (elsewhere,)
    )  # what it needs says nothing of compressors
    subject = Subject.of("prune.mine", files=[mine])
    tried = [second, first, third, second, fourth]
    assert [(o.check.name, o.status, o.reason) for o in outcomes(tried, subject)] == [
        ("second", "skipped", "requires 'first', which did not pass"),
        ("first", "failed", "it does not"),
        ("third", "failed", "KeyError: 'weight'"),
        ("second", "skipped", "requires 'first', which did not pass"),
        ("fourth", "ok", ""),
    ]
    assert calls == ["fails"]
    with pytest.raises(AssertionError, match="it does not\n      help: make it"):
        first.run(subject)
    with pytest.raises(NotApplicable):
        second.run(subject)


def test_an_error_of_the_plugin_names_its_line(mine: Path) -> None:
    change(mine, ("ctx.note(parameters=1)", "1 / 0"))
    line = next(
        number for number, code in enumerate(mine.read_text().splitlines(), start=1) if "1 / 0" in code
    )
    reason = outcome(Subject.of("prune.mine", {"note": True}, [mine]), "runs").reason
    assert reason == f"ZeroDivisionError: division by zero (mine.py:{line})"


def test_pytest_gets_a_test_for_each_check(mine: Path) -> None:
    mark: Any = parametrize("prune.mine", options={"note": True}, files=[mine]).args  # type: ignore[attr-defined]
    argument, cases = mark
    assert argument == "check"
    by_id = {case.id: case.values[0] for case in cases}
    assert list(by_id)[:2] == ["prune.mine-summary", "prune.mine-options_described"]
    by_id["prune.mine-summary"]()
    with pytest.raises(ConformanceError, match="parameters = 1"):
        by_id["prune.mine-honest_sizes"]()
    with pytest.raises(pytest.skip.Exception, match="does not know its shapes"):
        by_id["prune.mine-dry_runs"]()


@pytest.mark.usefixtures("warm_workers")
def test_a_compressor_that_measures_times_need_not_give_the_same_twice(mine: Path) -> None:
    width = f"0.5 if os.getpid() == {os.getpid()} else 0.7"  # its workers' models are wider
    change(
        mine,
        ("self.config.factor)", "1 + time.perf_counter() % 1e-3)"),
        ("        for weight", f"        model = ctx.with_width({width})\n        for weight"),
    )
    names = ("same_seed_same_result", "resumes", "saves_and_reloads", "runs_under_jobs")
    hasty = Subject.of("prune.mine", files=[mine])
    assert [outcome(hasty, name).status for name in names] == ["failed", "skipped", "ok", "skipped"]
    change(mine, ("    def compress", "    per_host = True\n\n    def compress"))
    honest = Subject.of("prune.mine", files=[mine])
    assert [outcome(honest, name).status for name in names] == ["skipped", "skipped", "ok", "ok"]


def test_the_command_lists_every_check_and_what_failed(
    mine: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = lambda subject: [c for c in checks_for(subject) if c.name not in ("runs_under_jobs", "no_pickle")]  # noqa: E731
    monkeypatch.setattr("compressit.testing.command.checks_for", quick)
    change(mine, (', description="whether to note a size, which is wrong"', ""))
    done = command("--set", "note=true")
    assert done.exit_code == 1, done.output
    first, *lines, last = done.output.splitlines()
    assert first == 'prune.mine (compressor) with {"factor": 0.5, "note": true}'
    assert lines[0].split()[:2] == ["ok", "summary"]
    failed = [line.split()[1] for line in lines if line.startswith("FAILED")]
    assert failed == ["options_described", "honest_sizes"]
    assert sum(line.strip().startswith("help: ") for line in lines) == 2
    assert last.endswith(" ok, 2 failed, 1 skipped")
    told = json.loads(command("--set", "factor=0.1", "--json").output)
    assert told["options"] == {"factor": 0.1, "note": False}
    assert {check["check"]: check["status"] for check in told["checks"]}["options_described"] == "failed"


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--set", "factor=2"], "factor must be less than 1"), (["--device", "cuda"], "sees no CUDA device")],
)
def test_the_command_refuses_what_it_cannot_check(
    command: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused = command(*words).exception
    assert isinstance(refused, CompressitError)
    assert refused.exit_code == 2
    assert told in str(refused)


def test_a_plugin_is_called_on_the_device_it_is_told(mine: Path, device: str) -> None:
    """On a GPU the kit finds what a CPU cannot show: tensors made in the wrong place."""
    called = call(Subject.of("prune.mine", files=[mine], device=device))
    tensors = [*called.result.parameters(), called.ctx.data.train.x, called.ctx.data.test.y]
    assert {tensor.device.type for tensor in tensors} == {device}
    change(mine, ("mul_(self.config.factor)", "mul_(torch.full(weight.shape, self.config.factor))"))
    found = outcome(Subject.of("prune.mine", files=[mine], device=device), "runs")
    assert found.status == ("ok" if device == "cpu" else "failed"), found.reason
    assert ("mine.py:" in found.reason) == (device == "cuda")


def test_settings_are_nested_options() -> None:
    assert options_of(["sparsity=0.5", "finetune.epochs=2", "finetune.optimizer.lr=1"]) == {
        "sparsity": 0.5,
        "finetune": {"epochs": 2, "optimizer": {"lr": 1}},
    }
    with pytest.raises(CompressitError, match="path=value"):
        options_of(["sparsity"])


def test_a_plugin_of_other_tasks_is_not_blamed_for_the_kits_classification(mine: Path) -> None:
    change(
        mine,
        ('name = "prune.mine"', 'name = "prune.mine"\n    tasks = frozenset({"task.angle"})'),
        ("for weight in", "raise KeyError('angle')\n        for weight in"),
    )
    subject = Subject.of("prune.mine", files=[mine])
    assert outcome(subject, "options_round_trip").status == "ok"
    for name in ("runs", "runs_under_jobs"):
        found = outcome(subject, name)
        assert (found.status, "task.angle" in found.reason) == ("skipped", True)
