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
from compressit.contract.kinds import Compressor
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
\"\"\"Scales every weight.\"\"\"

from pydantic import Field

from compressit import Compressor, Config, hookimpl


class MineConfig(Config):
    factor: float = Field(gt=0, lt=1, description="what every weight is multiplied with")
    note: bool = Field(False, description="whether to note a size, which is wrong")


class Mine(Compressor[MineConfig]):
    \"\"\"Scale every weight.\"\"\"

    name = "prune.mine"
    EXAMPLE

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
    file.write_text(MINE.replace("EXAMPLE", 'example = {"factor": 0.5}'))
    return file


@pytest.fixture
def command() -> Iterator[Any]:
    """`compressit plugins check …` in this process: its exit code, output and what it raised."""
    runner = CliRunner()
    yield lambda *words: runner.invoke(build(), ["plugins", "check", *map(str, words)])
    installed.cache_clear()  # the command loaded files into it


def _named(checks: tuple[Check, ...], *names: str) -> list[Check]:
    return [check for check in checks if check.name in names]


def test_options_are_laid_over_the_example(mine: Path) -> None:
    assert Subject.of("prune.mine", files=[mine]).options == {"factor": 0.5, "note": False}
    subject = Subject.of("prune.mine", {"note": True}, [mine])
    assert subject.options == {"factor": 0.5, "note": True}
    (outcome,) = outcomes(_named(checks_for(subject), "honest_sizes"), subject)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("it noted parameters = 1, which is ")


def test_required_options_need_an_example(mine: Path) -> None:
    mine.write_text(MINE.replace("EXAMPLE", ""))
    with pytest.raises(CompressitError, match=r"factor: Field required") as error:
        Subject.of("prune.mine", files=[mine])
    assert "example = " in str(error.value.hint)
    assert Subject.of("prune.mine", {"factor": 0.1}, [mine]).options["factor"] == 0.1


def test_a_class_is_found_in_its_own_file(mine: Path) -> None:
    installed().load_file(mine)
    plugin = installed().find("prune.mine").plugin
    assert issubclass(plugin, Compressor)
    installed.cache_clear()  # only its file brings it back
    subject = Subject.of(plugin)
    assert subject.name == "prune.mine"
    assert [file.path.name for file in subject.files] == ["testing_bench.py", "mine.py"]


def test_the_bench_is_not_installed_by_it(mine: Path) -> None:
    Subject.of("prune.mine", files=[mine])
    assert not [name for name in installed().names() if name.startswith("testing.")]


def test_a_check_is_carried_out_once_and_what_needs_it_is_skipped(mine: Path) -> None:
    calls: list[str] = []

    def fails(subject: Subject) -> None:
        calls.append("fails")
        raise ConformanceError("it does not", "make it")

    def crashes(subject: Subject) -> None:
        raise KeyError("weight")

    first = Check("first", "", fails)
    second = Check("second", "", crashes, (first,))
    third = Check("third", "", crashes)
    subject = Subject.of("prune.mine", files=[mine])
    told = [(o.check.name, o.status, o.reason) for o in outcomes([second, first, third, second], subject)]
    assert told == [
        ("second", "skipped", "it needs 'first', which did not pass"),
        ("first", "failed", "it does not"),
        ("third", "failed", "KeyError: 'weight'"),
        ("second", "skipped", "it needs 'first', which did not pass"),
    ]
    assert calls == ["fails"]
    with pytest.raises(AssertionError, match="it does not\n      help: make it"):
        first.run(subject)
    with pytest.raises(NotApplicable):
        second.run(subject)


def test_an_error_of_the_plugin_names_its_line(mine: Path) -> None:
    mine.write_text(MINE.replace("EXAMPLE", 'example = {"factor": 0.5}').replace("ctx.note(", "1 / 0"))
    text = mine.read_text().replace("1 / 0parameters=1)", "1 / 0")
    mine.write_text(text)
    line = next(number for number, code in enumerate(text.splitlines(), start=1) if "1 / 0" in code)
    subject = Subject.of("prune.mine", {"note": True}, [mine])
    (outcome,) = outcomes(_named(checks_for(subject), "runs"), subject)
    assert outcome.reason == f"ZeroDivisionError: division by zero (mine.py:{line})"


def test_pytest_gets_a_test_for_each_check(mine: Path) -> None:
    mark: Any = parametrize("prune.mine", options={"note": True}, files=[mine]).args  # type: ignore[attr-defined]
    argument, cases = mark
    assert argument == "check"
    by_id = {case.id: case.values[0] for case in cases}
    assert list(by_id)[:2] == ["prune.mine-summary", "prune.mine-options_described"]
    by_id["prune.mine-summary"]()
    with pytest.raises(ConformanceError, match="it noted parameters = 1"):
        by_id["prune.mine-honest_sizes"]()
    with pytest.raises(pytest.skip.Exception, match="does not say its shapes"):
        by_id["prune.mine-dry_runs"]()


def test_a_compressor_that_measures_times_need_not_give_the_same_twice(mine: Path) -> None:
    width = f"0.5 if os.getpid() == {os.getpid()} else 0.7"  # its workers' models are wider
    haste = mine.read_text().replace("self.config.factor)", "1 + time.perf_counter() % 1e-3)")
    haste = haste.replace(
        "        for weight", f"        model = ctx.with_width({width})\n        for weight"
    )
    haste = haste.replace("from pydantic", "import os\nimport time\n\nfrom pydantic")
    names = ("same_seed_same_result", "resumes", "saves_and_reloads", "runs_under_jobs")
    told: list[list[str]] = []
    for text in (haste, haste.replace("    def compress", "    per_host = True\n\n    def compress")):
        mine.write_text(text)
        subject = Subject.of("prune.mine", {}, [mine])
        told.append([outcome.status for outcome in outcomes(_named(checks_for(subject), *names), subject)])
    assert told == [["failed", "ok", "skipped", "skipped"], ["skipped", "ok", "skipped", "ok"]]


def test_the_command_lists_every_check_and_what_failed(
    mine: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compressit.testing.command.checks_for", _quick)
    bad = (
        mine.read_text()
        .replace('description="whether to note a size, which is wrong"', "")
        .replace("(False, )", "(False)")
    )
    mine.write_text(bad)
    done = command("prune.mine", "--plugin", mine, "--trust", "--set", "note=true")
    assert done.exit_code == 1, done.output
    lines = done.output.splitlines()
    assert lines[0] == 'prune.mine (compressor) with {"factor": 0.5, "note": true}'
    assert lines[1].split(maxsplit=2)[:2] == ["ok", "summary"]
    assert [line.split()[1] for line in lines if line.startswith("FAILED")] == [
        "options_described",
        "honest_sizes",
    ]
    assert "FAILED   options_described        no description: note" in done.output
    assert "         help: count with compressit.contract.measure" in done.output
    assert lines[-1].endswith(" ok, 2 failed, 1 skipped")

    told = json.loads(
        command("prune.mine", "--plugin", mine, "--trust", "--set", "factor=0.1", "--json").output
    )
    assert told["options"] == {"factor": 0.1, "note": False}
    assert {check["check"]: check["status"] for check in told["checks"]}["options_described"] == "failed"


def test_the_command_refuses_what_it_cannot_check(mine: Path, command: Any) -> None:
    assert "no plugin is called 'prune.yours'" in str(command("prune.yours").exception)
    wrong = command("prune.mine", "--plugin", mine, "--trust", "--set", "factor=2").exception
    assert isinstance(wrong, CompressitError)
    assert wrong.exit_code == 2
    assert "factor must be less than 1" in str(wrong)


def test_a_plugin_is_called_on_the_device_it_is_told(mine: Path, device: str) -> None:
    """On a GPU the kit finds what a CPU cannot show: tensors made in the wrong place."""
    subject = Subject.of("prune.mine", files=[mine], device=device)
    called = call(subject)
    tensors = [*called.result.parameters(), called.given.ctx.data.train.x, called.given.data.data.test.y]
    assert {tensor.device.type for tensor in tensors} == {device}
    mine.write_text(
        mine.read_text()
        .replace(".mul_(self.config.factor)", ".mul_(torch.full(weight.shape, self.config.factor))")
        .replace("from pydantic", "import torch\nfrom pydantic")
    )
    forgetful = Subject.of("prune.mine", files=[mine], device=device)
    (outcome,) = outcomes(_named(checks_for(forgetful), "runs"), forgetful)
    assert outcome.status == ("ok" if device == "cpu" else "failed"), outcome.reason
    assert ("mine.py:" in outcome.reason) == (device == "cuda")


def test_a_gpu_that_is_not_there_is_refused(
    mine: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused = command("prune.mine", "--plugin", mine, "--trust", "--device", "cuda").exception
    assert isinstance(refused, CompressitError)
    assert "torch sees no CUDA device" in str(refused)
    with pytest.raises(CompressitError, match="no CUDA"):
        parametrize("prune.mine", files=[mine], device="cuda")


def test_settings_are_nested_options() -> None:
    assert options_of(["sparsity=0.5", "finetune.epochs=2", "finetune.optimizer.lr=1"]) == {
        "sparsity": 0.5,
        "finetune": {"epochs": 2, "optimizer": {"lr": 1}},
    }
    with pytest.raises(CompressitError, match="path=value"):
        options_of(["sparsity"])


def _quick(subject: Subject) -> tuple[Check, ...]:
    """Without worker processes."""
    return tuple(check for check in checks_for(subject) if check.name not in ("runs_under_jobs", "no_pickle"))
