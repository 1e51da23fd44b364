"""One row for each way in which a file can be wrong: refused in words, by its name, before anything runs."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny import PLUGINS

from compressit.checkpoint.header import read_header
from compressit.checkpoint.model import load
from compressit.errors import CompressitError
from compressit.host.plugins import Host

from . import forge
from .child import taken
from .watch import watched


@dataclass(frozen=True)
class Wrong:
    """A way to spoil a file, what is said of it, and what the help says."""

    case: str
    spoil: Callable[[Path], object]
    message: str
    hint: str = ""
    bare: bool = False  # loaded by a host without any plugin


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _entry(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    return lambda path: forge.forged(path, change).replace(path)


def _edits(*edits: dict[str, Any]) -> Callable[[Path], object]:
    return _entry(lambda entry: entry.update(edits=list(edits)))


def _set(**attrs: Any) -> dict[str, Any]:
    return {"do": "set", "at": "1", "attrs": attrs}


def _replaced(**args: Any) -> dict[str, Any]:
    return {"do": "replace", "at": "1", "type": "tiny.LowRank", "args": args}


def _huge_header(path: Path) -> None:
    header = b'{"__metadata__":{"compressit":"' + b"a" * 100_000_000 + b'"}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header)


_SPEC = {"shape": [8], "dtype": "float32", "low": 0.0, "high": 1.0}
_INPUT = {
    "inputs": _SPEC,
    "scale": "unit",
    "mean": None,
    "std": None,
    "class_names": ["a"],
}

WRONG = [
    Wrong("truncated", _bytes(lambda b: b[:-5]), "truncated:"),
    Wrong("truncated header", _bytes(lambda b: b[:100]), "truncated:"),
    Wrong("changed tensor", _bytes(lambda b: b[:-1] + bytes([b[-1] ^ 1])), "its tensors were changed", "get the file"),
    Wrong("changed header", _bytes(lambda b: b.replace(b"tiny.mlp", b"tiny.mlq")), "its metadata was changed",
          "get the file"),
    Wrong("appended pickle", _bytes(lambda b: b + b"\x80\x02."), "3 unexpected bytes after the last tensor"),
    Wrong("missing local file", lambda _: None, "comes from 'tiny_plugins.py'",
          "if you have that code and trust it, name its file: `--plugin FILE`", bare=True),
    Wrong("missing module", _entry(lambda e: e["model"].update(name="my.net", owner="deep.nets")),
          "comes from 'deep.nets'", "in Python, import that module first"),
    Wrong("missing package", _entry(lambda e: e["model"].update(name="nice.net", owner="nice-nets 1.2")),
          "comes from 'nice-nets 1.2'", "if you know and trust that package"),
    Wrong("missing module type", _edits({"do": "replace", "at": "1", "type": "tiny.LowRang", "args": {}}),
          "module type 'tiny.LowRang' is not installed", "did you mean 'tiny.LowRank'"),
    Wrong("edit of no layer", _edits({"do": "set", "at": "9.9", "attrs": {}}), "edit does not fit the model at 9.9"),
    Wrong("edit of another type", _edits(_set(in_features="os.system")), "is 16 and cannot become 'os.system'"),
    Wrong("private attribute", _edits(_set(_parameters=None)), "'_parameters' is not a public attribute"),
    Wrong("probe beyond tolerance", _entry(lambda e: e["probe"]["values"].__setitem__(0, 99.0)), "off by up to",
          "probe=False"),
    Wrong("probe of a forged type", _entry(lambda e: e["probe"].update(dtype="load")), "unknown dtype 'load'"),
    Wrong("huge network", _entry(lambda e: e["model"].update(config={"hidden": [2**30]})), "its network would need",
          "exhaust"),
    Wrong("many layers", _entry(lambda e: e["model"].update(config={"hidden": [1] * 50_000})), "at least .* tensors"),
    Wrong("huge classes", _entry(lambda e: e["model"].update(outputs=2**40)), "its network would need"),
    Wrong("huge replacement", _edits(_replaced(inputs=16, rank=2**30, outputs=12)), "its network would need"),
    Wrong("huge input", _entry(lambda e: e["model"]["inputs"].update(shape=[2**40])), "at most 16777216"),
    Wrong("advice for a scale",
          _entry(lambda e: e.update(input={**_INPUT, "scale": "unit` and run `pip install trojan"})),
          "input.scale"),
    Wrong("huge recorded input",
          _entry(lambda e: e.update(input={**_INPUT, "inputs": {**_SPEC, "shape": [2**25]}})), "at most 16777216"),
    Wrong("impossible shape", _entry(lambda e: e["model"]["inputs"].update(shape=[0, 2**62, 2**62])),
          "at most 16777216"),
    Wrong("replacement by anything", _edits({"do": "replace", "at": "1", "type": "subprocess.Popen", "args": {}}),
          "'subprocess.Popen' is not installed"),
    Wrong("replacement with odd arguments", _edits(_replaced(evil=1)), "cannot build 1"),
    Wrong("replacement with other tensors", _edits(_replaced(inputs=16, rank=2, outputs=12)), "no tensor '1.bias'"),
    Wrong("long name", _edits({"do": "set", "at": "1." * 100_000, "attrs": {}}), "there is no such layer"),
    Wrong("100 MB of metadata", _huge_header, "its header claims 1000000"),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.case)
def test_a_wrong_file_is_refused_in_words_and_runs_nothing(saved: Path, host: Host, wrong: Wrong) -> None:
    load(saved, host=host)
    wrong.spoil(saved)
    with watched() as events, pytest.raises(CompressitError, match=wrong.message) as refusal:
        load(saved, host=Host(entry_points=False) if wrong.bare else host)
    assert events == []
    assert refusal.value.message.startswith(f"{saved}: ")
    assert wrong.hint in (refusal.value.hint or "")
    assert len(str(refusal.value)) < 2500


@pytest.mark.parametrize(
    "dtype", ["qint8", "bits8", "uint1", "int7", "float8_e4m3fn", "complex64", "__name__"]
)
def test_probes_are_of_types_that_networks_take(saved: Path, host: Host, dtype: str) -> None:
    with pytest.raises(CompressitError, match=f"the recorded probe has the unknown dtype '{dtype}'"):
        load(forge.forged(saved, lambda entry: entry["probe"].update(dtype=dtype)), host=host)


def test_what_runs_or_hangs_is_noticed(tmp_path: Path) -> None:
    with watched() as events:
        exec("1")  # what the refusals above must not do
        (tmp_path / "x").open("w").close()
    assert [event.split()[0] for event in events][-2:] == ["exec", "open"]
    with pytest.raises(AssertionError, match="does not end"), watched(0.05):
        _never_ends()


def _never_ends() -> None:
    while True:
        pass


def test_a_header_takes_memory_in_proportion_to_the_file(saved: Path) -> None:
    """However it claims otherwise: a length without bytes costs nothing, and bytes at most some 30 times theirs."""
    saved_again = saved.with_name("again.safetensors")
    saved_again.write_bytes(saved.read_bytes())
    saved.write_bytes(struct.pack("<Q", 2**23) + b"[")
    assert _peak_of_reading(saved) < 100_000
    with saved.open("wb") as file:  # 100 MB that are there, without filling the disk
        file.write(struct.pack("<Q", 100_000_000))
        file.truncate(110_000_000)
    assert _peak_of_reading(saved) < 100_000
    for filling in (b"[],", b"{},", b'"a",', b"1.5,"):
        header = b'{"a":[' + filling * 40_000 + b"0]}"
        saved.write_bytes(struct.pack("<Q", len(header)) + header)
        assert _peak_of_reading(saved) < 30 * len(header)
    table, entry, data = forge.parts(saved_again)
    entry["lineage"] = [{}] * 100_000
    forge.write(saved, table, {**entry, "parameters": -1}, data)  # it is read to its end and then refused
    assert _peak_of_reading(saved) < 35 * saved.stat().st_size


@pytest.mark.parametrize("count", [10**6, 3 * 10**6])
def test_so_does_a_description_of_which_all_is_wrong(saved: Path, count: int) -> None:
    """Pydantic keeps a kilobyte for each error, which Python does not trace."""
    forged = forge.forged(saved, lambda entry: entry.update(lineage=[1] * count))

    def work() -> str:
        with pytest.raises(CompressitError, match=r"malformed|more than \d+ values"):
            read_header(forged)
        return "refused"

    assert taken(work).memory < 10 * forged.stat().st_size + 200 * 10**6


def _peak_of_reading(path: Path) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(CompressitError):
            read_header(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_loading_needs_no_compiler(saved: Path) -> None:
    """Whose import takes a second."""
    code = (
        "import sys; from pathlib import Path; import torch\n"
        "from compressit.checkpoint.model import load; from compressit.host.plugins import Host\n"
        "host = Host(entry_points=False); host.load_file(Path(sys.argv[1]))\n"
        "load(Path(sys.argv[2]), host=host); sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, PLUGINS, saved], check=False).returncode == 0


def test_loading_orders_no_memory_that_the_file_does_not_explain(saved: Path, host: Host) -> None:
    """Nor in many small pieces: 3.6 GB of layers of 36 MB each, of which 256 MB are free to any file."""
    forged = forge.forged(saved, lambda entry: entry["model"].update(config={"hidden": [3000] * 100}))

    def work() -> str:
        with pytest.raises(CompressitError, match="would need"):
            load(forged, host=host)
        return "refused"

    assert taken(work).memory < 400 * 10**6
