"""Reads the examples of a split from an `.npz` or `.safetensors` file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from compressit import CompressitError, opened
from compressit_plugins.data.array_files import MALFORMED, Header


def read(path: Path, split: str, arrays: Mapping[str, Header]) -> tuple[Tensor, Tensor]:
    """Inputs (N, *shape), uint8 or float32, and targets (N, ...), int64 or float32.

    Raises CompressitError for a damaged file.
    """
    try:
        x, y = _of_npz(path, split) if path.suffix == ".npz" else _of_safetensors(path, split)
    except (*MALFORMED, SafetensorError) as error:
        raise CompressitError(f"{path} cannot be read: {error}", "save it again") from error
    for name, tensor in ((f"{split}_x", x), (f"{split}_y", y)):
        if tuple(tensor.shape) != arrays[name].shape:
            raise CompressitError(f"{path} has changed since its header was read", "start again")
    return x if x.dtype == torch.uint8 else x.float(), y.float() if y.is_floating_point() else y.long()


def _of_npz(path: Path, split: str) -> tuple[Tensor, Tensor]:
    def array(archive: zipfile.ZipFile, name: str) -> Tensor:
        with archive.open(f"{name}.npy") as member:
            values = np.lib.format.read_array(member, allow_pickle=False)
        if values.dtype.kind in "iub" and values.dtype != np.uint8:
            values = values.astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))

    with opened(path) as file, zipfile.ZipFile(file) as archive:
        return array(archive, f"{split}_x"), array(archive, f"{split}_y")


def _of_safetensors(path: Path, split: str) -> tuple[Tensor, Tensor]:
    with safe_open(path, "pt") as file:
        return file.get_tensor(f"{split}_x").clone(), file.get_tensor(f"{split}_y").clone()
