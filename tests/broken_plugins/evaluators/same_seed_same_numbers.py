"""Measures a time and does not declare `per_host`."""

import time

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.same_seed_same_numbers"
    metrics = {"forward_seconds": Metric("lower", "seconds", "a forward pass of all test inputs")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        started = time.perf_counter()
        ctx.compute.forward(model, ctx.data.test.x)
        return {"forward_seconds": time.perf_counter() - started}


@hookimpl
def compressit_evaluators():
    return [Broken]
