"""Adds noise to the test inputs in place."""

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.leaves_data"
    metrics = {"confidence": Metric("neither", "fraction", "mean probability of the predicted class")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        confidence = ctx.logits(model, "train").softmax(1).max(1).values.mean()
        ctx.data.test.x.add_(0.1)
        return {"confidence": confidence}


@hookimpl
def compressit_evaluators():
    return [Broken]
