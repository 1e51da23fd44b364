"""`eval.latency`: the measured time of a forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from compressit import Config, Evaluator, Metric, Task, hookimpl
from compressit_plugins.evaluate.onnx_files import PACKAGES

if TYPE_CHECKING:
    from torch import nn

    from compressit import Compute, InputTensors, StageContext

Size = Literal[1, 8, 32, 128, 512]
Runtime = Literal["eager", "compile", "onnxruntime", "onnxruntime-int8"]
_ABOUT = (
    "forward pass of a batch of {size} {runtime}, {what} of all repetitions; zero weights take their time too"
)
_PLACES: Mapping[Runtime, str] = {
    "eager": "on this machine",
    "compile": "on this machine with torch.compile",
    "onnxruntime": "on this machine in onnxruntime",
    "onnxruntime-int8": "on this machine in onnxruntime, as int8",
}


class LatencyConfig(Config):
    """Options of the latency measurement."""

    batch_sizes: tuple[Size, ...] = Field((1, 128), min_length=1, description="batch sizes to measure")
    runtime: tuple[Runtime, ...] = Field(
        default=("eager",),
        min_length=1,
        description="what runs the net: `eager` (torch), `compile` (torch.compile, needs a C++ compiler), "
        "`onnxruntime` and `onnxruntime-int8` (extra `onnx`). They take turns, pass by pass, on the same inputs; the "
        "report's `× faster` is of the first",
    )
    images: int = Field(
        default=256, ge=1, description="training examples that the ranges of onnxruntime-int8 are taken from"
    )
    warmup: int = Field(default=10, ge=0, description="untimed passes before the measurement")
    repetitions: int = Field(default=50, ge=4, description="timed passes")

    @field_validator("runtime")
    @classmethod
    def _once_each(cls, runtime: tuple[Runtime, ...]) -> tuple[Runtime, ...]:
        if len(set(runtime)) < len(runtime):
            raise ValueError("names a runtime twice")
        return runtime


class Latency(Evaluator[LatencyConfig]):
    """Median and inter-quartile range of a forward pass, on the run's device, threads and precision."""

    name = "eval.latency"
    example: ClassVar[Mapping[str, Any]] = {"batch_sizes": [1], "warmup": 1, "repetitions": 4}
    exclusive = True
    per_host = True

    def __init__(self, config: LatencyConfig) -> None:
        super().__init__(config)
        self.uses_data = "onnxruntime-int8" in config.runtime

    def declares(self, task: Task[Any]) -> Mapping[str, Metric]:
        """Of every runtime and batch size: `latency_1_median_seconds` in eager torch,
        `latency_1_onnxruntime_int8_median_seconds` …"""
        spreads = {"median": "median", "iqr": "inter-quartile range"}
        columns = {
            _column(size, runtime, what): Metric(
                "lower", "seconds", _ABOUT.format(size=size, runtime=_PLACES[runtime], what=words)
            )
            for runtime in self.config.runtime
            for size in self.config.batch_sizes
            for what, words in spreads.items()
        }
        return {**columns, "latency_repetitions": Metric("neither", "count", "timed passes per batch size")}

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """What is not installed, which is known before anything runs."""
        asked = any(name.startswith("onnxruntime") for name in self.config.runtime)
        missing = [name for name in PACKAGES if find_spec(name) is None]
        why = f"onnxruntime needs {', '.join(missing)}: pip install 'compressit[onnx]'"
        return {"runtime": why} if asked and missing else {}

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Inputs are uniform random numbers with the data's shapes; the time does not depend on the values."""
        from statistics import quantiles

        from compressit import each_tensor, random_inputs
        from compressit_plugins.evaluate.runtimes import in_turn, passes

        options = self.config
        ready = passes(model, ctx, options.runtime, options.images)
        values: dict[str, float] = {"latency_repetitions": options.repetitions}
        for size in options.batch_sizes:
            drawn = random_inputs(ctx.data.contract.inputs, size, ctx.streams.generator("latency"))
            x = each_tensor(drawn, lambda tensor: ctx.compute.typed(tensor.to(ctx.compute.device)))
            found = in_turn([make(x) for make in ready], ctx, options.warmup, options.repetitions)
            for runtime, seconds in zip(options.runtime, found, strict=True):
                lower, median, upper = quantiles(seconds, n=4, method="inclusive")
                values[_column(size, runtime, "median")] = median
                values[_column(size, runtime, "iqr")] = upper - lower
        return values


def _column(size: Size, runtime: Runtime, what: str) -> str:
    """`latency_1_median_seconds` of eager torch, `latency_1_onnxruntime_int8_iqr_seconds`."""
    own = "" if runtime == "eager" else f"{runtime.replace('-', '_')}_"
    return f"latency_{size}_{own}{what}_seconds"


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
