"""A command works where there is no stdin, stdout or stderr, or no user: it says no to what nobody can answer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tiny import BASE, PLUGINS

from .sandbox import PATIENCE, Sandbox


def _run(sandbox: Sandbox, arguments: list[str], closed: tuple[int, ...]) -> subprocess.CompletedProcess[str]:
    sandbox.write("recipe.yaml", BASE + f"plugins: [{PLUGINS}]\n")
    return subprocess.run(
        [sys.executable, "-m", "compressit", *arguments], cwd=sandbox.folder, env=sandbox.environment(),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
        preexec_fn=lambda: [os.close(number) for number in closed],
    )  # fmt: skip


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 2)])
def test_a_plugin_is_not_trusted_where_nobody_can_be_asked(sandbox: Sandbox, closed: tuple[int, ...]) -> None:
    done = _run(sandbox, ["check", "recipe.yaml"], closed)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert ("is not trusted" in done.stderr) == (2 not in closed)


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)])
def test_a_run_ends_well_without_any_stream(sandbox: Sandbox, closed: tuple[int, ...]) -> None:
    done = _run(sandbox, ["run", "recipe.yaml", "--trust", "--out", "out"], closed)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (sandbox.folder / "out" / "report.html").is_file()
