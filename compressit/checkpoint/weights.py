"""Loads the tensors of a safetensors file into a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from compressit.checkpoint import fitting, tensors
from compressit.checkpoint.header import NoManifestError, naming, read_header
from compressit.errors import CompressitError


def load_into(model: nn.Module, path: Path, fresh: Sequence[str], builder: str) -> None:
    """Gives the model, which `builder` built, the file's tensors, as `put` does."""
    given = read(path)
    with naming(path):
        put(model, given, fresh, builder)


def put(model: nn.Module, given: Mapping[str, Tensor], fresh: Sequence[str], builder: str) -> None:
    """Gives the model, which `builder` built, these tensors, except those whose names match a pattern of `fresh`.

    Raises CompressitError unless all others fit exactly, and each pattern matches something.
    """
    own = model.state_dict()
    net, file = shapes_of(model), {name: tuple(value.shape) for name, value in given.items()}
    for pattern in fitting.idle(fresh, net, file):
        raise CompressitError(f"`fresh` names no tensor: '{pattern}'")
    fault = fitting.misfit(net, file, fresh, builder)
    if fault is not None:
        raise fault
    used = {name: given[name] for name in fitting.taken(net, file, fresh)}
    _check_types(own, used)
    before = {name: value.clone() for name, value in own.items() if name not in used and _is_plain(value)}
    state = OrderedDict({**own, **used})
    state._metadata = getattr(own, "_metadata", {})  # type: ignore[attr-defined] # the modules' versions
    try:
        model.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise CompressitError(f"these weights do not fit the model: {text}") from error
    _check_loaded(model, {**before, **used})


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of any safetensors file; those of a checkpoint dense, and tied ones under each of their names.

    Raises CompressitError if it is no such file, or damaged.
    """
    try:
        header = read_header(path)
    except CompressitError as error:
        if not isinstance(error.__cause__, NoManifestError):
            raise
        try:
            with naming(path):
                return tensors.read_any(path)
        except SafetensorError as broken:
            raise CompressitError(f"{path}: {broken}") from broken
    with naming(path):
        found = tensors.read(path, header)
    return found | {other: found[kept] for kept, other in header.manifest.tied if kept in found}


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...] | None]:
    """The shapes of the tensors in its state dict; None for those of lazy layers."""
    state = model.state_dict()
    return {n: None if is_lazy(v) else tuple(v.shape) for n, v in state.items() if isinstance(v, Tensor)}


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and not is_lazy(value)


def _check_types(own: dict[str, Tensor], used: dict[str, Tensor]) -> None:
    """Raises CompressitError for whole numbers where the net has floats: quantised weights, which need their scales."""
    for name, value in used.items():
        if _is_plain(own[name]) and own[name].is_floating_point() != value.is_floating_point():
            raise CompressitError(
                f"'{name}' is {value.dtype}, and the model has {own[name].dtype}",
                "use the weights as they were before they were quantised or converted",
            )


def _check_loaded(model: nn.Module, wanted: Mapping[str, Tensor]) -> None:
    """Raises CompressitError if a tensor that has several names was to get several values."""
    for name, value in model.state_dict().items():
        if name in wanted and not tensors.same_bits(value, wanted[name].to(value.dtype)):
            raise CompressitError(
                f"the model has '{name}' under another name too, with other values in the file",
                "name all of them in `fresh`, or none",
            )
