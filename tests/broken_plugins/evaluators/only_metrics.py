"""Notes what it found, where nobody will see it."""

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.only_metrics"
    metrics = {"confidence": Metric("higher", "fraction", "mean probability of the class answered")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        highest = ctx.logits(model, "test").softmax(1).amax(1)
        ctx.note(least=float(highest.min()))
        return {"confidence": highest.mean()}


@hookimpl
def compressit_evaluators():
    return [Broken]
