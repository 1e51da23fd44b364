"""Returns a bare number."""

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.runs"
    metrics = {"confidence": Metric("neither", "fraction", "mean probability of the predicted class")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        return float(ctx.logits(model, "test").softmax(1).max(1).values.mean())


@hookimpl
def compressit_evaluators():
    return [Broken]
