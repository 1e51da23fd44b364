"""`compressit store`: list, check and remove stored results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressit.cli.terminal import AsJson, put, say, table, tell
from compressit.errors import CompressitError
from compressit.formatting import counted
from compressit.printable import line

if TYPE_CHECKING:
    from compressit.store.inventory import Entry, Inventory, Waste
    from compressit.store.objects import Store

Folder = Annotated[Path | None, typer.Option("--store", help="Folder of results; default: the user's cache.")]
_NOUNS = {"result": "result", "progress": "saved state", "lock": "lock", "leftover": "leftover", "run": "note",
          "foreign": "foreign thing"}  # fmt: skip

app = typer.Typer(invoke_without_command=True)


@app.callback()
def show(context: typer.Context, store: Folder = None, as_json: AsJson = False) -> None:
    """Show the stored results and the run folders that use them."""
    if context.invoked_subcommand is None:
        _, found = _looked(store)
        put(json.dumps(_facts(found), indent=1) if as_json else "\n".join(_shown(found)))
    elif store is not None or as_json:
        raise CompressitError(
            "--store and --json go after the command", f"compressit store {context.invoked_subcommand} …"
        )


@app.command()
def gc(
    store: Folder = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only list.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what no run folder uses.

    This includes leftovers of killed runs and damaged results. Without --yes they are only listed.

    Each run records its folder; a folder that was moved is recorded again by its next run. Results that another
    process is working on stay. Exit code 1: something could not be removed.
    """
    from compressit.store.inventory import waste

    objects, found = _looked(store)
    for note, why in found.unread.items():
        tell(
            f"{note} is damaged: {why}. It is unknown which results its run folder uses, so none counts as unused; "
            "`compressit store verify --remove` removes the note"
        )
    words = "removed" if yes else "nothing was removed; --yes removes"
    _clear(objects, list(waste(objects, found)), yes, as_json, words, "nothing to remove")


@app.command()
def verify(
    store: Folder = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what is damaged; the next run makes it again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read every result and saved state completely.

    Exit code 1: something is damaged.
    """
    from compressit.store.inventory import damaged

    objects, found = _looked(store)
    listed = list(damaged(objects, found))
    words = "damaged and removed:" if remove else "damaged:"
    whole = f"{_counts(found.of('result', 'progress')) or 'nothing is there'}: all as written"
    _clear(objects, listed, remove, as_json, words, whole)
    if listed and not remove:
        raise typer.Exit(1)


def _clear(
    store: Store, listed: Sequence[Waste], removing: bool, as_json: bool, words: str, nothing: str
) -> None:
    """Lists these entries, and removes them if `removing`. Exits with 1 if one could not be removed."""
    from compressit.store.inventory import remove

    ended = {waste.entry.name: remove(store.root, waste.entry) for waste in listed if removing}
    stayed = {name: why for name, why in ended.items() if why is not None}
    if as_json:
        put(json.dumps([
            {**asdict(w.entry), "why": w.why, "removed": removing and w.entry.name not in stayed} for w in listed
        ], indent=1))  # fmt: skip
    elif listed:
        rows = [[f"{w.entry.bytes:,}", line(w.entry.name), line(w.entry.label), line(w.why)] for w in listed]
        put(table(("bytes", "name", "of", "why"), rows))
        say(f"{words} {_counts(w.entry for w in listed if w.entry.name not in stayed)}")
    else:
        say(nothing)
    for name, why in stayed.items():
        tell(f"{name} stays: {why}")
    if stayed:
        raise typer.Exit(1)


def _looked(store: Path | None) -> tuple[Store, Inventory]:
    from compressit.paths import default_store
    from compressit.store.inventory import look
    from compressit.store.objects import Store

    root = store or default_store()
    if not root.is_dir():
        raise CompressitError(f"{root}: there is no such store", "the first run makes one; see --store")
    return Store(root), look(root)


def _facts(found: Inventory) -> dict[str, Any]:
    users = {key: [use.folder for use in found.uses if key in use.keys] for key in found.used}
    entries = [
        {**asdict(entry), "runs": users.get(entry.key or "", [])}
        if entry.kind in ("result", "progress")
        else asdict(entry)
        for entry in found.entries
    ]
    return {
        "store": str(found.root),
        "bytes": sum(entry.bytes for entry in found.entries),
        "runs": [{"folder": use.folder, "results": len(use.keys)} for use in found.uses],
        "gone": [use.folder for use in found.gone],
        "damaged_notes": dict(found.unread),
        "entries": entries,
    }


def _shown(found: Inventory) -> Iterator[str]:
    yield f"{line(found.root)}: {_counts(found.entries) or 'empty'}\n"
    kept = found.of("result", "progress")
    rows = [_row(line(use.folder), [entry for entry in kept if entry.key in use.keys]) for use in found.uses]
    unused = [entry for entry in kept if entry.key not in found.used]
    if unused:
        rows.append(_row("no run folder (see `compressit store gc`)", unused))
    if rows:
        yield table(("results", "bytes", "run folder"), rows)
    for use in found.gone:
        yield f"{line(use.folder)} is gone"
    for entry in found.of("foreign"):
        yield f"{line(entry.name)}: {entry.label}; it stays"
    for note, why in found.unread.items():
        yield f"{line(note)} is damaged: {line(why)}"


def _row(folder: str, entries: Sequence[Entry]) -> list[str]:
    return [str(len(entries)), f"{sum(entry.bytes for entry in entries):,}", folder]


def _counts(entries: Iterable[Entry]) -> str:
    """`3 results, 1 lock, 2,000 bytes`."""
    entries = list(entries)
    kinds = Counter(entry.kind for entry in entries)
    words = [counted(kinds[kind], noun) for kind, noun in _NOUNS.items() if kinds[kind]]
    return ", ".join([*words, f"{sum(entry.bytes for entry in entries):,} bytes"] if words else [])
