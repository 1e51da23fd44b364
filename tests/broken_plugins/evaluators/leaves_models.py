"""Zeroes the small weights of the very model, to see what is lost."""

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.leaves_models"
    metrics = {"confidence": Metric("neither", "fraction", "mean probability of the predicted class")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        for weight in model.parameters():
            weight[weight.abs() < 0.1] = 0
        return {"confidence": ctx.logits(model, "test").softmax(1).max(1).values.mean()}


@hookimpl
def compressit_evaluators():
    return [Broken]
