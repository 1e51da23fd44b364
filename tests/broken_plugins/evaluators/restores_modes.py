"""Turns gradients on for a sensitivity, and leaves them on."""

import torch
from torch import nn

from compressit import Evaluator, Metric, hookimpl


class Broken(Evaluator):
    """A number about a model."""

    name = "broken.restores_modes"
    metrics = {"sensitivity": Metric("neither", "gradient norm", "of the first layer's weights")}  # noqa: RUF012

    def evaluate(self, model, ctx):
        model.requires_grad_(True)
        loss = nn.functional.cross_entropy(model(ctx.data.test.x), ctx.data.test.y)
        (gradient,) = torch.autograd.grad(loss, [model[0].weight])
        return {"sensitivity": gradient.norm()}


@hookimpl
def compressit_evaluators():
    return [Broken]
