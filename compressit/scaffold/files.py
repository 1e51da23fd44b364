"""New files from templates. Nothing is overwritten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compressit.errors import CompressitError

_TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, **values: Any) -> str:
    """A template filled with these values."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def refuse_existing(paths: Iterable[Path], hint: str = "choose another name or --folder") -> None:
    """Raises CompressitError that names those of the paths that exist."""
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise CompressitError(f"{', '.join(there)}: already exists, and nothing is overwritten", hint)


def write_new(files: Mapping[Path, str]) -> None:
    """Writes files and their folders. If one exists, raises CompressitError before anything is written."""
    refuse_existing(files)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
