"""`eval.slice`: the loss along a line through a model, or over a plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from compressit import Array, Config, Curve, Evaluator, Metric, ModelRef, Picture, Task, Work, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class SliceConfig(Config):
    """Options of `eval.slice`."""

    directions: int = Field(
        1,
        ge=1,
        le=2,
        description="1: along a line; 2: over a plane. Those that no `other` gives are random",
    )
    other: ModelRef | Annotated[tuple[ModelRef, ...], Field(min_length=1, max_length=2)] | None = Field(
        None,
        description="one or two models that directions lead to; default: all directions are random, with the norm of "
        "each filter",
    )
    range: tuple[float, float] = Field(
        (-1.0, 1.0),
        description="first and last place in each direction: 0 is the model, 1 the other one, or a random step as long "
        "as the weights of each filter",
    )
    points: int = Field(
        25, ge=2, le=200, description="places in each direction, with both ends, evenly spaced"
    )
    images: int = Field(
        2000, ge=1, description="examples of each split that the loss is measured on, at most all"
    )

    @property
    def others(self) -> tuple[str, ...]:
        """The models that directions lead to."""
        return () if self.other is None else (self.other,) if isinstance(self.other, str) else self.other

    @field_validator("other")
    @classmethod
    def _has_directions(
        cls, other: str | tuple[str, ...] | None, info: ValidationInfo
    ) -> str | tuple[str, ...] | None:
        if isinstance(other, tuple) and len(other) > info.data.get("directions", 2):
            raise ValueError("has two models, which need `directions: 2`")
        return other

    @field_validator("range")
    @classmethod
    def _ascends(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not ends[0] < ends[1]:
            raise ValueError("must ascend")
        return ends


class Slice(Evaluator[SliceConfig]):
    """Loss and score where the weights move along a line or over a plane: to other models, or in random directions.

    To other models as Goodfellow, Vinyals & Saxe 2015, "Qualitatively characterizing neural network optimization
    problems"; random directions as Li et al. 2018, "Visualizing the loss landscape of neural nets": normal numbers,
    scaled so that each filter's (each row of a matrix) have the norm of its weights; biases and norms stay.

    Batch norms get new statistics at every place. On the way to another model all weights move; in random directions
    pruned ones stay zero. Nothing is given where another model has other shapes.

    With filter norms, a random line does not change when a layer's scale moves to the next one, as ReLU and batch norms
    let it; the line to another model does, and it changes with the order of units.
    """

    name = "eval.slice"
    example: ClassVar[Mapping[str, Any]] = {"points": 3, "images": 64}

    def declares(self, task: Task[Any]) -> Mapping[str, Metric | Curve | Array | Picture]:
        """Of a line numbers and curves, of a plane arrays and a picture of the training loss."""
        names = ("loss", task.watch, "test_loss", f"test_{task.watch}")
        if self.config.directions == 2:
            axes = ("place in the second direction", "place in the first direction")
            arrays = {f"slice_{name}": Array(f"{_words(name)} over the plane", axes) for name in names}
            places = Array("the places in each direction", ("place",))
            return {
                **arrays,
                "slice_places": places,
                "slice": Picture("training loss over a plane of weights"),
            }
        curves = {
            f"slice_{name}": Curve("share of the direction", _words(name), "along the line") for name in names
        }
        bends = Metric("lower", "loss", "second difference of the training loss along the line, at the model")
        to_other = {
            "slice_rise": Metric(
                "lower", "fraction", "largest step up of the training loss on the way from the end with more to the "
                "end with less, as a share of their difference; 0: it falls all the way"
            ),
            "slice_other_bend": Metric("lower", "loss", "as `slice_bend`, at the other model"),
        }  # fmt: skip
        return {**curves, "slice_bend": bends, **(to_other if self.config.others else {})}

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Of a line, `slice_bend` where the model and both neighbours are among its places, likewise
        `slice_other_bend`; `slice_rise` where both models are."""
        import numpy as np

        from compressit_plugins.landscape.sliced import sliced

        how = self.config
        places = np.linspace(*how.range, how.points)
        return sliced(model, ctx, how.others, how.directions, places, how.images)

    def work(self, images: int) -> Work:
        """What is seen at all places, of the test split as much as of the training split."""
        config = self.config
        return Work(0, 1, forwards=2 * config.points**config.directions * min(images, config.images))


def _words(name: str) -> str:
    return name.replace("_", " ") if name.startswith("test") else f"training {name}"


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Slice]
