"""Measures for about a second how long a training step takes on this machine, for the estimate before a run.

A large net is measured with small batches; the time for larger ones is extrapolated. Where little is to be done, little
is measured.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.contract import measure
from compressit.contract.compute import Compute
from compressit.contract.kinds import Model
from compressit.datasets.batched import call, each_tensor, random_inputs
from compressit.datasets.specs import Inputs, from_json
from compressit.host.plugins import Host

WIDTHS = (1.0, 0.4, 0.1)
WORK = {"cpu": 10**10, "cuda": 10**12}
"""MACs per call, a fraction of a second: a whole batch for a small net, a few images for a large one."""
FEWEST, MOST = 4, 1024
"""Minimum images per call, and maximum per forward pass."""
TIMED = 10
"""Of this many steps that are to be done, one is timed: measuring must not take longer than the work."""
TOO_LONG = 2.0
"""If the first call takes longer than this many seconds, there is no second one."""


def calibrate(request: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """`request`: {"uses", "config", "inputs", "outputs", "work", "seconds", "compute"}; the work is that of each job.

    Returns {"steps": [[batch_size, width, seconds], ...], "forward": seconds per image}: SGD steps of the
    model at a few relative widths (only 1.0 if the model has no narrower form) on random inputs.
    """
    inputs, outputs = from_json(request["inputs"]), request["outputs"]
    compute = Compute.select(**request["compute"])
    nets = [(width, net.to(compute.device)) for width, net in _nets(request, inputs, outputs, host)]
    ahead = Counter[int]()  # steps of each batch size
    for work in request["work"]:
        ahead[int(work["batch_size"])] += int(work["steps"])
    share = request["seconds"] / (len(nets) * len(ahead) + 1)
    steps: list[list[float]] = []
    for width, net in nets:
        most = _images(net, inputs, compute, passes=3)
        for batch in sorted(ahead):
            images = min(batch, most)
            taken = seconds_of(_step(net, inputs, outputs, images, compute), share, ahead[batch] // TIMED)
            steps.append([batch, width, taken * batch / images])
    whole = nets[0][1]
    images = min(MOST, _images(whole, inputs, compute, passes=1))
    calls = sum(int(work["forwards"]) for work in request["work"]) // (TIMED * images)
    return {
        "steps": steps,
        "forward": seconds_of(_forward(whole, inputs, images, compute), share, calls) / images,
    }


def seconds_of(call: Callable[[], object], budget: float, most: int) -> float:
    """Seconds per call, averaged over `budget` seconds or `most` calls, at least one. The first call warms up and only
    counts if it takes longer than TOO_LONG."""
    first = _seconds(call)
    if first > TOO_LONG:
        return first
    taken = [_seconds(call)]
    while sum(taken) < budget and len(taken) < most:
        taken.append(_seconds(call))
    return sum(taken) / len(taken)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _images(net: nn.Module, inputs: Inputs, compute: Compute, passes: int) -> int:
    """How many images amount to WORK at this many passes per image; a backward pass counts as two."""
    return max(FEWEST, WORK[compute.device] // (passes * max(1, measure.macs(net, inputs))))


def _nets(
    request: Mapping[str, Any], inputs: Inputs, outputs: int, host: Host
) -> Iterator[tuple[float, nn.Module]]:
    for width in WIDTHS:
        config = request["config"]
        if width < 1:
            narrower = host.create(Model, request["uses"], config).with_width(width)
            if narrower is None:
                return
            config = narrower.model_dump(mode="json")
        yield width, checkpoint.build(checkpoint.Architecture(request["uses"], config, inputs, outputs), host)


def _step(net: nn.Module, inputs: Inputs, outputs: int, batch: int, compute: Compute) -> Callable[[], None]:
    """A step as in `fit`, including gathering the batch, which takes a quarter of a narrow net's time."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)
    x = each_tensor(random_inputs(inputs, 4 * batch), lambda tensor: tensor.to(compute.device))
    y = torch.randint(outputs, (4 * batch,), device=compute.device)
    index = torch.randperm(4 * batch, device=compute.device)[:batch]

    def step() -> None:
        optimizer.zero_grad()
        with compute.autocast():
            given = each_tensor(x, lambda tensor: tensor.index_select(0, index))
            loss = nn.functional.cross_entropy(call(net, given), y.index_select(0, index))
        loss.backward()
        optimizer.step()
        _wait(compute)

    return step


def _forward(net: nn.Module, inputs: Inputs, images: int, compute: Compute) -> Callable[[], None]:
    x = each_tensor(random_inputs(inputs, images), lambda tensor: tensor.to(compute.device))

    def forward() -> None:
        with torch.inference_mode(), compute.autocast():
            call(net, x)
        _wait(compute)

    return forward


def _wait(compute: Compute) -> None:
    if compute.device == "cuda":
        torch.cuda.synchronize()
