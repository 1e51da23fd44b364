"""Options of a model's fresh weights, carried out by `compressit.contract.initial`. Does not import torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compressit.config import Config


class InitConfig(Config):
    """How the fresh weights of linear and convolutional layers are drawn: of the first model and of every student.

    Norms and other layers keep what the model plugin gives them.
    """

    scheme: Literal["default", "kaiming", "xavier", "lecun", "orthogonal"] = Field(
        default="default",
        description="default: as the model plugin draws them. kaiming: normal, variance 2 / inputs (He et al. 2015); "
        "xavier: uniform, variance 2 / (inputs + outputs) (Glorot & Bengio 2010); lecun: normal, variance 1 / inputs "
        "(LeCun et al. 1998); orthogonal: orthonormal rows or columns (Saxe et al. 2014). All but default set biases "
        "to zero",
    )
    scale: float = Field(default=1.0, gt=0, description="multiplies these layers' initial weights and biases")
    draw: int = Field(
        default=0,
        ge=0,
        description="which draw of the seed: another one starts from other weights, with the same order of batches",
    )
