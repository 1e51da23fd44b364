"""Runs that several tests look at: made once, also when several processes share the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from .recipes import LONG, TINY
from .sandbox import Done, Sandbox


@dataclass(frozen=True)
class Ran:
    """A finished run: read it, change nothing."""

    sandbox: Sandbox
    out: Path
    said: Done  # what the first run said


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """An empty one."""
    return Sandbox(tmp_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`TINY`, run with `--jobs 1`."""
    return _once(tmp_path_factory, "tiny", TINY, fresh=True)


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """`LONG`, never interrupted."""
    return _once(tmp_path_factory, "long", LONG, fresh=False)


def _once(factory: pytest.TempPathFactory, name: str, recipe: str, fresh: bool) -> Ran:
    base = factory.getbasetemp()
    base = base.parent if base.name.startswith("popen-") else base  # shared by the processes of pytest-xdist
    sandbox = Sandbox(base / f"cli-{name}")
    said = sandbox.folder / "said.txt"
    with FileLock(base / f"cli-{name}.lock"):
        if not said.exists():
            sandbox.folder.mkdir()
            sandbox.write("recipe.yaml", recipe)
            done = (sandbox.fresh if fresh else sandbox.run)("run", "recipe.yaml", "--out", "out")
            said.write_text(f"{done.out}\0{done.err}", encoding="utf-8")
    out, err = said.read_text(encoding="utf-8").split("\0")
    return Ran(sandbox, sandbox.folder / "out", Done(0, out, err))


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Ran], Sandbox]:
    """A sandbox of one's own with the recipe and the history of a run, but none of its results."""

    def copy(ran: Ran) -> Sandbox:
        sandbox = Sandbox(tmp_path)
        sandbox.write("recipe.yaml", (ran.sandbox.folder / "recipe.yaml").read_text(encoding="utf-8"))
        sandbox.store.mkdir()
        history = ran.sandbox.store / "history.json"  # so that nothing needs to be measured first
        (sandbox.store / "history.json").write_bytes(history.read_bytes())
        return sandbox

    return copy
