"""Only the command that is asked for is worked out: it must be as it is among all of them."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compressit import __version__, cli

from .recipes import TINY
from .sandbox import Sandbox

NOWHERE = {**cli.COMMANDS, "export": "nowhere"}  # no such module


def _help(*command: str) -> str:
    return CliRunner().invoke(cli.build(), [*command, "--help"]).output


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_alone_explains_itself_as_among_the_others(name: str) -> None:
    alone = CliRunner().invoke(cli.build([name]), [name, "--help"])
    assert (alone.exit_code, alone.output) == (0, _help(name))
    assert f"compressit {name}" in alone.output


def test_help_lists_every_command_in_order_and_the_version() -> None:
    text = _help()
    lines = text.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in lines if line[2:3].strip()] == [*cli.COMMANDS]
    assert "--version" in text


@pytest.mark.parametrize(
    "command", [["plugins", "show"], ["plugins", "check"], ["new", "recipe"], ["evaluate"], ["export"]]
)
def test_shared_options_say_what_is_true_everywhere(command: list[str]) -> None:
    told = " ".join(_help(*command).split())
    assert "A local plugin file to load (repeatable)." in told
    assert "Run local plugin files without asking." in told


def test_the_version_needs_no_torch(sandbox: Sandbox) -> None:
    assert sandbox.light("--version").out == f"compressit {__version__}\n"


def test_what_is_not_asked_for_is_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", NOWHERE)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(TINY)
    assert _main(monkeypatch, "check", str(recipe)) == 0
    assert "tiny is fine" in capsys.readouterr().out
    assert _main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"compressit {__version__}\n"
    with pytest.raises(ModuleNotFoundError):
        _main(monkeypatch, "export", "--help")


def test_an_unknown_command_is_told_from_all_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(monkeypatch, "chek") == 2
    assert "'check'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "plan"])
def test_classes_that_a_limit_loses_are_told_beside_the_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(TINY)
    assert _main(monkeypatch, command, str(recipe), "--set", "data.with.limit=2") == 0
    told = capsys.readouterr()
    assert "warning: " in told.err
    assert "`limit: 2` keeps fewer" in told.err
    assert "warning" not in told.out


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["compressit", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        gc.enable()
