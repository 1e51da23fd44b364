"""`@compressit.model("my.net")`: registers your own network by name, so that its checkpoints can rebuild it."""

from __future__ import annotations

import inspect
import sys
import typing
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError

from compressit.config import Config
from compressit.contract.kinds import Model
from compressit.datasets.specs import Inputs
from compressit.errors import CompressitError
from compressit.host.plugins import Source, importing

if TYPE_CHECKING:
    from torch import nn

B = TypeVar("B", bound=Callable[..., Any])

_GIVEN = ("inputs", "outputs")  # parameters that come from the data, not from the user
_MARK = "_compressit_model"


def model(name: str) -> Callable[[B], B]:
    """Decorator that registers an nn.Module class, or a function that returns an nn.Module, as the model `name`.

    Parameters with values that JSON can hold become the model's options; the others keep their defaults.
    Parameters called `inputs` (a TensorSpec, or several; `inputs.shape` is without the batch) and `outputs` (their
    number, the classes) come from the data. The class or function itself is not changed. Raises CompressitError for a
    name that is not like "my.net" or belongs to another plugin (naming both), and for a parameter without default that
    JSON cannot hold.
    """

    def register(builder: B) -> B:
        plugin = _plugin(name, builder)
        importing().add_model(plugin, _source(builder.__module__))
        cls: Any = builder
        if isinstance(cls, type):
            setattr(cls, _MARK, name)
        return builder

    return register


def name_of(net: nn.Module) -> str | None:
    """The name under which the net's class was registered; None if this class itself was not registered."""
    return vars(type(net)).get(_MARK)


def _plugin(name: str, builder: Callable[..., Any]) -> type[Model[Any]]:
    parameters = inspect.signature(builder).parameters
    given = [p for p in _GIVEN if p in parameters]
    options = _options(name, builder, [p for p in parameters.values() if p.name not in given])
    names = list(options.model_fields)

    def build(self: Model[Any], inputs: Inputs, outputs: int) -> nn.Module:
        data = {"inputs": inputs, "outputs": outputs}
        chosen = {option: getattr(self.config, option) for option in names}
        return builder(**chosen, **{p: data[p] for p in given})

    members = {
        "name": name, "Config": options, "build": build, "builder": staticmethod(builder), "__doc__": builder.__doc__,
        "__module__": builder.__module__, "__qualname__": builder.__qualname__,
    }  # fmt: skip
    return type(builder.__name__, (Model,), members)


def _options(name: str, builder: Callable[..., Any], parameters: list[inspect.Parameter]) -> type[Config]:
    """A config with a field for every parameter that a checkpoint can hold."""
    hints = _hints(builder)
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        required = parameter.default is parameter.empty
        hint = hints.get(parameter.name, _guess(parameter.default))
        by_name = parameter.kind is not parameter.POSITIONAL_ONLY and not parameter.name.startswith("_")
        if by_name and _is_plain(hint, parameter.default):
            about = f"`{parameter.name}` of {builder.__name__}"
            fields[parameter.name] = (hint, Field(... if required else parameter.default, description=about))
        elif required:
            raise CompressitError(
                f"'{name}' cannot be rebuilt from a file: JSON cannot hold values of its parameter '{parameter.name}'",
                "give it a default, or register a function that builds the net from numbers and text",
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a field may be called `copy`, like a method of pydantic's
        try:
            return create_model(f"{builder.__name__}Config", __base__=Config, **fields)
        except (NameError, PydanticUserError) as error:
            raise CompressitError(f"'{name}' cannot be registered: {error}") from error


def _hints(builder: Callable[..., Any]) -> dict[str, Any]:
    function = builder.__init__ if isinstance(builder, type) else builder
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # names imported for type checking only
        return {}


def _guess(default: Any) -> Any:
    """The type of a parameter without an annotation."""
    if default is inspect.Parameter.empty or default is None:
        return Any
    return int | float if type(default) in (int, float) else type(default)


def _is_plain(hint: Any, default: Any) -> bool:
    """Whether values of this type, including the default, survive a round trip through JSON."""
    try:
        values: TypeAdapter[Any] = TypeAdapter(hint)
        values.json_schema()
        if default is not inspect.Parameter.empty:
            return bool(values.validate_json(values.dump_json(default), strict=True) == default)
    except (PydanticUserError, ValidationError, ValueError, TypeError):
        return False
    return True


def _source(module: str) -> Source:
    """The module's name; its file if another process cannot import it by name."""
    importable = module != "__main__" and not module.startswith("compressit_local_")
    file = getattr(sys.modules.get(module), "__file__", None)
    return Source(module if importable or file is None else file)
