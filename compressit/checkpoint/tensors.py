"""A model's tensors on their way into a file and back: ties, shapes, types."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from compressit.checkpoint.compact import unpack
from compressit.checkpoint.header import KEY, Header, check_digest
from compressit.checkpoint.manifest import Manifest, encode
from compressit.checkpoint.modules import has_tensor, submodule, unsaved_buffers
from compressit.errors import CompressitError
from compressit.files.reading import opened

TYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16", torch.int16: "I16",
    torch.uint32: "U32", torch.int32: "I32", torch.uint64: "U64", torch.int64: "I64", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e4m3fnuz: "F8_E4M3FNUZ", torch.float8_e5m2: "F8_E5M2",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}  # fmt: skip
"""Safetensors' names of torch's types."""
_DTYPES = {name: dtype for dtype, name in TYPES.items()}


def check_storable(model: nn.Module) -> None:
    """Raises CompressitError for what a file cannot hold: objects in the state dict, sparse, meta tensors.

    And for layers whose weight is computed before every forward by torch's old `weight_norm` or `prune`, which
    could not be loaded into a fresh network.
    """
    for name, value in (*model.state_dict(keep_vars=True).items(), *model.named_buffers()):
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise CompressitError(f"the state '{name}' is a {kind}; a checkpoint holds tensors only")
        if is_lazy(value):
            raise CompressitError(
                f"'{name}' has no values yet", "run the model forward once before saving it"
            )
        if value.is_meta or value.layout is not torch.strided or value.dtype not in TYPES:
            what = f"{value.dtype}, {value.layout}, on {value.device}"
            raise CompressitError(f"the tensor '{name}' cannot be stored: {what}")
        if name == "__metadata__":
            raise CompressitError(f"no tensor of a safetensors file can be called '{name}'", "rename it")
    for at, layer in model.named_modules():
        for name, value in vars(layer).items():
            if not isinstance(value, Tensor):
                continue
            if has_tensor(layer, f"{name}_mask") and has_tensor(layer, f"{name}_orig"):
                _refuse_computed(at, name, "a pruning mask", f"torch.nn.utils.prune.remove(layer, '{name}')")
            if has_tensor(layer, f"{name}_g") and has_tensor(layer, f"{name}_v"):
                _refuse_computed(
                    at, name, "weight_norm", f"torch.nn.utils.remove_weight_norm(layer, '{name}')"
                )


def collect(model: nn.Module) -> tuple[dict[str, Tensor], list[tuple[str, str]]]:
    """A model's tensors on the CPU, contiguous, none sharing memory; and (kept, other) names of tied ones."""
    tensors: dict[str, Tensor] = {}
    first: dict[Any, str] = {}
    tied: list[tuple[str, str]] = []
    for name, value in model.state_dict(keep_vars=True).items():
        same = (value.data_ptr(), value.dtype, value.shape, value.stride())
        if value.numel() and same in first:
            tied.append((first[same], name))
            continue
        first[same] = name
        tensors[name] = _own(value)
    return tensors, tied


def write(tensors: dict[str, Tensor], path: Path, manifest: Manifest) -> None:
    """One safetensors file of these tensors. Raises CompressitError when it cannot be written."""
    try:
        save_file(tensors, path, {KEY: encode(manifest)})
    except SafetensorError as error:  # a full disk, for one
        raise CompressitError(f"cannot be written: {error}") from error


def read(path: Path, header: Header) -> dict[str, Tensor]:
    """The file's tensors by name, dense. Raises CompressitError when they were changed since they were saved.

    Read, not mapped: a mapped file could change later, and its alignment could change outputs' last bits.
    """
    tensors: dict[str, Tensor] = {}
    with opened(path) as file:
        for name, info in sorted(header.tensors.items(), key=lambda item: item[1].offsets):
            tensors[name] = torch.empty(info.shape, dtype=_DTYPES[info.dtype])
            file.seek(header.start + info.offsets[0])
            file.readinto(_bytes(tensors[name]))  # what is missing after a short read, the digest finds
    check_digest(header, parts(tensors))
    for name, tensor in tensors.items():
        if tensor.dtype is torch.bool and tensor.view(torch.uint8).gt(1).any():
            raise CompressitError(f"the tensor {name!r} of true and false holds bytes other than 1 and 0")
    return unpack(tensors, header.manifest.compact)


def read_any(path: Path) -> dict[str, Tensor]:
    """The tensors of any safetensors file, in memory of our own: not mapped, as `read` says.

    Raises OSError or SafetensorError.
    """
    opened(path).close()
    return {name: value.clone() for name, value in load_file(path).items()}


def parts(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, tuple[int, ...], Any]]:
    """What `header.tensors_digest` takes, from contiguous CPU tensors."""
    for name, tensor in sorted(tensors.items()):
        yield name, TYPES[tensor.dtype], tuple(tensor.shape), _bytes(tensor)


def put(model: nn.Module, tensors: Mapping[str, Tensor], tied: Sequence[tuple[str, str]]) -> None:
    """Gives a model these tensors in place, with their shapes and types, each exactly once.

    `requires_grad` stays as it is. Raises CompressitError when names are missing, left over, or tied wrongly.
    """
    state = OrderedDict(tensors)
    for kept, other in tied:
        if kept not in tensors or other in tensors:
            raise CompressitError(f"the tie of {other!r} to {kept!r} does not fit its tensors")
        state[other] = tensors[kept]
    expected = model.state_dict(keep_vars=True)
    _check_names(expected.keys(), state.keys())
    _convert(model, tensors)
    for name, tensor in state.items():
        _reshape(model, name, tensor)
    state._metadata = getattr(expected, "_metadata", {})  # type: ignore[attr-defined]  # versions of the modules
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CompressitError(f"its tensors do not fit the model: {error}") from error
    retie(model, tied)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor) or tensor.is_meta:
            raise CompressitError(
                f"'{name}' is left without values: neither the file nor the builder has any"
            )


def narrow(model: nn.Module, shapes: Mapping[str, Sequence[int]]) -> list[nn.Module]:
    """Cuts the tensors of a freshly built model to these smaller shapes; gives the layers where that changed one.

    What stays is the corner of the builder's own tensor. Raises CompressitError for a shape that is no part of it.
    """
    changed: dict[nn.Module, None] = {}
    for name, shape in shapes.items():
        module, attribute = place(model, name)
        old = getattr(module, attribute)
        if old is not None and tuple(old.shape) == tuple(shape):
            continue
        if old is None or old.ndim != len(shape) or any(map(operator.gt, shape, old.shape)):
            raise CompressitError(f"{name!r} cannot get new weights of shape {tuple(shape)}")
        corner = old.detach()[tuple(map(slice, shape))].clone()
        is_parameter = isinstance(old, nn.Parameter)
        setattr(module, attribute, nn.Parameter(corner, old.requires_grad) if is_parameter else corner)
        changed[module] = None
    return list(changed)


def draw(layers: Sequence[nn.Module]) -> None:
    """New weights by each layer's `reset_parameters`, where it has one. Raises CompressitError when that fails."""
    for layer in layers:
        reset = getattr(layer, "reset_parameters", None)
        if not callable(reset):
            continue
        try:
            reset()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise CompressitError(f"a {type(layer).__name__} cannot get new weights: {reason}") from error


def retie(model: nn.Module, tied: Sequence[tuple[str, str]]) -> None:
    """Makes each pair of names one and the same tensor again."""
    for kept, other in tied:
        (source, attribute), (target, name) = place(model, kept), place(model, other)
        setattr(target, name, getattr(source, attribute))


def place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module and attribute that hold a tensor of the state dict. Raises CompressitError if none does."""
    path, _, attribute = name.rpartition(".")
    module = submodule(model, path)
    if module is None or not has_tensor(module, attribute):
        raise CompressitError(f"the model has no tensor {name!r}")
    return module, attribute


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal to the last bit, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other)))


def _refuse_computed(at: str, name: str, what: str, remedy: str) -> None:
    raise CompressitError(
        f"{name} of the layer {at or 'at the top'} is computed from {what}, which a checkpoint does not hold",
        f"make it an ordinary tensor before saving, with `{remedy}`",
    )


def _bytes(tensor: Tensor) -> Any:
    """The memory of a contiguous CPU tensor."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _own(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value if whole else value.clone()


def _check_names(expected: Any, given: Any) -> None:
    missing, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    parts = [
        f"{what}: {', '.join(map(repr, names[:5]))}{' …' if len(names) > 5 else ''}"
        for what, names in (("not in the file", missing), ("not in the model", unknown))
        if names
    ]
    if parts:
        raise CompressitError(f"its tensors do not fit the model; {'; '.join(parts)}")


def _convert(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Buffers that are not in the file follow the one floating type the file's tensors have."""
    types = {t.dtype for t in tensors.values() if t.is_floating_point()}
    if len(types) == 1:
        for module in model.modules():
            for name, buffer in unsaved_buffers(module).items():
                if buffer.is_floating_point():
                    setattr(module, name, buffer.to(next(iter(types))))


def _reshape(model: nn.Module, name: str, tensor: Tensor) -> None:
    """A placeholder of the file's shape and type, which `load_state_dict(assign=True)` then accepts."""
    module, attribute = place(model, name)
    old = getattr(module, attribute)
    if old is None:
        raise CompressitError(f"its tensors do not fit the model; not in the model: {name!r}")
    if not is_lazy(old) and old.shape == tensor.shape and old.dtype == tensor.dtype:
        return
    new = torch.empty_like(tensor, device="meta")
    if isinstance(old, nn.Parameter):
        can_learn = tensor.is_floating_point() or tensor.is_complex()
        new = nn.Parameter(new, requires_grad=old.requires_grad and can_learn)
    setattr(module, attribute, new)
