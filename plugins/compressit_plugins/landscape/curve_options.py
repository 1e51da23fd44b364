"""Options of `train.curve`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compressit import FitConfig, ModelRef


class CurveConfig(FitConfig):
    """Options of training a curve."""

    other: ModelRef = Field(description="the model at the other end of the curve; both ends stay as they are")
    kind: Literal["bezier", "polygon"] = Field(
        "bezier",
        description="bezier: a Bézier curve, quadratic with one bend; polygon: straight from bend to bend",
    )
    bends: int = Field(1, ge=1, le=8, description="points between the ends, which are trained")
    at: float = Field(
        0.5, ge=0, le=1, description="which place of the curve the stage gives: 0 is the model, 1 `other`"
    )
    points: int = Field(
        61, ge=3, le=200, description="places, with both ends, where loss and score are measured"
    )
    images: int = Field(2000, ge=1, description="training examples that they are measured on, at most all")
