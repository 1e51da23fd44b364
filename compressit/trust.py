"""Whether a recipe's plugin file may run: asked once per content, remembered by its digest."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from compressit.recipe.model import LocalPlugin


def ask(plugin: LocalPlugin) -> bool:
    """True when this very content was trusted before, or the user says yes now.

    Without a terminal nobody can. The question goes to stderr: stdout may be piped.
    """
    known = _known()
    if plugin.digest in known:
        return True
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(
        f"{plugin.path} is code that this recipe wants to run. Have you read it, and shall it run? [y/N] "
    )
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        return False
    with contextlib.suppress(OSError):  # then it is asked again next time
        _file().parent.mkdir(parents=True, exist_ok=True)
        _file().write_text(json.dumps([*known, plugin.digest]), encoding="utf-8")
    return True


def _known() -> list[str]:
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return known if isinstance(known, list) else []


def _file() -> Path:
    from compressit.api import default_cache

    return default_cache() / "trusted.json"
