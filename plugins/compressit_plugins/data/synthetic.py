"""`data.synthetic`: a small problem of any task that needs no files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from compressit import DataConfig, Dataset, TaskSpec, TensorSpec, hookimpl

if TYPE_CHECKING:
    from compressit import DataContext, Sources


class SyntheticConfig(DataConfig):
    """Options of the synthetic problem."""

    classes: int = Field(
        default=10, ge=2, description="number of classes; of labels or of numbers, where `poses` says so"
    )
    shape: tuple[PositiveInt, ...] = Field(
        default=(1, 8, 8), min_length=1, description="shape of one input: channels, height, width"
    )
    poses: Literal["classification", "multilabel", "regression", "segmentation"] = Field(
        default="classification",
        description="the task: one class for each input; any of the labels; `classes` numbers; or, of images, the "
        "class of each pixel",
    )
    train: int = Field(default=512, ge=1, description="training inputs")
    test: int = Field(default=256, ge=1, description="test inputs")
    noise: float = Field(
        default=0.3, ge=0, description="standard deviation of the noise around a class's prototype"
    )

    @field_validator("poses")
    @classmethod
    def _has_pixels(cls, poses: str, info: ValidationInfo) -> str:
        if poses == "segmentation" and len(info.data.get("shape", (1, 8, 8))) != 3:
            raise ValueError("needs images: a `shape` of channels, height and width")
        return poses


class Synthetic(Dataset[SyntheticConfig]):
    """One random prototype per class plus noise. Easy to learn, and the same on every machine."""

    name = "data.synthetic"

    @property
    def inputs(self) -> TensorSpec:
        return TensorSpec(self.config.shape)

    @property
    def classes(self) -> int:
        return self.config.classes

    @property
    def task(self) -> TaskSpec:
        return TaskSpec(f"task.{self.config.poses}", self.config.classes)

    @property
    def train_size(self) -> int:
        return self.config.train

    def load(self, ctx: DataContext) -> Sources:
        """Of classes: inputs clamp(prototype[y] + noise * N(0, 1), 0, 1), labels 0, 1, 2 … in turn. For other tasks see
        `synthetic_targets`.

        They do not depend on `seed`, which is for random labels and splits.
        """
        import torch

        from compressit import Sources, Streams
        from compressit_plugins.data.synthetic_targets import MAKERS

        config, streams = self.config, Streams(0, "data.synthetic")
        prototypes = torch.rand(config.classes, *config.shape, generator=streams.generator("prototypes"))

        def draw(count: int, purpose: str) -> tuple[torch.Tensor, torch.Tensor]:
            clean, targets = MAKERS[config.poses](count, prototypes, streams.generator(f"{purpose} targets"))
            noise = torch.randn(count, *config.shape, generator=streams.generator(purpose))
            return (clean + config.noise * noise).clamp_(0, 1), targets

        return Sources(draw(config.train, "train"), draw(config.test, "test"))


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [Synthetic]
