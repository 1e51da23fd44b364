"""Only the command that is asked for is worked out: it must be as it is among all of them."""

from __future__ import annotations

import gc
import importlib.metadata
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compressit import __version__, cli

from .recipes import TINY
from .sandbox import Sandbox


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_alone_explains_itself_as_among_the_others(name: str) -> None:
    alone, among = (CliRunner().invoke(app, [name, "--help"]) for app in (cli.build([name]), cli.app))
    assert (alone.exit_code, alone.output) == (0, among.output)
    assert f"compressit {name}" in alone.output


def test_help_lists_every_command_in_order() -> None:
    lines = CliRunner().invoke(cli.app, ["--help"]).output.split("Commands:\n")[1].splitlines()
    listed = [line.split()[0] for line in lines if line[2:3].strip()]
    assert listed == [
        "run",
        "check",
        "plan",
        "report",
        "inspect",
        "evaluate",
        "export",
        "schema",
        "plugins",
        "new",
        "store",
    ]


def test_the_version_is_told_without_building_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unbuildable(option: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Its option's type is not there when it is looked up."""

    assert "--version" in CliRunner().invoke(cli.app, ["--help"]).output
    monkeypatch.setattr(cli, "COMMANDS", {**cli.COMMANDS, "export": unbuildable})
    monkeypatch.setattr(cli, "app", cli.build())
    assert _main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"compressit {importlib.metadata.version('compressit')}\n"


def test_the_version_needs_no_torch(sandbox: Sandbox) -> None:
    assert sandbox.light("--version").out == f"compressit {__version__}\n"


@pytest.mark.parametrize(
    "command", [["plugins", "show"], ["plugins", "check"], ["new", "recipe"], ["evaluate"], ["export"]]
)
def test_shared_options_say_what_is_true_everywhere(command: list[str]) -> None:
    told = " ".join(CliRunner().invoke(cli.app, [*command, "--help"]).output.split())
    assert "A local plugin file to load (repeatable)." in told
    assert "Run local plugin files without asking." in told


def test_an_unknown_command_is_told_from_all_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(monkeypatch, "chek") == 2
    assert "'check'" in capsys.readouterr().err


def test_what_is_not_asked_for_is_not_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def unbuildable(option: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Its option's type is not there when it is looked up."""

    monkeypatch.setattr(cli, "COMMANDS", {**cli.COMMANDS, "export": unbuildable})
    recipe = tmp_path / "r.yaml"
    recipe.write_text(TINY)
    assert _main(monkeypatch, "check", str(recipe)) == 0
    assert "tiny is fine" in capsys.readouterr().out
    with pytest.raises(NameError):
        _main(monkeypatch, "export", "--help")


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
