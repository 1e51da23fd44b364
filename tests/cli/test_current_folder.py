"""Files that merely lie in the current folder are not code of ours: they never run, and break nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compressit.process import environment, python

from .recipes import TINY
from .sandbox import PATIENCE, Sandbox

# What Python, our processes and their libraries import by name; and what Python runs by itself at its start.
SHADOWS = (
    "statistics", "random", "queue", "json", "typing", "numpy", "torch", "pydantic", "matplotlib", "compressit",
    "compressit_plugins", "sitecustomize", "usercustomize", "conftest", "triton",
)  # fmt: skip
TRAP = """
import sys
with open({trap!r}, "a") as file:
    print(__name__, *sys.orig_argv, file=file)
raise ImportError("a file of the current folder ran")
"""
SHORT = TINY[: TINY.index("variants:")] + "stages: {train: {uses: train.supervised, with: {epochs: 1}}}\n"
SCRIPT = (
    "import sys; from compressit.__main__ import main; sys.exit(main())"  # what is installed as `compressit`
)


@pytest.fixture
def trapped(sandbox: Sandbox) -> Sandbox:
    """A sandbox whose folder holds files called like libraries; each that runs leaves `ran.txt` and fails."""
    for name in SHADOWS:
        sandbox.write(f"{name}.py", TRAP.format(trap=str(sandbox.folder / "ran.txt")))
    sandbox.write("evil.pth", f"import sys; open({str(sandbox.folder / 'ran.txt')!r}, 'a').write('pth')\n")
    return sandbox


def test_a_run_imports_nothing_of_the_current_folder(trapped: Sandbox) -> None:
    (trapped.folder / "bin").mkdir()
    script = trapped.write("bin/compressit", SCRIPT)
    trapped.write("recipe.yaml", SHORT + "report: [report.twins]\n")
    trapped.write("matplotlibrc", "text.usetex: True\nfont.size: 40\n")
    told = _run(trapped, [script, "run", "recipe.yaml", "--out", "out"])
    assert "report.twins" not in told, "a figure failed: that matplotlibrc was read"
    assert (trapped.folder / "out" / "report.html").is_file()
    assert not (trapped.folder / "ran.txt").exists(), (trapped.folder / "ran.txt").read_text()


@pytest.mark.parametrize("path", ["", ".", ":/nowhere", "/nowhere::", "sub:./"])
def test_python_path_brings_the_current_folder_into_none_of_our_processes_nor_theirs(
    trapped: Sandbox, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", path)
    theirs = [sys.executable, "-m", "site"]  # what a plugin may start
    for command in (python("site"), theirs):
        done = subprocess.run(
            command, cwd=trapped.folder, env=environment(), capture_output=True, text=True, check=True
        )
        assert str(trapped.folder) not in done.stdout
        assert ("/nowhere" in done.stdout) == ("/nowhere" in path), "an absolute entry is the user's word"


@pytest.mark.parametrize("start", [["-m", "compressit"], ["-c", SCRIPT]], ids=["module", "script"])
@pytest.mark.parametrize("path", ["", ".", "sub:"])
def test_the_command_leaves_the_current_folder_before_it_imports_anything(
    sandbox: Sandbox, start: list[str], path: str
) -> None:
    for name in ("pydantic", "typer", "yaml", "pluggy"):  # nothing of Python's own: it starts before we do
        sandbox.write(f"{name}.py", TRAP.format(trap=str(sandbox.folder / "ran.txt")))
    sandbox.write("recipe.yaml", SHORT)
    command = [sys.executable, *start, "check", "recipe.yaml"]
    done = subprocess.run(
        command, cwd=sandbox.folder, env=sandbox.environment(PYTHONPATH=path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not (sandbox.folder / "ran.txt").exists(), (sandbox.folder / "ran.txt").read_text()


def _run(sandbox: Sandbox, arguments: list[str | Path]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=sandbox.folder, env=sandbox.environment(), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr
