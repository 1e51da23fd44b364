"""The command line. Exit code 2: a mistake, told in a message; 1: a stage failed; 128 + n: ended by signal n."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from keyword import iskeyword
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
    "show": "recipes",
    "report": "recipes",
    "search": "searching",
    "sensitivity": "sensitivity",
    "import": "importing",
    "inspect": "checkpoints",
    "evaluate": "checkpoints",
    "export": "checkpoints",
    "schema": "recipes",
    "plugins": "plugins",
    "new": "new",
    "store": "store",
}
"""The module of each command, in the order of `--help`. It has a function of that name, or a typer `app`."""


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"compressit {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that come before a command."""


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with only these commands. The others are not imported."""
    app = typer.Typer(
        name="compressit",
        help="Make networks smaller and know what you lost.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)  # without a callback, typer drops the name of a single command
    for name in names:
        module = import_module(f"compressit.cli.{COMMANDS[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, f"{name}_" if iskeyword(name) else name))
    return app


def main() -> NoReturn:
    """The console script. Exit codes: 0, 1 (a stage failed), 2 (a mistake, nothing was run), 128 + n (signal n)."""
    guard_streams()
    gc.disable()  # start-up allocates a lot and frees nothing; `run` enables it again
    atexit.register(gc.freeze)  # skips the collection at exit, which takes a tenth of `check`
    asked = [name for name in sys.argv[1:2] if name in COMMANDS]
    command_line = build(asked if asked or sys.argv[1:2] == ["--version"] else COMMANDS)
    try:
        with ending() as signals:
            code: Any = command_line(standalone_mode=False)  # a raised typer.Exit comes back as its code
        if signals:
            code = 128 + signals[0]  # typer returns 130 for every signal
    except CompressitError as error:
        fail(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        tell("interrupted")
        sys.exit(130)
    except OSError as error:  # the disk is full, a file is not readable …
        if not isinstance(error, BrokenPipeError):  # the reader of a pipe has left: not an error
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
    """Discards unwritten output: Python would retry it at exit and end with code 120."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _is_usage(error: Exception) -> bool:
    return hasattr(error, "show") and hasattr(
        error, "exit_code"
    )  # a click error, from whichever click typer uses
