"""`data.synthetic`: a small classification problem that needs no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from compressit import DataConfig, Dataset, TensorSpec, hookimpl

if TYPE_CHECKING:
    from compressit import DataContext, Sources


class SyntheticConfig(DataConfig):
    """Options of the synthetic problem."""

    classes: int = Field(default=10, ge=2, description="number of classes")
    shape: tuple[PositiveInt, ...] = Field(
        default=(1, 8, 8), min_length=1, description="shape of one input: channels, height, width"
    )
    train: int = Field(default=512, ge=1, description="training inputs")
    test: int = Field(default=256, ge=1, description="test inputs")
    noise: float = Field(
        default=0.3, ge=0, description="standard deviation of the noise around a class's prototype"
    )


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
    def train_size(self) -> int:
        return self.config.train

    def load(self, ctx: DataContext) -> Sources:
        """Inputs clamp(prototype[y] + noise * N(0, 1), 0, 1), labels 0, 1, 2 … in turn.

        They do not depend on `seed`, which is for random labels and splits.
        """
        import torch

        from compressit import Sources, Streams

        config, streams = self.config, Streams(0, "data.synthetic")
        prototypes = torch.rand(config.classes, *config.shape, generator=streams.generator("prototypes"))

        def draw(count: int, purpose: str) -> tuple[torch.Tensor, torch.Tensor]:
            y = torch.arange(count) % config.classes
            noise = torch.randn(count, *config.shape, generator=streams.generator(purpose))
            return (prototypes[y] + config.noise * noise).clamp_(0, 1), y

        return Sources(draw(config.train, "train"), draw(config.test, "test"))


@hookimpl
def compressit_datasets() -> list[type[Dataset]]:
    return [Synthetic]
