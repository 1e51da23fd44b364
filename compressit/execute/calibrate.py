"""Two seconds of measuring, for the estimate before a run: what a training step costs on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.compute import Compute
from compressit.kinds import Model
from compressit.plugins import Host

WIDTHS = (1.0, 0.4, 0.1)


def calibrate(request: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """`request`: {"uses", "config", "input_shape", "classes", "batch_sizes", "seconds", "compute"}.

    Returns {"steps": [[batch_size, width, seconds], ...], "forward": seconds per image}: SGD steps of the
    model at a few relative widths (only 1.0 where the model has no narrower form) on random inputs.
    """
    shape, classes = tuple(request["input_shape"]), request["classes"]
    compute = Compute.select(**request["compute"])
    models = [(width, net.to(compute.device)) for width, net in _models(request, shape, classes, host)]
    share = request["seconds"] / (len(models) * len(request["batch_sizes"]) + 1)
    steps = [
        [batch, width, _step_seconds(net, batch, shape, classes, compute, share)]
        for width, net in models
        for batch in request["batch_sizes"]
    ]
    x = torch.randn(1024, *shape, device=compute.device)
    with torch.inference_mode(), compute.autocast():
        forward = _timed(lambda: models[0][1](x), compute, share) / len(x)
    return {"steps": steps, "forward": forward}


def _models(
    request: Mapping[str, Any], shape: tuple[int, ...], classes: int, host: Host
) -> Iterator[tuple[float, nn.Module]]:
    for width in WIDTHS:
        config = request["config"]
        if width < 1:
            narrower = host.create(Model, request["uses"], config).narrower(width)
            if narrower is None:
                return
            config = narrower.model_dump(mode="json")
        yield width, checkpoint.build(checkpoint.Architecture(request["uses"], config, shape, classes), host)


def _step_seconds(
    net: nn.Module, batch: int, shape: tuple[int, ...], classes: int, compute: Compute, seconds: float
) -> float:
    """Of a step as `fit` takes it, which gathers its batch from all images: of a narrow net, a quarter of its time."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)
    x = torch.randn(4 * batch, *shape, device=compute.device)
    y = torch.randint(classes, (len(x),), device=compute.device)
    index = torch.randperm(len(x), device=compute.device)[:batch]

    def step() -> None:
        optimizer.zero_grad()
        with compute.autocast():
            loss = nn.functional.cross_entropy(net(x.index_select(0, index)), y.index_select(0, index))
        loss.backward()
        optimizer.step()

    return _timed(step, compute, seconds)


def _timed(call: Callable[[], object], compute: Compute, seconds: float) -> float:
    """The mean time of a call, repeated for about that many seconds after one that does not count."""
    wait = torch.cuda.synchronize if compute.device == "cuda" else lambda: None
    call()
    wait()
    started, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds or calls == 0:
        call()
        wait()
        calls += 1
    return spent / calls
