"""Where data given from Python come from, so that a run can load them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compressit.datasets.sources import Sources
from compressit.datasets.specs import Inputs


@dataclass(frozen=True)
class Origin:
    """The dataset plugin `uses` with these options, or examples of somebody's own (`sources`)."""

    uses: str  # "" for one's own
    options: Mapping[str, Any]  # of the dataset, as JSON values
    task: Mapping[str, Any] | None  # `uses` and `with`, where it is not the one that the dataset poses
    held: tuple[object, ...]  # what the splits hold that were made of it (`Data.held`)
    sources: Sources | None = None
    inputs: Inputs | None = None  # of `sources`
