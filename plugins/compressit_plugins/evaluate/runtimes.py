"""The same net in several runtimes: eager torch, torch.compile, and onnxruntime with floats or int8."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from compressit import CompressitError, InputTensors, OnnxNet, StageContext, call, copied, quantised

Pass = Callable[[], object]


def onnx_of(model: nn.Module, ctx: StageContext) -> OnnxNet:
    """The judged model as ONNX, converted once for all evaluators. Raises CompressitError where that is impossible."""
    key = ("onnx", ctx.identity("model"), ctx.identity(""))
    if key not in ctx.memo:
        if ctx.compute.device != "cpu" or ctx.compute.precision != "fp32":
            raise CompressitError(
                f"onnxruntime runs in fp32 on the CPU here, and this run in {ctx.compute.precision} on "
                f"{ctx.compute.device}",
                "leave it out, or set compute: {device: cpu, precision: fp32}",
            )
        contract = ctx.data.contract
        ctx.memo[key] = OnnxNet.of(copied(model).eval(), contract.inputs, contract, ctx.task.posed)
    return ctx.memo[key]


def int8_of(model: nn.Module, ctx: StageContext, images: int) -> OnnxNet:
    """The same in int8, with ranges from `images` training examples."""
    key = ("int8", ctx.identity("model"), ctx.identity(""), images)
    if key not in ctx.memo:
        ctx.memo[key] = quantised(onnx_of(model, ctx), ctx.data.train, images)
    return ctx.memo[key]


def passes(
    model: nn.Module, ctx: StageContext, runtimes: Sequence[str], images: int
) -> list[Callable[[InputTensors], Pass]]:
    """For each runtime, what makes a forward pass of a batch ready: nothing is converted while it runs."""

    def torch_pass(net: nn.Module) -> Callable[[InputTensors], Pass]:
        return lambda x: lambda: call(net, x)

    def onnx_pass(net: OnnxNet) -> Callable[[InputTensors], Pass]:
        def ready(x: InputTensors) -> Pass:
            arrays = net.arrays(x)
            return lambda: net.run(arrays)

        return ready

    made: dict[str, Callable[[], Callable[[InputTensors], Pass]]] = {
        "eager": lambda: torch_pass(model),
        "compile": lambda: _compiled(model),
        "onnxruntime": lambda: onnx_pass(onnx_of(model, ctx)),
        "onnxruntime-int8": lambda: onnx_pass(int8_of(model, ctx, images)),
    }
    return [made[runtime]() for runtime in runtimes]


def in_turn(ready: Sequence[Pass], ctx: StageContext, warmup: int, repetitions: int) -> list[list[float]]:
    """Wall-clock seconds of `repetitions` runs of each pass, which take turns: what slows the machine down for a while
    slows all of them. `warmup`: untimed turns before."""
    wait = torch.cuda.synchronize if ctx.compute.device == "cuda" else lambda: None
    seconds: list[list[float]] = [[] for _ in ready]
    with torch.inference_mode(), ctx.compute.autocast():
        for number in range(warmup + repetitions):
            for run, found in zip(ready, seconds, strict=True):
                wait()
                started = time.perf_counter()
                run()
                wait()
                if number >= warmup:
                    found.append(time.perf_counter() - started)
    return seconds


def _compiled(model: nn.Module) -> Callable[[InputTensors], Pass]:
    """With torch.compile, which compiles once for each batch size, before it is timed."""
    net = torch.compile(model, dynamic=False)

    def ready(x: InputTensors) -> Pass:
        def run() -> object:
            return call(net, x)  # type: ignore[arg-type]

        try:
            with torch.inference_mode():
                run()
        except Exception as error:
            raise CompressitError(
                f"torch.compile cannot compile this net on this machine: {_first_line(error)}",
                "it needs a C++ compiler (g++ or clang++); or leave `compile` out of `runtime`",
            ) from error
        return run

    return ready


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
