"""Takes percent and keeps a fraction: written out and read again, 50 is 0.5, is 0.005."""

from pydantic import Field, field_validator
from torch import nn

from compressit import Config, Model, hookimpl


class NetConfig(Config):
    dropout: float = Field(50.0, validate_default=True, description="percent of the inputs to drop")

    @field_validator("dropout")
    @classmethod
    def _fraction(cls, percent):
        return percent / 100


class Net(Model[NetConfig]):
    """A linear layer behind dropout."""

    name = "broken.options_round_trip"

    def build(self, input_shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, classes))


@hookimpl
def compressit_models():
    return [Net]
