"""What every command needs: the host, consent to run local files, and output."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.errors import CompressitError, RecipeError
from compressit.printable import Forgiving, Printable, folded, line

if TYPE_CHECKING:
    from rich.console import Console

    from compressit.host.plugins import Host
    from compressit.recipe.model import LocalPlugin, Recipe

Trust = Annotated[bool, typer.Option("--trust", help="Run local plugin files without asking.")]
LocalFiles = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A local plugin file to load (repeatable).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_NARROWEST = 24  # columns; below this, line breaks are left to the terminal
MALFORMED = (ValueError, TypeError, LookupError, AttributeError)  # pydantic's error is a ValueError


def open_host() -> Host:
    """A host with all installed plugins."""
    from compressit.host.plugins import installed

    return installed()


def open_host_with(files: list[Path] | None, trust: bool) -> Host:
    """A host with all installed plugins and these local files. Raises CompressitError for an untrusted file."""
    from compressit.recipe.model import LocalPlugin

    found = open_host()
    for path in files or ():
        plugin = LocalPlugin.read(path)
        if not asker(trust)(plugin):
            raise CompressitError(f"{path} was not trusted", "read the file, then pass --trust")
        found.load_file(path, plugin.digest)
    return found


def load(recipe: Path, profile: str | None, settings: list[str] | None, trust: bool, host: Host) -> Recipe:
    """The recipe, merged and validated."""
    from compressit.recipe.load import load_recipe

    return load_recipe(recipe, host=host, profile=profile, settings=settings or (), trust=asker(trust))


def asker(trust: bool) -> Callable[[LocalPlugin], bool]:
    """A function that says whether a local file may run: always yes if `trust`, else it asks the user."""
    from compressit.recipe.trust import ask

    return (lambda plugin: True) if trust else ask


def command() -> str:
    """The command line as it was typed."""
    return shlex.join(["compressit", *sys.argv[1:]])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns. On a terminal the last column is wrapped; a pipe gets one line for each row."""
    lines = [head, *rows]
    *widths, _ = (max(map(len, column)) for column in zip(*lines, strict=True))
    indent = sum(widths) + 2 * len(widths)
    room = shutil.get_terminal_size().columns - indent if sys.stdout.isatty() else 0
    shown: list[str] = []
    for *cells, last in lines:
        start = "".join(f"{cell:{width}}  " for cell, width in zip(cells, widths, strict=True))
        wrapped = textwrap.wrap(last, room) if room >= _NARROWEST else [" ".join(last.split())]
        shown.append((start + f"\n{' ' * indent}".join(wrapped)).rstrip())
    return "\n".join(shown)


def say(*lines: object) -> None:
    """Prints lines of the result."""
    put("\n".join(map(line, lines)))


def put(text: str) -> None:
    """Prints a part of the result as it is: a table, JSON."""
    typer.echo(text)


def tell(text: object) -> None:
    """Prints news and warnings to stderr."""
    typer.echo(folded(text), err=True)


def fail(error: CompressitError) -> None:
    """Prints an error to stderr."""
    typer.echo(f"{error}" if isinstance(error, RecipeError) else f"error: {error}", err=True)


def forgive_output() -> None:
    """From now on, a full or closed stdout is not an error."""
    sys.stdout = Printable(Forgiving(getattr(sys.stdout, "stream", sys.stdout)))  # type: ignore[assignment]


def console() -> Console:
    """Where a run shows its progress: the raw stderr, since progress bars need control characters."""
    from rich.console import Console

    return Console(file=getattr(sys.stderr, "stream", None), stderr=True)
