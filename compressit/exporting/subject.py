"""The checkpoint to export, and the comparison that every export must pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from compressit.checkpoint.header import Header, read_header
from compressit.checkpoint.manifest import Builder, Probe
from compressit.checkpoint.model import load_to_run
from compressit.checkpoint.probe import measure, outputs
from compressit.datasets.batched import InputTensors, each_tensor
from compressit.datasets.specs import Inputs
from compressit.errors import CompressitError
from compressit.host.plugins import Host

BATCHES = (2, 1, 5)  # batch sizes for testing an exported model; the first is used for tracing


@dataclass(frozen=True)
class Subject:
    """A checkpoint and its model, in eval mode on the CPU, with outputs verified against the recorded ones."""

    path: Path
    header: Header
    builder: Builder
    model: nn.Module
    probe: Probe
    inputs: Inputs
    x: InputTensors  # the probe's input, a batch of two

    def check(self, exported: Callable[[InputTensors], Sequence[Tensor]], what: str) -> None:
        """Raises CompressitError unless `exported` gives all outputs of the model, for several batch sizes."""
        for size in BATCHES:
            x = each_tensor(self.x, partial(_repeated, size))
            wanted, got = outputs(self.model, x), exported(x)
            shapes, found = ([tuple(t.shape) for t in tensors] for tensors in (wanted, got))
            if found != shapes:
                raise CompressitError(
                    f"{what}, run on a batch of {size}, gives outputs of shapes {found}, not {shapes}"
                )
            for one, other in zip(wanted, got, strict=True):
                one, other = one.double(), other.double()
                largest = one[one.isfinite()].abs().max().item() if one.isfinite().any() else 0.0
                limit = self.probe.tolerance * max(largest, 1e-4)
                if not torch.isclose(other, one, rtol=0.0, atol=limit, equal_nan=True).all():
                    worst = (one - other).abs().nan_to_num(torch.inf).max().item()
                    raise CompressitError(
                        f"{what}, run on a batch of {size}, is off by up to {worst:.3g}, "
                        f"where {limit:.3g} is allowed"
                    )


def _repeated(size: int, x: Tensor) -> Tensor:
    """The two examples as a batch of `size`."""
    return torch.cat([x, x.flip(0), x])[:size]


def opened(path: Path, host: Host | None = None, limited: bool = True) -> Subject:
    """Loads the checkpoint and checks it against its probe. `limited`: as in `load_to_run`.

    Raises CompressitError like `load_to_run`, and for a file without a registered builder.
    """
    header = read_header(path)
    builder, inputs = header.manifest.model, header.manifest.inputs
    if builder is None or inputs is None:
        raise CompressitError(
            f"{path} was saved without a registered model, so compressit cannot build its network",
            "save it again with uses=, or register its class with @compressit.model",
        )
    model = load_to_run(path, host, limited)
    probe, x, _ = measure(model, inputs)
    return Subject(path, header, builder, model, probe, inputs, x)
