"""A yes at the terminal is for the code that was shown, and for no other."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys

from tiny import BASE, PLUGINS

from .sandbox import PATIENCE, Done, Sandbox

PLUGIN = f"{PLUGINS.read_text()}\nimport helper\nPath(__file__).with_name('ran.txt').touch()\n"


def test_a_remembered_yes_is_asked_again_when_a_module_beside_the_plugin_changes(sandbox: Sandbox) -> None:
    sandbox.write("mine.py", PLUGIN)
    sandbox.write("helper.py", "step = 1.0\n")
    sandbox.write("recipe.yaml", BASE + "plugins: [./mine.py]\n")
    ran = sandbox.folder / "ran.txt"

    asked = _answered(sandbox, "yes\n", "check", "recipe.yaml")
    assert asked.code == 0, asked.err
    assert "helper.py" in asked.err
    ran.unlink()
    sandbox.write("unrelated.py", "x = 1\n")
    assert _answered(sandbox, "no\n", "check", "recipe.yaml").code == 0, "it remembers"
    ran.unlink()

    sandbox.write("helper.py", "step = 2.0\n")
    asked = _answered(sandbox, "no\n", "run", "recipe.yaml")
    assert asked.code == 2
    assert "changed    helper.py" in asked.err
    assert not ran.exists(), "code that nobody said yes to ran"
    assert sandbox.run("check", "recipe.yaml", code=2).out == "", "nor where nobody can be asked"
    assert not ran.exists()

    asked = _answered(sandbox, "y\n", "check", "recipe.yaml")
    assert asked.code == 0, asked.err
    sandbox.write("helper.py", "step = 1.0\n")
    assert sandbox.run("check", "recipe.yaml").code == 0, "an earlier content is trusted as it was"


def _answered(sandbox: Sandbox, answer: str, *arguments: str) -> Done:
    """A command at a terminal, where that is typed; `err` is what the terminal shows."""
    terminal, end = pty.openpty()
    os.write(terminal, answer.encode())
    process = subprocess.Popen(
        [sys.executable, "-m", "compressit", *arguments], cwd=sandbox.folder, env=sandbox.environment(),
        stdin=end, stdout=subprocess.PIPE, stderr=end, text=True,
    )  # fmt: skip
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while chunk := os.read(terminal, 65536):
            shown += chunk
    out, _ = process.communicate(timeout=PATIENCE)
    os.close(terminal)
    return Done(process.returncode, out, shown.decode())
