"""Reads a file that `torch.save` wrote. The only module that calls `torch.load`, and only with `weights_only=True`.

Such a file is a pickle, which can name any function to run. With `weights_only=True` torch interprets it itself: it
builds tensors, numbers, text, lists and dicts, and refuses everything else.
"""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from compressit.checkpoint.header import naming
from compressit.errors import CompressitError, told
from compressit.files.reading import opened

_ZIP, _PICKLE, _LFS = b"PK\x03\x04", b"\x80", b"version https://git-lfs"
_SAVED = "a file that `torch.save` wrote"
_ALONE = "in the program that made it, save the weights alone: `torch.save(model.state_dict(), FILE)`"


def read(path: Path) -> Any:
    """The file's content, on the CPU; tensors of newer files are mapped, not copied.

    Raises CompressitError, with the file's name, for anything else than tensors in plain values.
    """
    with naming(path):
        archive = _is_archive(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch about its own storages
                return torch.load(str(path), map_location="cpu", weights_only=True, mmap=archive)
        except OSError:
            raise
        except Exception as error:
            raise _fault(error) from error


def _is_archive(path: Path) -> bool:
    """True for the format since torch 1.6, False for the one before. Raises CompressitError for other files."""
    with opened(path) as file:
        start = file.read(64)
    if start.startswith(_PICKLE):
        return False
    if start.startswith(_LFS):
        hint = "get the content with `git lfs pull`, or download it"
        raise CompressitError("this is a pointer of Git LFS, not the file itself", hint)
    if not start.startswith(_ZIP):
        what = "it is empty" if not start else "it begins with other bytes"
        raise CompressitError(f"not {_SAVED}: {what}", "give a .pth, .pt, .bin or .ckpt file with weights")
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CompressitError("it is damaged or cut short", "get the file again") from error
    if "constants.pkl" in names:
        raise CompressitError("this is a TorchScript program, not weights", _ALONE)
    if "data.pkl" not in names:
        raise CompressitError(f"a zip archive, but not {_SAVED}", _ALONE)
    return True


def _fault(error: Exception) -> CompressitError:
    text = str(error)
    found = re.search(r"GLOBAL ([\w.]+)", text) or re.search(r"class ([\w.]+)", text)
    if found is not None or "Unsupported" in text:
        what = f"an object of {found[1]}" if found else "objects"
        return CompressitError(
            f"it holds {what}: a whole model, or something else than tensors, numbers, text, lists and dicts. "
            "To load such objects is to run code of the file, so they are refused",
            _ALONE,
        )
    if isinstance(error, MemoryError) or "not enough memory" in text:
        return CompressitError("it does not fit into this machine's memory")
    reason = told(error).splitlines()[0]
    return CompressitError(f"it is damaged or cut short ({reason})", "get the file again")


@contextmanager
def only_weights() -> Generator[None]:
    """A block in which nobody, a library included, can unpickle more than `weights_only=True` does."""
    with _environment("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1"), _environment("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        yield


@contextmanager
def _environment(name: str, value: str | None = None) -> Generator[None]:
    """A block in which the variable has this value; None: is not set."""
    before = os.environ.pop(name, None)
    try:
        if value is not None:
            os.environ[name] = value
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
