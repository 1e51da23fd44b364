"""About two seconds of measuring, for the estimate before a run: what a training step costs on this machine.

A large net is measured with a few images at a time, and what more of them cost is worked out from that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.contract import measure
from compressit.contract.compute import Compute
from compressit.contract.kinds import Model
from compressit.host.plugins import Host

WIDTHS = (1.0, 0.4, 0.1)
WORK = 10**10
"""MACs of a first call, a fraction of a second on any machine: a small net's whole batch."""
FEWEST, MOST = 4, 1024
"""Images of a first call at least, and of a forward pass at most."""
LONG, TOO_LONG = 0.5, 2.0
"""Seconds of a call: no more images than it has with the one, no second call after a first of the other."""


def calibrate(request: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """`request`: {"uses", "config", "input_shape", "classes", "batch_sizes", "seconds", "compute"}.

    Returns {"steps": [[batch_size, width, seconds], ...], "forward": seconds per image}: SGD steps of the
    model at a few relative widths (only 1.0 where the model has no narrower form) on random inputs.
    """
    shape, classes = tuple(request["input_shape"]), request["classes"]
    compute = Compute.select(**request["compute"])
    models = [(width, net.to(compute.device)) for width, net in _models(request, shape, classes, host)]
    share = request["seconds"] / (len(models) * len(request["batch_sizes"]) + 1)
    steps: list[list[float]] = []
    for width, net in models:
        few, stepping = _few(net, shape, passes=3), _stepping(net, shape, classes, compute)
        steps += [[b, width, seconds_of(stepping, b, few, share)] for b in request["batch_sizes"]]
    whole = models[0][1]
    few, forwarding = _few(whole, shape, passes=1), _forwarding(whole, shape, compute)
    forward = seconds_of(forwarding, MOST, few, share) / MOST
    return {"steps": steps, "forward": forward}


def seconds_of(prepare: Callable[[int], Callable[[], object]], images: int, few: int, budget: float) -> float:
    """How long `prepare(images)()` takes, measured for about `budget` seconds after a first call with `few` images.

    Their number is doubled while a call remains shorter than LONG; times of fewer images than asked for are scaled in
    proportion. The first call of each number warms up: it counts only where it was TOO_LONG for a second.
    """
    count = min(few, images)
    call = prepare(count)
    taken = [_seconds(call)]
    ends = time.perf_counter() + budget
    while (quickest := min(taken)) < TOO_LONG:
        if count < images and 2 * quickest < LONG:
            count, taken = min(2 * count, images), []
            call = prepare(count)
        elif len(taken) > 1 and time.perf_counter() + quickest > ends:
            break
        taken.append(_seconds(call))
    counted = taken[1:] or taken
    return sum(counted) / len(counted) * images / count


def _few(net: nn.Module, shape: tuple[int, ...], passes: int) -> int:
    """How many images make WORK, passed through the net that often: backward is two of them."""
    return max(FEWEST, WORK // (passes * max(1, measure.macs(net, shape))))


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _models(
    request: Mapping[str, Any], shape: tuple[int, ...], classes: int, host: Host
) -> Iterator[tuple[float, nn.Module]]:
    for width in WIDTHS:
        config = request["config"]
        if width < 1:
            narrower = host.create(Model, request["uses"], config).with_width(width)
            if narrower is None:
                return
            config = narrower.model_dump(mode="json")
        yield width, checkpoint.build(checkpoint.Architecture(request["uses"], config, shape, classes), host)


def _stepping(
    net: nn.Module, shape: tuple[int, ...], classes: int, compute: Compute
) -> Callable[[int], Callable[[], None]]:
    """Steps as `fit` takes them, which gathers its batch from all images: of a narrow net, a quarter of its time."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)

    def prepare(batch: int) -> Callable[[], None]:
        x = torch.randn(4 * batch, *shape, device=compute.device)
        y = torch.randint(classes, (len(x),), device=compute.device)
        index = torch.randperm(len(x), device=compute.device)[:batch]

        def step() -> None:
            optimizer.zero_grad()
            with compute.autocast():
                loss = nn.functional.cross_entropy(net(x.index_select(0, index)), y.index_select(0, index))
            loss.backward()
            optimizer.step()
            _wait(compute)

        return step

    return prepare


def _forwarding(
    net: nn.Module, shape: tuple[int, ...], compute: Compute
) -> Callable[[int], Callable[[], None]]:
    def prepare(images: int) -> Callable[[], None]:
        x = torch.randn(images, *shape, device=compute.device)

        def forward() -> None:
            with torch.inference_mode(), compute.autocast():
                net(x)
            _wait(compute)

        return forward

    return prepare


def _wait(compute: Compute) -> None:
    if compute.device == "cuda":
        torch.cuda.synchronize()
