"""Leaves the biases out of `parameters`."""

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.honest_sizes"
    metrics = {"parameters": Metric("lower", "count", "all parameters")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        return {"parameters": sum(p.numel() for p in model.parameters() if p.ndim > 1)}


@hookimpl
def compressit_evaluators():
    return [Broken]
