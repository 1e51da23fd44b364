"""The shapes of a network that a plugin would build, asked in a process of its own: this one does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

from compressit.checkpoint.fitting import Shapes
from compressit.config import dump, parse
from compressit.contract.kinds import Model
from compressit.datasets.specs import Inputs, from_json, to_json
from compressit.files.sealed import canonical
from compressit.processes.forked import Ended, asked

_LIMIT = 60.0  # seconds; most take two, for importing torch


def shapes_of(builder: Model[Any], inputs: Inputs, outputs: int) -> Shapes | None:
    """The shapes of the state dict of the network that it builds; None if that fails here."""
    kind = type(builder)
    return _asked(kind, kind.build, canonical(dump(builder.config)), canonical(to_json(inputs)), outputs)


@lru_cache(maxsize=64)
def _asked(
    kind: type[Model[Any]], method: Callable[..., Any], config: str, inputs: str, outputs: int
) -> Shapes | None:
    with suppress(Ended, OSError):
        found = asked(partial(_shapes, kind, config, inputs, outputs), _LIMIT, shown=False)
        return {name: None if sizes is None else tuple(sizes) for name, sizes in found.items()}
    return None


def _shapes(kind: type[Model[Any]], config: str, inputs: str, outputs: int) -> Any:
    """Builds the network without filling its parameters: their memory is never touched."""
    from compressit.checkpoint.modules import Unfilled
    from compressit.checkpoint.weights import shapes_of
    from compressit.contract.nets import unwrapped
    from compressit.files.sealed import strict

    with Unfilled():
        net = kind(parse(kind.Config, strict(config))).build(from_json(strict(inputs)), outputs)
    return shapes_of(unwrapped(net))
