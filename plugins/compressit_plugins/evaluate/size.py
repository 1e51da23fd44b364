"""`eval.size`: how large a model is and how much it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from compressit.config import NoOptions
from compressit.contract.hookspecs import hookimpl
from compressit.contract.kinds import Evaluator, Metric

if TYPE_CHECKING:
    from torch import nn

    from compressit.contract.context import StageContext


class Size(Evaluator[NoOptions]):
    """Parameters, non-zeros, multiply-adds and bytes; biases count, tied tensors count once."""

    name = "eval.size"
    uses_data = False
    metrics = {  # noqa: RUF012 - declared as a ClassVar by Evaluator
        "parameters": Metric("lower", "count", "all parameters, biases included"),
        "nonzero": Metric("lower", "count", "parameters that are not zero"),
        "sparsity": Metric("higher", "fraction", "parameters that are zero"),
        "multiply_adds": Metric("lower", "count", "of one input; a zero weight still counts"),
        "bytes": Metric("lower", "bytes", "the state dict's tensors as stored, zeros included"),
    }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Of the data only the input's shape is used."""
        from compressit.contract import measure

        parameters, nonzero = measure.parameters(model), measure.nonzero(model)
        return {
            "parameters": parameters,
            "nonzero": nonzero,
            "sparsity": 1 - nonzero / parameters if parameters else 0.0,
            "multiply_adds": measure.multiply_adds(model, ctx.data.contract.shape),
            "bytes": measure.tensor_bytes(model),
        }


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    """Registers `eval.size`."""
    return [Size]
