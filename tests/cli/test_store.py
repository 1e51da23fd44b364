"""`compressit store`, `gc` and `verify` on the store of a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Ran
from .sandbox import Sandbox, contents


@pytest.fixture
def kept(tiny: Ran, sandbox: Sandbox) -> Sandbox:
    """A copy of a run's folder and store, which know each other."""
    from compressit.store.objects import Store

    shutil.copytree(tiny.sandbox.store, sandbox.store)
    shutil.rmtree(sandbox.store / "runs")
    shutil.copytree(tiny.out, sandbox.folder / "out")
    keys = [path.name for path in (sandbox.store / "objects").glob("*/*")]
    Store(sandbox.store).note(sandbox.folder / "out", keys)
    return sandbox


def test_a_run_makes_its_folder_known(tiny: Ran) -> None:
    before = contents(tiny.sandbox.store)
    facts = json.loads(tiny.sandbox.light("store", "--json").out)
    assert [run["folder"] for run in facts["runs"]] == [str(tiny.out.resolve())]
    assert all(e["runs"] == [str(tiny.out.resolve())] for e in facts["entries"] if e["kind"] == "result")
    assert {e["kind"] for e in facts["entries"]} == {"result", "run"}
    said = tiny.sandbox.light("store").out
    results = sum(entry["kind"] == "result" for entry in facts["entries"])
    assert f"{results} results" in said
    assert str(tiny.out.resolve()) in said
    assert "nothing to remove" in tiny.sandbox.light("store", "gc").out
    assert contents(tiny.sandbox.store) == before, "who only looks changes nothing"


def test_gc_lists_and_only_with_yes_removes(kept: Sandbox) -> None:
    assert "nothing to remove" in kept.light("store", "gc", "--yes").out
    shutil.rmtree(kept.folder / "out")
    before = contents(kept.store)
    said = kept.light("store", "gc").out
    assert "no run folder uses it" in said
    assert "--yes" in said
    assert contents(kept.store) == before
    kept.light("store", "gc", "--yes")
    assert set(contents(kept.store)) == {"history.json"}
    assert json.loads(kept.light("store", "gc", "--json").out) == []


def _damage(store: Path) -> str:
    file = sorted((store / "objects").glob("*/*/model.safetensors"))[0]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    return file.parent.name


def test_verify_names_what_is_damaged_and_it_is_made_anew(kept: Sandbox) -> None:
    assert "as written" in kept.light("store", "verify").out
    key = _damage(kept.store)
    assert key in kept.light("store", "verify", code=1).out
    found = json.loads(kept.light("store", "verify", "--json", code=1).out)
    assert [(entry["key"], entry["removed"]) for entry in found] == [(key, False)]
    assert key in kept.light("store", "verify", "--remove").out
    assert "as written" in kept.light("store", "verify").out
    assert key not in {path.name for path in (kept.store / "objects").glob("*/*")}


def test_gc_says_that_a_note_is_damaged_and_removes_no_results(kept: Sandbox) -> None:
    note = next((kept.store / "runs").iterdir())
    note.write_text("{}")
    shutil.rmtree(kept.folder / "out")
    done = kept.light("store", "gc", "--yes")
    assert note.name in done.err
    assert len(list((kept.store / "objects").glob("*/*"))) > 5
    kept.light("store", "verify", "--remove")
    kept.light("store", "gc", "--yes")
    assert list((kept.store / "objects").glob("*/*")) == []


@pytest.mark.parametrize("arguments", [("store", "--store", "nowhere"), ("store", "gc", "--store", "nowhere"),
                                       ("store", "--json", "gc")])  # fmt: skip
def test_mistakes_are_told(sandbox: Sandbox, arguments: tuple[str, ...]) -> None:
    sandbox.light(*arguments, code=2)
    assert not (sandbox.folder / "nowhere").exists()


def test_a_complete_store_that_nobody_may_write_serves_a_run(
    tiny: Ran, copy_of: Callable[[Ran], Sandbox]
) -> None:
    """Without the right to write nothing is written; as root, who may, at least nothing changes."""
    sandbox = copy_of(tiny)
    shutil.rmtree(sandbox.store)
    shutil.copytree(tiny.sandbox.store, sandbox.store)
    shutil.rmtree(sandbox.store / "runs")
    (sandbox.store / "runs").touch()  # no folder can be made there, whoever tries
    for path in [sandbox.store, *sandbox.store.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = contents(sandbox.store)
    try:
        sandbox.run("run", "recipe.yaml", "--out", "out")
        assert contents(sandbox.store) == before
        assert (sandbox.folder / "out" / "results.csv").read_bytes() == (
            tiny.out / "results.csv"
        ).read_bytes()
    finally:
        for path in [sandbox.store, *sandbox.store.rglob("*")]:
            path.chmod(0o755)
