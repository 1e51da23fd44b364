"""Reads the examples of a split from an `.npz` or `.safetensors` file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from compressit import CompressitError, InputTensors, opened
from compressit_plugins.data.array_files import MALFORMED, Header


def read(
    path: Path, split: str, inputs: Sequence[str] | Mapping[str, str] | None, arrays: Mapping[str, Header]
) -> tuple[InputTensors, Tensor]:
    """Inputs (N, *shape), floats as float32, and targets (N, ...), int64 or float32. `inputs`: as the option names
    them. Raises CompressitError for a damaged file."""
    parts = ("x",) if inputs is None else inputs.values() if isinstance(inputs, Mapping) else inputs
    names = [f"{split}_{part}" for part in (*parts, "y")]
    try:
        found = _of_npz(path, names) if path.suffix == ".npz" else _of_safetensors(path, names)
    except (*MALFORMED, SafetensorError) as error:
        raise CompressitError(f"{path} cannot be read: {error}", "save it again") from error
    for name, tensor in zip(names, found, strict=True):
        if tuple(tensor.shape) != arrays[name].shape:
            raise CompressitError(f"{path} has changed since its header was read", "start again")
    *tensors, y = (tensor.float() if tensor.is_floating_point() else tensor for tensor in found)
    targets = y if y.is_floating_point() else y.long()
    if inputs is None:
        return tensors[0], targets
    named = isinstance(inputs, Mapping)
    return dict(zip(inputs, tensors, strict=True)) if named else tuple(tensors), targets


def _of_npz(path: Path, names: Sequence[str]) -> list[Tensor]:
    def array(archive: zipfile.ZipFile, name: str) -> Tensor:
        with archive.open(f"{name}.npy") as member:
            values = np.lib.format.read_array(member, allow_pickle=False)
        if values.dtype.kind in "iu" and values.dtype != np.uint8:
            values = values.astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))

    with opened(path) as file, zipfile.ZipFile(file) as archive:
        return [array(archive, name) for name in names]


def _of_safetensors(path: Path, names: Sequence[str]) -> list[Tensor]:
    with safe_open(path, "pt") as file:
        return [file.get_tensor(name).clone() for name in names]
