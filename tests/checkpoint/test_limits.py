"""Small files order little; honest nets that take much are saved all the same."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compressit.checkpoint.header import read_header
from compressit.checkpoint.limits import Allowance, Budget
from compressit.checkpoint.manifest import Architecture
from compressit.checkpoint.model import build, load, load_to_run, save
from compressit.datasets.splits import InputSpec
from compressit.errors import CompressitError
from compressit.exporting.export import export
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


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        (CONV, _set("0", padding=[4000, 4000])),
        (CONV, _set("3", padding=[9000, 9000])),
        (CONV, lambda entry: entry["probe"].update(shapes=[[2, 2000, 2000]])),
        (CONV, lambda entry: entry["model"]["inputs"].update(shape=[2**18, 8, 8])),
        (MLP, lambda entry: entry["model"]["inputs"].update(shape=[1, 4096, 4096])),
        (None, _set("larger", scale_factor=1000.0)),
        (None, _set("pad", padding=[9000, 9000, 9000, 9000])),
        (None, _set("up", stride=[4000, 4000])),
        (None, _set("mean", output_size=20_000)),
        (None, _set("fold", output_size=[30_000, 30_000])),
        (None, lambda entry: entry["input"].update(shape=[3, 2300, 2300])),
    ],
)
def test_a_small_file_that_orders_much_is_refused_at_once(
    make: Callable[..., nn.Module],
    host: Host,
    path: Path,
    architecture: Architecture | None,
    change: Change,
) -> None:
    """Without an architecture: one for a given net."""
    into = None if architecture else Many()
    save(
        make(architecture) if architecture else Many(),
        path,
        architecture,
        None if architecture else CONTRACT,
        host,
    )
    forged = forge.forged(path, change)

    def work() -> str:
        with pytest.raises(CompressitError) as error:
            load(forged, into, host)
        return str(error.value)

    took = taken(work)
    assert str(forged) in took.said
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


def test_outputs_are_recorded_for_a_smaller_picture_where_the_own_takes_too_much(path: Path) -> None:
    net = Pixels()
    save(net, path, contract=InputSpec((3, 512, 512), "unit", None, None, ("a", "b")))
    probe = read_header(path).manifest.probe
    assert probe is not None
    assert probe.shapes == ((3, 128, 128),)
    load(path, Pixels())
    other = forge.forged(path, lambda entry: entry["probe"].update(values=[9.0] * len(probe.values)))
    with pytest.raises(CompressitError, match="outputs"):
        load(other, Pixels())


def test_a_net_that_takes_no_smaller_picture_is_saved_with_a_warning(path: Path) -> None:
    net = Sized()
    with pytest.warns(UserWarning, match="no outputs recorded"):
        save(net, path, contract=InputSpec((3, 512, 512), "unit", None, None, ("a", "b")))
    assert read_header(path).manifest.probe is None
    assert torch.equal(load(path, Sized()).second.weight, net.second.weight)  # type: ignore[union-attr]


def test_a_net_whose_building_takes_too_much_is_saved_and_loaded_when_asked(host: Host, path: Path) -> None:
    """Two tables of 88 MB, drawn by the builder, of which a trained net kept one row each."""
    wide = Architecture("tiny.drawn", {"rows": 11_000}, (4,), 2000)
    with torch.no_grad():
        net = build(wide, host)
        for name in ("one", "other"):
            setattr(net, name, nn.Parameter(getattr(net, name)[:1].clone()))
    with pytest.warns(UserWarning, match="limited=False"):
        save(net, path, wide, host=host)
    with pytest.raises(CompressitError, match="limited=False"):
        load(path, host=host)
    again = load(path, host=host, limited=False)
    assert torch.equal(again.one, net.one)  # type: ignore[arg-type]


@pytest.mark.parametrize("probed", [True, False])
def test_a_file_whose_own_input_takes_much_is_run_on_it_only_when_asked(
    make: Callable[..., nn.Module], host: Host, path: Path, probed: bool
) -> None:
    """Its outputs were recorded for a small input, or are not recorded."""
    small = Architecture("tiny.pooled", {}, (2, 6, 6), 16)
    save(make(small), path, small, host=host)

    def change(entry: dict[str, Any]) -> None:
        if probed:
            entry["probe"].update(shapes=[entry["model"]["inputs"]["shape"]])
        else:
            entry["probe"] = None
        channels = entry["model"]["inputs"]["shape"][0]
        entry["model"]["inputs"].update(shape=[channels, 2000, 2000])

    big = forge.forged(path, change)
    load(big, host=host)
    for run in (lambda: load_to_run(big, host), lambda: export(big, "onnx", host=host)):
        with pytest.raises(CompressitError, match="--unlimited"):
            run()
    load_to_run(path, host)
    load_to_run(big, host, limited=False)


def test_what_is_ordered_while_building_is_counted_in_bytes_of_its_type() -> None:
    allowed = Allowance.building(1000, 1)
    with Budget(allowed):
        torch.empty(2**25, dtype=torch.int8)
        torch.empty(2**24)
    with (
        pytest.raises(CompressitError, match=r"would need at least 0\.\d+ GB, .* 0\.001 MB with 1 tensors"),
        Budget(allowed),
    ):
        torch.empty(2**24).new_empty(2**26, dtype=torch.float64)
    with pytest.raises(CompressitError, match="would need"), Budget(allowed):
        torch.zeros(1, dtype=torch.float64).new_empty(2**25 + 1)


LARGE = {
    "a product": lambda: torch.zeros(8000, 1) @ torch.zeros(1, 8000),
    "a broadcast": lambda: torch.zeros(8000, 1) + torch.zeros(8000),
    "larger pixels": lambda: functional.interpolate(torch.zeros(1, 3, 64, 64), scale_factor=64.0),
    "padding": lambda: functional.pad(torch.zeros(1, 1, 8, 8), [8000, 0, 8000, 0]),
    "a convolution": lambda: functional.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 1, 1), padding=4000),
    "its columns": lambda: functional.conv2d(
        torch.zeros(1, 64, 128, 128, dtype=torch.float64), torch.zeros(1, 64, 7, 7, dtype=torch.float64), padding=3
    ),
    "transposed": lambda: functional.conv_transpose2d(
        torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 1, 1), stride=128
    ),
    "many draws": lambda: torch.rand(2**26, generator=torch.Generator()),
    "a range": lambda: torch.arange(2**26),
    "growing": lambda: torch.zeros(4).resize_(2**26),
    "an output": lambda: torch.add(torch.zeros(8000, 1), torch.zeros(8000), out=torch.zeros(1)),
    "filling": lambda: torch.empty(2**26).fill_(1),
    "many at once": lambda: [torch.ones(2**20) for _ in range(50)],
    "one-hot codes": lambda: functional.one_hot(torch.tensor([2**26])),
    "a deep product": lambda: torch.ones(4000, 4000) @ torch.ones(4000, 4000) @ torch.ones(4000, 4000),
}  # fmt: skip


@pytest.mark.parametrize("call", LARGE.values(), ids=LARGE.keys())
def test_what_would_take_much_is_refused_before_it_is_made(call: Callable[[], object]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CompressitError, match="would need"), Budget(Allowance.running(1000)):
        call()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_what_is_gone_counts_no_longer_and_what_nothing_was_written_to_never() -> None:
    with Budget(Allowance.running(1000)):
        for _ in range(20):
            torch.zeros(2**24).add_(1)
        torch.empty(2**30)
        with pytest.raises(CompressitError, match="would need"):
            _ = [torch.zeros(2**24) for _ in range(20)]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_neither_small_calls_nor_trials_without_memory_are_a_way_to_take_time_without_end(
    device: str,
) -> None:
    x = torch.empty(2, device=device)
    with pytest.raises(CompressitError, match="MACs"), Budget(Allowance.running(1000, share=1e-3)):
        _ = [x.add(1) for _ in range(10**4)]


def test_what_memory_is_reused_for_is_counted_as_what_it_is() -> None:
    """In-place calls, views and copies to no memory make nothing; the first to write to new memory makes it live."""
    x = torch.zeros(4)
    with Budget(Allowance.running(1000)):
        for _ in range(50):
            x.add_(1).view(2, 2).t()
            torch.empty(2**24).to("meta")
        kept = torch.empty(2**25)
        with pytest.raises(CompressitError, match="would need"):
            kept.zero_()


def test_compiled_calls_are_counted_as_they_were_written() -> None:
    """Compiling them would compile the counting as well."""
    compiled: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        compiled.append(graph)
        return graph.forward

    layer = torch.compile(
        torch.nn.Linear(8000, 8000, bias=False, device="meta").to_empty(device="cpu"), backend=backend
    )
    with torch.no_grad(), Budget(Allowance.running(1000)):
        layer(torch.zeros(1, 8000))
    with torch.no_grad(), pytest.raises(CompressitError, match="would need"), Budget(Allowance.running(1000)):
        layer(torch.zeros(8000, 8000))
    assert not compiled
