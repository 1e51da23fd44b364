"""The command line. Mistakes come out as messages with exit code 2, failed stages with 1, Ctrl-C with 130."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any, NoReturn

import typer

from compressit.cli import checkpoints, new, plugins, recipes
from compressit.errors import CompressitError

app = typer.Typer(
    name="compressit",
    help="Make networks smaller and know what you lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (recipes.run, recipes.check, recipes.plan, recipes.report):
    app.command()(command)
for command in (checkpoints.inspect, checkpoints.evaluate, checkpoints.export):
    app.command()(command)
app.add_typer(plugins.app, name="plugins")
app.add_typer(new.app, name="new")
app.command()(recipes.schema)


def main() -> NoReturn:
    """The console script: exit codes 0, 1 (a stage failed), 2 (a mistake, nothing was run), 130 (Ctrl-C)."""
    gc.disable()  # starting up allocates much and frees nothing; `run` turns it on again
    try:
        code: Any = app(standalone_mode=False)  # that of a raised typer.Exit, which comes back as the value
    except CompressitError as error:
        typer.echo(f"{error}" if _has_place(error) else f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # the disk is full, a file may not be read …
        about = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.echo(f"error: {about}", err=True)
        sys.exit(1)
    except Exception as error:
        if _is_usage(error):
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _has_place(error: CompressitError) -> bool:
    return hasattr(error, "problems")


def _is_usage(error: Exception) -> bool:
    return hasattr(error, "show") and hasattr(error, "exit_code")  # click's, whichever click typer brings
