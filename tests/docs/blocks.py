"""Fenced blocks of a page, and walking through them as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import warm

DOCS = Path(__file__).parent.parent.parent / "docs"


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None  # the file it is; None for commands and fragments
    text: str

    def write(self, folder: Path) -> None:
        file = folder / str(self.title)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.text, encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page of docs/, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', text, re.S | re.M)
    assert len(found) == len(re.findall(r"^```", text, re.M)) / 2, "a block without a language"
    return [Block(language, title or None, body) for language, title, body in found]


def own_places(folder: Path) -> dict[str, str]:
    """What commands get from the environment: a store and a cache in this folder, one thread."""
    places = {name: str(folder / name.lower()) for name in ("STORE", "CACHE")}
    return {"OMP_NUM_THREADS": "1", **{f"COMPRESSIT_{name}": place for name, place in places.items()}}


def run_line(line: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Runs one command of a page in `folder`; gives what it printed.

    `# exit code 2` behind it says how it ends. Lines may be wide: Rich must not break what the page shows.
    """
    command = shlex.split(line, comments=True)
    replaced = {
        "compressit": ["-m", "compressit"],
        "python": [],
        "pytest": ["-m", "pytest", "-p", "no:cacheprovider"],
        "pip": ["-m", "pip", "--disable-pip-version-check"],
    }
    wanted = re.search(r"# exit code (\d+)", line)
    if command[0] == "cp":
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    else:
        environment = {**os.environ, **environment, "COLUMNS": "1000"}
        done = warm.python(*replaced[command[0]], *command[1:], cwd=folder, env=environment)
    printed = done.stdout + done.stderr
    assert done.returncode == int(wanted[1] if wanted else 0), f"{line}\n{printed}"
    return printed


def shows(printed: str, line: str) -> bool:
    """Whether some printed line holds this one; `…` stands for anything, and runs of blanks are one."""
    pattern = ".*".join(re.escape(part.strip()) for part in line.split("…"))
    return any(re.search(pattern, " ".join(found.split())) for found in printed.splitlines())
