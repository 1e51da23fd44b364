"""How Python is started here: it finds modules where they are installed, never in the current folder."""

from __future__ import annotations

import os
import sys

INCOMPLETE = 3
"""Exit code of the process that draws a run's page: it is written, but some report is not whole."""


def python(module: str, *arguments: str) -> list[str]:
    """The command line of `python -m module`, without the current folder on its search path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment, in which no Python started later has the current folder on its path.

    An entry of PYTHONPATH that is empty or relative means the current folder or lies in it: it is left out. Sets of
    texts have one order in all of them: what walks through one computes the same in every process.
    """
    # an empty PYTHONPATH says nothing
    kept = os.pathsep.join(entry for entry in _python_path() if os.path.isabs(entry))
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": kept, "PYTHONHASHSEED": "0"}


def leave_current_folder(added: bool) -> None:
    """Takes from this process's search path what the current folder put there: by PYTHONPATH's empty and relative
    entries, and, where `python -m` `added` it, itself.
    """
    if added and not sys.flags.safe_path:
        del sys.path[0]
    relative = {os.path.abspath(entry) for entry in _python_path() if not os.path.isabs(entry)}
    sys.path[:] = [entry for entry in sys.path if entry and entry not in relative]


def _python_path() -> list[str]:
    return os.environ["PYTHONPATH"].split(os.pathsep) if os.environ.get("PYTHONPATH") else []
