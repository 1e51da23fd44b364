"""Whether a recipe's plugin file may run: asked once per content, remembered by its digest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from compressit.recipe.model import LocalPlugin


def ask(plugin: LocalPlugin) -> bool:
    """True when this very content was trusted before, or the user says yes now; without a terminal nobody can."""
    remembered = _file()
    try:
        known: list[str] = json.loads(remembered.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = []
    if plugin.digest in known:
        return True
    if not sys.stdin.isatty():
        return False
    answer = input(f"{plugin.path} is code that this recipe wants to run. Have you read it, and run it? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        return False
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.write_text(json.dumps([*known, plugin.digest]), encoding="utf-8")
    return True


def _file() -> Path:
    from compressit.api import default_cache

    return default_cache() / "trusted.json"
