"""Files that merely lie in the current folder are not code of ours: they never run, and break nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compressit.processes.python import environment, python

from .conftest import Ran
from .recipes import TINY
from .sandbox import PATIENCE, Sandbox, contents

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
    trapped.write("recipe.yaml", SHORT)
    _run(trapped, [script, "run", "recipe.yaml", "--out", "out"])
    assert (trapped.folder / "out" / "report.html").is_file()
    assert not (trapped.folder / "ran.txt").exists(), (trapped.folder / "ran.txt").read_text()


def test_figures_are_drawn_alike_whatever_lies_in_the_current_folder(sandbox: Sandbox, tiny: Ran) -> None:
    out = sandbox.folder / "out"
    out.mkdir()
    (out / "results.json").write_bytes((tiny.out / "results.json").read_bytes())
    for folder in (sandbox.folder, out):
        (folder / "matplotlibrc").write_text("font.size: 40\nsavefig.facecolor: red\n")
    sandbox.fresh("report", "out")
    drawn, before = contents(out / "figures"), contents(tiny.out / "figures")
    assert drawn
    assert drawn == before


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


def _run(sandbox: Sandbox, arguments: list[str | Path]) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=sandbox.folder, env=sandbox.environment(), capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
