"""`eval.size`: how large a model is and how much it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from compressit import Evaluator, Metric, NoOptions, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Size(Evaluator[NoOptions]):
    """Parameters, nonzero parameters, MACs and bytes. Includes biases; tied tensors count once."""

    name = "eval.size"
    uses_data = False
    metrics = {  # noqa: RUF012 - declared as a ClassVar by Evaluator
        "parameters": Metric("lower", "count", "all parameters, including biases"),
        "nonzero": Metric("lower", "count", "parameters that are not zero"),
        "sparsity": Metric("higher", "fraction", "parameters that are zero"),
        "macs": Metric("lower", "count", "for one input, including zero weights"),
        "bytes": Metric("lower", "bytes", "size of the state dict's tensors, including zeros"),
    }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Uses only the shapes of the data's inputs."""
        from compressit import macs, nonzero, parameters, tensor_bytes

        total, left = parameters(model), nonzero(model)
        return {
            "parameters": total,
            "nonzero": left,
            "sparsity": 1 - left / total if total else 0.0,
            "macs": macs(model, ctx.data.contract.inputs),
            "bytes": tensor_bytes(model),
        }


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Size]
