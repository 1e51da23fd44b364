"""Two seconds of measuring, for the estimate before a run: what a training step costs on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.kinds import Model
from compressit.plugins import Host

WIDTHS = (1.0, 0.4, 0.1)


def calibrate(request: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """`request`: {"uses", "config", "input_shape", "classes", "batch_sizes", "seconds"}.

    Returns {"steps": [[batch_size, width, seconds], ...], "forward": seconds per image}: SGD steps of the model at
    a few relative widths (only 1.0 where the model has no narrower form) on random inputs.
    """
    shape, classes = tuple(request["input_shape"]), request["classes"]
    models = list(_models(request, shape, classes, host))
    share = request["seconds"] / (len(models) * len(request["batch_sizes"]) + 1)
    steps = [
        [batch, width, _step_seconds(net, batch, shape, classes, share)]
        for width, net in models
        for batch in request["batch_sizes"]
    ]
    x = torch.randn(1024, *shape)
    with torch.inference_mode():
        forward = _timed(lambda: models[0][1](x), share) / len(x)
    return {"steps": steps, "forward": forward}


def _models(request: Mapping[str, Any], shape: tuple[int, ...], classes: int, host: Host) -> Any:
    for width in WIDTHS:
        config = request["config"]
        if width < 1:
            narrower = host.create(Model, request["uses"], config).narrower(width)
            if narrower is None:
                return
            config = narrower.model_dump(mode="json")
        yield width, checkpoint.build(checkpoint.Architecture(request["uses"], config, shape, classes), host)


def _step_seconds(net: nn.Module, batch: int, shape: tuple[int, ...], classes: int, seconds: float) -> float:
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, fused=True)
    x, y = torch.randn(batch, *shape), torch.randint(classes, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    return _timed(step, seconds)


def _timed(call: Any, seconds: float) -> float:
    """The mean time of a call, repeated for about that many seconds after one that does not count."""
    call()
    started, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds or calls == 0:
        call()
        calls += 1
    return spent / calls
