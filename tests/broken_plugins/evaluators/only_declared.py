"""Returns a second number that it does not declare."""

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.only_declared"
    metrics = {"confidence": Metric("neither", "fraction", "mean probability of the predicted class")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        highest = ctx.logits(model, "test").softmax(1).max(1).values
        return {"confidence": highest.mean(), "lowest_confidence": highest.min()}


@hookimpl
def compressit_evaluators():
    return [Broken]
