"""Where data given from Python come from, so that a run can load them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.datasets.sources import Sources
from compressit.datasets.specs import Inputs

if TYPE_CHECKING:
    from compressit.datasets.splits import Data, Split


@dataclass(frozen=True)
class Origin:
    """The dataset plugin `uses` with these options, or examples of somebody's own (`sources`)."""

    uses: str  # "" for one's own
    options: Mapping[str, Any]  # of the dataset, as JSON values
    task: Mapping[str, Any] | None  # `uses` and `with`, where it is not the one that the dataset poses
    held: tuple[object, ...]  # what the splits were made of it
    sources: Sources | None = None
    inputs: Inputs | None = None  # of `sources`

    def gave(self, data: Data) -> bool:
        """Whether the splits of `data` are still those that were made of it."""
        now = held_by(data)
        return len(now) == len(self.held) and all(
            one is other for one, other in zip(now, self.held, strict=True)
        )


def held_by(data: Data) -> tuple[object, ...]:
    """What the splits hold, in order: tensors in memory, and sources."""

    def parts(split: Split | None) -> tuple[object, ...]:
        if split is None:
            return (None,)
        return getattr(split, "inputs", None), getattr(split, "source", None), split.y

    return (*parts(data.train), *parts(data.validation), *parts(data.test))
