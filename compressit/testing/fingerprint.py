"""Detects any change to a tensor, model or data, without copies and at the speed of reading memory.

Does not use a tensor's change counter (`_version`): writes through `.data` do not increase it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor, nn

# 64-bit words per row of a large tensor. A prime, so that a row is not a whole number of images, and values that
# swap places change columns.
_COLUMNS = 16_381
_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


def fingerprint(value: object) -> dict[str, Hashable]:
    """A fingerprint of each part of `value`, by name.

    Parts are tensors; a module's layers, tensors, modes and hooks; and the parts of a dataclass's fields (`train.x`).
    Other values have no parts. Different bits give different fingerprints, except if the words of a tensor above
    256 KiB have the same sum in each of 16,381 columns.
    """
    return dict(_parts(value, ""))


def changed(before: Mapping[str, Hashable], now: Mapping[str, Hashable]) -> list[str]:
    """The names of the parts that differ."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _parts(value: object, name: str) -> Iterator[tuple[str, Hashable]]:
    if isinstance(value, Tensor):
        yield name or "its values", _of_tensor(value)
    elif isinstance(value, nn.Module):
        yield from _of_module(value, f"{name}." if name else "")
    elif isinstance(value, tuple | dict):  # of tensors: inputs of several
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(part, Tensor | tuple | dict):
                yield from _parts(part, f"{name}.{key}".lstrip("."))
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _parts(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))


def _of_module(model: nn.Module, at: str) -> Iterator[tuple[str, Hashable]]:
    for name, layer in model.named_modules():
        shown = f"{at}{name}" or "the whole"
        yield f"the type of {shown}", type(layer)
        yield f"train or eval mode of {shown}", layer.training
        yield f"hooks on {shown}", tuple(len(getattr(layer, kind, None) or ()) for kind in _HOOKS)
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            yield f"{at}{name}", _of_tensor(tensor)


def _of_tensor(tensor: Tensor) -> Hashable:
    facts = (tuple(tensor.shape), tensor.dtype, tensor.requires_grad)
    if tensor.is_meta or tensor.layout is not torch.strided:
        return facts
    with torch.no_grad():
        raw = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
        return facts, _digest(raw)


def _digest(raw: Tensor) -> bytes:
    """A digest of bytes; for many bytes, of their column sums and the remaining bytes."""
    digest = hashlib.blake2b(digest_size=16)
    rows = len(raw) // (8 * _COLUMNS)
    if rows > 1:
        if raw.storage_offset() % 8:  # words must be aligned
            raw = raw.clone()
        summed, raw = raw[: rows * _COLUMNS * 8], raw[rows * _COLUMNS * 8 :]
        sums = summed.view(torch.int64).view(rows, _COLUMNS).sum(0)
        digest.update(sums.cpu().numpy().data)
    digest.update(raw.cpu().numpy().data)
    return digest.digest()
