"""Small files order little; honest nets that take much are saved all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressit.checkpoint.header import read_header
from compressit.checkpoint.manifest import Architecture
from compressit.checkpoint.model import build, load, load_to_run, save
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.export.export import export
from compressit.host.plugins import Host

from . import forge
from .child import taken
from .layers import CONTRACT, Many
from .samples import CONV, MLP

Change = Callable[[dict[str, Any]], object]


def _set(at: str, **attrs: Any) -> Change:
    def change(entry: dict[str, Any]) -> None:
        kept = [edit for edit in entry["edits"] if edit["at"] != at]
        entry["edits"] = [*kept, {"do": "set", "at": at, "attrs": attrs}]

    return change


def _shape(*shape: int) -> Change:
    return lambda entry: entry["model"].update(input_shape=list(shape))


def _smaller_input(*shape: int) -> Change:
    return lambda entry: entry["probe"].update(input_shape=list(shape))


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        (CONV, _set("0", padding=[4000, 4000])),
        (CONV, _set("3", padding=[9000, 9000])),
        (CONV, _smaller_input(2, 2000, 2000)),
        (CONV, _shape(2**18, 8, 8)),
        (MLP, _shape(1, 4096, 4096)),
    ],
)
def test_a_small_file_that_orders_much_is_refused_at_once(
    make: Callable[..., nn.Module], host: Host, tmp_path: Path, architecture: Architecture, change: Change
) -> None:
    save(make(architecture), path := tmp_path / "net.safetensors", architecture, host=host)
    _is_refused(forge.forged(path, change), None, host)


@pytest.mark.parametrize(
    "change",
    [
        _set("larger", scale_factor=1000.0),
        _set("pad", padding=[9000, 9000, 9000, 9000]),
        _set("up", stride=[4000, 4000]),
        _set("mean", output_size=20_000),
        _set("fold", output_size=[30_000, 30_000]),
        lambda entry: entry["input"].update(shape=[3, 2300, 2300]),
    ],
)
def test_so_is_one_for_a_given_net(host: Host, tmp_path: Path, change: Change) -> None:
    save(many := Many(), path := tmp_path / "many.safetensors", contract=CONTRACT)
    _is_refused(forge.forged(path, change), many, host)


def _is_refused(path: Path, into: nn.Module | None, host: Host) -> None:
    def work() -> str:
        try:
            load(path, into, host)
        except CompressitError as error:
            return str(error)
        return "loaded"

    took = taken(work)
    assert str(path) in took.said
    assert took.memory < 200 * 10**6
    assert took.seconds < 2


class Pixels(nn.Module):
    """64 channels at every pixel, whatever the size of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()).relu().mean((2, 3))


class Sized(Pixels):
    """Takes pictures of one size only."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != 512:
            raise ValueError(f"pictures of {x.shape[-1]} pixels")
        return super().forward(x)


def test_outputs_are_recorded_for_a_smaller_picture_where_the_own_takes_too_much(tmp_path: Path) -> None:
    net, path = Pixels(), tmp_path / "net.safetensors"
    save(net, path, contract=InputSpec((3, 512, 512), "unit", None, None, ("a", "b")))
    probe = read_header(path).manifest.probe
    assert probe is not None
    assert probe.input_shape == (3, 128, 128)
    load(path, Pixels())
    other = forge.forged(path, lambda entry: entry["probe"].update(values=[9.0] * len(probe.values)))
    with pytest.raises(CompressitError, match="outputs"):
        load(other, Pixels())


def test_a_net_that_takes_no_smaller_picture_is_saved_with_a_warning(tmp_path: Path) -> None:
    net, path = Sized(), tmp_path / "net.safetensors"
    with pytest.warns(UserWarning, match="outputs are not recorded"):
        save(net, path, contract=InputSpec((3, 512, 512), "unit", None, None, ("a", "b")))
    assert read_header(path).manifest.probe is None
    assert torch.equal(load(path, Sized()).second.weight, net.second.weight)  # type: ignore[union-attr]


def test_a_net_whose_building_takes_too_much_is_saved_and_loaded_when_asked(
    host: Host, tmp_path: Path
) -> None:
    """Two tables of 88 MB, drawn by the builder, of which a trained net kept one row each."""
    wide = Architecture("tiny.drawn", {"rows": 11_000}, (4,), 2000)
    with torch.no_grad():
        net = build(wide, host)
        for name in ("one", "other"):
            setattr(net, name, nn.Parameter(getattr(net, name)[:1].clone()))
    path = tmp_path / "net.safetensors"
    with pytest.warns(UserWarning, match="limited=False"):
        save(net, path, wide, host=host)
    with pytest.raises(CompressitError, match="limited=False"):
        load(path, host=host)
    again = load(path, host=host, limited=False)
    assert torch.equal(again.one, net.one)  # type: ignore[arg-type]


@pytest.mark.parametrize("probed", [True, False])
def test_a_file_whose_own_input_takes_much_is_run_on_it_only_when_asked(
    make: Callable[..., nn.Module], host: Host, tmp_path: Path, probed: bool
) -> None:
    """Its outputs were recorded for a small input, or are not recorded."""
    small = Architecture("tiny.pooled", {}, (2, 6, 6), 16)
    save(make(small), path := tmp_path / "net.safetensors", small, host=host)

    def change(entry: dict[str, Any]) -> None:
        if probed:
            entry["probe"].update(input_shape=entry["model"]["input_shape"])
        else:
            entry["probe"] = None
        channels = entry["model"]["input_shape"][0]
        entry["model"].update(input_shape=[channels, 2000, 2000])

    big = forge.forged(path, change)
    load(big, host=host)
    for run in (lambda: load_to_run(big, host), lambda: export(big, "onnx", host=host)):
        with pytest.raises(CompressitError, match="--unlimited"):
            run()
    load_to_run(path, host)
    load_to_run(big, host, limited=False)
