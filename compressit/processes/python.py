"""Starts Python processes that find modules only where they are installed, never in the current folder."""

from __future__ import annotations

import os
import sys

INCOMPLETE = 3
"""Exit code of the process that draws a run's page, if the page was written but a report is incomplete."""


def python(module: str, *arguments: str) -> list[str]:
    """The command line of `python -m module`, without the current folder on the search path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment, changed so that Python processes do not search the current folder.

    Removes empty and relative entries of PYTHONPATH, which refer to it. Also fixes the hash seed, so that sets of
    strings have the same order in every process.
    """
    # an empty PYTHONPATH has no effect
    kept = os.pathsep.join(entry for entry in _python_path() if os.path.isabs(entry))
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": kept, "PYTHONHASHSEED": "0"}


def leave_current_folder(added: bool) -> None:
    """Removes the current folder from this process's search path: empty and relative entries of PYTHONPATH, and the
    entry that `python -m` `added`.
    """
    if added and not sys.flags.safe_path:
        del sys.path[0]
    relative = {os.path.abspath(entry) for entry in _python_path() if not os.path.isabs(entry)}
    sys.path[:] = [entry for entry in sys.path if entry and entry not in relative]


def _python_path() -> list[str]:
    return os.environ["PYTHONPATH"].split(os.pathsep) if os.environ.get("PYTHONPATH") else []
