"""`eval.latency`: the measured time of a forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import Field

from compressit import Config, Evaluator, Metric, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import Compute, InputTensors, StageContext

Size = Literal[1, 8, 32, 128, 512]
_ABOUT = "forward pass of a batch of {size} on this machine, {what} of all repetitions"


class LatencyConfig(Config):
    """Options of the latency measurement."""

    batch_sizes: tuple[Size, ...] = Field((1, 128), min_length=1, description="batch sizes to measure")
    warmup: int = Field(default=10, ge=0, description="untimed passes before the measurement")
    repetitions: int = Field(default=50, ge=4, description="timed passes")


class Latency(Evaluator[LatencyConfig]):
    """Median and inter-quartile range of a forward pass, on the run's device, threads and precision."""

    name = "eval.latency"
    example: ClassVar[Mapping[str, Any]] = {"batch_sizes": [1], "warmup": 1, "repetitions": 4}
    exclusive = True
    per_host = True
    uses_data = False
    metrics = {
        f"latency_{size}_{what}_seconds": Metric("lower", "seconds", _ABOUT.format(size=size, what=words))
        for size in get_args(Size)
        for what, words in (("median", "median"), ("iqr", "inter-quartile range"))
    } | {"latency_repetitions": Metric("neither", "count", "timed passes per batch size")}

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Inputs are uniform random numbers with the data's shapes; the time does not depend on the values."""
        from statistics import quantiles

        from compressit import each_tensor, random_inputs

        values: dict[str, float] = {"latency_repetitions": self.config.repetitions}
        for size in self.config.batch_sizes:
            generator = ctx.streams.generator("latency")
            drawn = random_inputs(ctx.data.contract.inputs, size, generator)
            x = each_tensor(drawn, lambda tensor: ctx.compute.typed(tensor.to(ctx.compute.device)))
            seconds = forward_seconds(model, x, ctx.compute, self.config.warmup, self.config.repetitions)
            lower, median, upper = quantiles(seconds, n=4, method="inclusive")
            values[f"latency_{size}_median_seconds"] = median
            values[f"latency_{size}_iqr_seconds"] = upper - lower
        return values


def forward_seconds(
    model: nn.Module, x: InputTensors, compute: Compute, warmup: int, repetitions: int
) -> list[float]:
    """Wall-clock seconds of each of `repetitions` forward passes of `x`, after `warmup` untimed ones."""
    import time

    import torch

    from compressit import call

    wait = torch.cuda.synchronize if compute.device == "cuda" else lambda: None
    seconds: list[float] = []
    with torch.inference_mode(), compute.autocast():
        for number in range(warmup + repetitions):
            wait()
            started = time.perf_counter()
            call(model, x)
            wait()
            if number >= warmup:
                seconds.append(time.perf_counter() - started)
    return seconds


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Latency]
