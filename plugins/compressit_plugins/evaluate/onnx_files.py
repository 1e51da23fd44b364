"""`eval.onnx`: the ONNX files of a model, to deploy, and what int8 costs it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Config, Declared, Evaluator, File, Metric, Task, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext

FLOAT, INT8 = "net.onnx", "net.int8.onnx"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class OnnxConfig(Config):
    """Options of `eval.onnx`."""

    int8: bool = Field(
        default=True,
        description="also a file in whole numbers, and its scores on the test split",
    )
    images: int = Field(
        default=256, ge=1, description="training examples that the ranges of int8 are taken from"
    )
    max_drop: float | None = Field(
        default=None,
        description="an int8 file that loses more of what the task watches is not kept, its numbers are; in the "
        "score's units: 0.01 is one point of an accuracy",
    )


class Onnx(Evaluator[OnnxConfig]):
    """The model as ONNX files in the run folder's `exports/`, run by onnxruntime, and what int8 costs it."""

    name = "eval.onnx"
    example: ClassVar[Mapping[str, Any]] = {"images": 8}

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """The files and their bytes; of int8 the score that the task watches, and the agreement with the float net."""
        found: dict[str, Declared] = {
            FLOAT: File("the net in float32"),
            "onnx_bytes": Metric("lower", "bytes", f"of {FLOAT}"),
        }
        if not self.config.int8:
            return found
        watched, agreeing = task.measures()[task.watch], "test inputs answered as in float32; of numbers, R²"
        about = f"{watched.about}, of {INT8}, on the test split"
        return {
            **found,
            INT8: File("the net in int8"),
            "int8_bytes": Metric("lower", "bytes", f"of {INT8}"),
            f"int8_test_{task.watch}": Metric(watched.better, watched.unit, about),
            "int8_agreement": Metric("higher", "fraction", agreeing),
        }

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """What is not installed, which is known before anything runs."""
        missing = [name for name in PACKAGES if find_spec(name) is None]
        why = f"needs {', '.join(missing)}, as all of {self.name} does: pip install 'compressit[onnx]'"
        return {"int8": why} if missing else {}

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Ranges come from training data. Raises CompressitError for a net that has no ONNX, and without test data."""
        from compressit import int8_scores
        from compressit_plugins.evaluate.runtimes import int8_of, onnx_of

        net = onnx_of(model, ctx)
        ctx.keep(FLOAT, net.content)
        found: dict[str, float] = {"onnx_bytes": len(net.content)}
        if not self.config.int8:
            return found
        small = int8_of(model, ctx, self.config.images)
        scores = int8_scores(ctx.logits(model, "test"), small, ctx.data.split("test"), ctx.task)
        if self.config.max_drop is None or scores.drop <= self.config.max_drop + 1e-9:
            ctx.keep(INT8, small.content)
        return {
            **found,
            "int8_bytes": len(small.content),
            f"int8_test_{ctx.task.watch}": scores.after,
            "int8_agreement": scores.agreement,
        }


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Onnx]
