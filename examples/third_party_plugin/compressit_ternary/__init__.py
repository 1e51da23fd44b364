"""Ternary weights for compressit: a compressor, an evaluator and a model. Torch is imported where it is used."""

import math

from pydantic import Field

from compressit import Compressor, Config, Evaluator, Metric, Model, hookimpl


class TernaryConfig(Config):
    threshold: float = Field(0.7, gt=0, description="weights below this times their mean size become zero")


class Ternary(Compressor[TernaryConfig]):
    """Round every weight of a layer to -a, 0 or +a (ternary weight networks, Li & Liu 2016)."""

    name = "quantize.ternary"

    def compress(self, model, ctx):
        from compressit_ternary.ternary import round_weights

        ctx.note(scales=round_weights(model, self.config.threshold))
        return model


class Entropy(Evaluator):
    """Bits that a weight takes with an ideal code for its layer's values."""

    name = "eval.entropy"
    uses_data = False
    metrics = {"bits_per_weight": Metric("lower", "bits", "entropy of a layer's values, over all weights")}

    def evaluate(self, model, ctx):
        from compressit_ternary.ternary import bits_per_weight

        return {"bits_per_weight": bits_per_weight(model)}


class NormedConfig(Config):
    widths: tuple[int, ...] = Field((32, 32), min_length=1, description="widths of the hidden layers")


class Normed(Model[NormedConfig]):
    """A perceptron with layer norms, which round well."""

    name = "model.normed"

    def build(self, inputs, outputs):
        from torch import nn

        layers, size = [nn.Flatten()], math.prod(inputs.shape)
        for width in self.config.widths:
            layers += [nn.Linear(size, width), nn.LayerNorm(width), nn.ReLU()]
            size = width
        return nn.Sequential(*layers, nn.Linear(size, outputs))


@hookimpl
def compressit_compressors():
    return [Ternary]


@hookimpl
def compressit_evaluators():
    return [Entropy]


@hookimpl
def compressit_models():
    return [Normed]
