"""Does not say what its number means."""

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.metrics_described"
    metrics = {"confidence": Metric("neither", "fraction")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        return {"confidence": ctx.logits(model, "test").softmax(1).max(1).values.mean()}


@hookimpl
def compressit_evaluators():
    return [Broken]
