"""What all kinds of plugins have: a name, options, an example.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, get_args

from compressit.config import Config, NoOptions

C = TypeVar("C", bound=Config)


class Plugin(Generic[C]):
    """Base class of all kinds. `config` is the validated config; its class comes from the generic argument."""

    name: ClassVar[str]
    Config: ClassVar[type[Config]] = NoOptions
    # Options that work with a tiny model and dataset, for conformance checks and generated recipes.
    example: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):  # of this class, not of its parents
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Config):
                    cls.Config = argument

    def __init__(self, config: C) -> None:
        self.config = config

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring, for listings."""
        return (cls.__doc__ or "").strip().split("\n")[0]
