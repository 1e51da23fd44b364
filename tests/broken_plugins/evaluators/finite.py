"""Gives NaN for the loss on inputs of a class that no test input has."""

from torch import nn

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.finite"
    metrics = {"rare_loss": Metric("lower", "nats", "cross-entropy on the inputs of class 99")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        rare = ctx.data.test.y == 99
        return {
            "rare_loss": nn.functional.cross_entropy(ctx.logits(model, "test")[rare], ctx.data.test.y[rare])
        }


@hookimpl
def compressit_evaluators():
    return [Broken]
