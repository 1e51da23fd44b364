from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compressit.checkpoint.model import load
from compressit.checkpoint.probe import probe_input
from compressit.errors import CompressitError
from compressit.exporting import torch_export
from compressit.exporting.export import export
from compressit.exporting.subject import opened
from compressit.host.plugins import Host

from .conftest import CONV, HEADS, TIED, TINY

Saved = Callable[..., Path]


@pytest.mark.parametrize("architecture", [CONV, TIED], ids=lambda a: a.name)
def test_the_program_computes_the_models_outputs(
    architecture: object, saved: Saved, host: Host, tmp_path: Path
) -> None:
    path = saved(architecture)
    out = export(path, "torch-export", tmp_path / "deep" / "net.pt2", host=host)
    model, program = load(path, host=host), torch.export.load(out).module()
    x = opened(path, host).x
    with torch.no_grad():
        for batch in (x[:1], torch.cat([x, x.flip(0), x, x[:1]])):
            assert torch.allclose(program(batch), model(batch), rtol=1e-5, atol=1e-6)
    assert [file.name for file in out.parent.iterdir()] == ["net.pt2"]
    content = out.read_bytes()
    for path_or_source in (str(TINY.parent), "site-packages", "test_torch_export", "self.head(self.embed"):
        assert path_or_source.encode() not in content
    assert not [name for name, text in _entries(content) if _is_pickle(text)]


def test_what_counts_as_pickle_is_found(tmp_path: Path) -> None:
    """What torch writes unless it is told not to: the example inputs."""
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(2, 2),))
    archive = io.BytesIO()
    torch.export.save(program, archive)
    found = [name for name, text in _entries(archive.getvalue()) if _is_pickle(text)]
    assert [name.rpartition("/")[2] for name in found] == ["model.pt"]


def test_a_net_that_fixes_its_batch_is_refused_and_nothing_is_written(saved: Saved, host: Host) -> None:
    path = saved(HEADS)
    with pytest.raises(CompressitError, match=r"net\.safetensors: torch\.export cannot trace") as caught:
        export(path, "torch-export", host=host)
    assert "len(x)" in str(caught.value.hint)
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


def test_what_computes_something_else_is_not_published(
    saved: Saved, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(CONV)
    target = path.with_suffix(".pt2")
    target.write_text("the one before")
    trace = torch_export.trace

    def wrong(model: nn.Module, x: Any) -> torch.export.ExportedProgram:
        program = trace(model, x)
        program.state_dict["0.bias"] = torch.nn.Parameter(program.state_dict["0.bias"] + 0.5)
        return program

    monkeypatch.setattr(torch_export, "trace", wrong)
    with pytest.raises(CompressitError, match="the exported program, run on a batch of 2, is off by up to"):
        export(path, "torch-export", host=host)
    assert target.read_text() == "the one before"


def test_the_comparison_sees_every_output_and_value(saved: Saved, host: Host) -> None:
    subject = opened(saved(CONV), host)
    model, x = subject.model, probe_input(CONV.inputs)
    assert torch.equal(subject.x, x)
    with torch.no_grad():
        subject.check(lambda x: [model(x)], "it")
        scale = float(model(x).abs().max())
        subject.check(lambda x: [model(x) + 0.0009 * scale * 0.1], "it")
        for wrong, message in {
            lambda x: [
                model(x),
                model(x),
            ]: r"it, run on a batch of 2, gives outputs of shapes \[\(2, 3\), \(2, 3\)\], not \[\(2, 3\)\]",
            lambda x: [model(x)[:, :2]]: r"gives outputs of shapes \[\(2, 2\)\], not \[\(2, 3\)\]",
            lambda x: [model(x) + 0.01 * scale]: "is off by up to",
            lambda x: [model(x) * float("nan")]: "is off by up to inf",
            lambda x: [model(x) + 0.1 * scale * (len(x) == 5)]: "run on a batch of 5, is off by up to",
        }.items():
            with pytest.raises(CompressitError, match=message):
                subject.check(wrong, "it")


def _entries(content: bytes) -> list[tuple[str, bytes]]:
    """Every entry of a zip archive, and of the archives in it."""
    found: list[tuple[str, bytes]] = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            text = archive.read(name)
            nested = text.startswith(b"PK\3\4")
            found += [(name, inner) for _, inner in _entries(text)] if nested else [(name, text)]
    return found


def _is_pickle(content: bytes) -> bool:
    try:
        operations = list(pickletools.genops(content))
    except Exception:  # noqa: BLE001 - it raises whatever it likes for bytes that are none
        return False
    return operations[0][0].name == "PROTO"
