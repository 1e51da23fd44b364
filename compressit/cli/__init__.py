"""The command line. Mistakes come out as messages with exit code 2, failed stages with 1, signal n with 128 + n."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from compressit import __version__
from compressit.cli.signals import ending
from compressit.cli.terminal import fail, tell
from compressit.errors import CompressitError
from compressit.printable import guard_streams

COMMANDS = {
    "run": "recipes",
    "check": "recipes",
    "plan": "recipes",
    "report": "recipes",
    "inspect": "checkpoints",
    "evaluate": "checkpoints",
    "export": "checkpoints",
    "schema": "recipes",
    "plugins": "plugins",
    "new": "new",
    "store": "store",
}
"""Each command's module, in the order of `--help`: its function there, or the module's `app` of commands."""


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"compressit {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What goes before a command."""


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with these commands only: the others are not even imported."""
    app = typer.Typer(
        name="compressit",
        help="Make networks smaller and know what you lost.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)  # without one, a command that is alone goes by no name
    for name in names:
        module = import_module(f"compressit.cli.{COMMANDS[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))
    return app


def main() -> NoReturn:
    """The console script: exit codes 0, 1 (a stage failed), 2 (a mistake, nothing was run), 128 + n (signal n)."""
    guard_streams()
    gc.disable()  # starting up allocates much and frees nothing; `run` turns it on again
    atexit.register(gc.freeze)  # nor does the end: its last search for cycles is a tenth of `check`
    asked = [name for name in sys.argv[1:2] if name in COMMANDS]
    command_line = build(asked if asked or sys.argv[1:2] == ["--version"] else COMMANDS)
    try:
        with ending() as signals:
            code: Any = command_line(standalone_mode=False)  # a raised typer.Exit comes back as its code
        if signals:
            code = 128 + signals[0]  # typer makes 130 of all
    except CompressitError as error:
        fail(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        tell("interrupted")
        sys.exit(130)
    except OSError as error:  # the disk is full, a file may not be read …
        if not isinstance(error, BrokenPipeError):  # nobody reads on: no mistake
            tell(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}")
        _drop_output()
        sys.exit(1)
    except Exception as error:
        if _is_usage(error):
            error.show(file=sys.stderr)  # type: ignore[attr-defined]
            sys.exit(2)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _drop_output() -> None:
    """What could not be written is not tried again at the end, where it would become exit code 120."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _is_usage(error: Exception) -> bool:
    return hasattr(error, "show") and hasattr(error, "exit_code")  # click's, whichever click typer brings
