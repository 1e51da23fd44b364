"""`export`: writes a checkpoint as ONNX, as a torch.export program, or as a folder to publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from compressit.checkpoint.header import naming, read_header
from compressit.errors import CompressitError, did_you_mean
from compressit.files.reading import content

if TYPE_CHECKING:
    from compressit.host.plugins import Host

ENDINGS = {"folder": "", "onnx": ".onnx", "torch-export": ".pt2"}
"""File name suffix of each kind of export."""


def export(
    path: Path,
    to: str,
    out: Path | None = None,
    *,
    host: Host | None = None,
    compact: bool = False,
    limited: bool = True,
) -> Path:
    """Exports the checkpoint at `path` as `to` ("folder", "onnx", "torch-export"); returns the export's path.

    `out` defaults to the checkpoint's path with another suffix. An existing file or exported folder is replaced; any
    other folder that is not empty is rejected. `compact` stores a folder's sparse tensors without their zeros.
    `limited` bounds the memory and time of building and running the model by the file's size. The export is only
    written if it gives the model's outputs. Raises CompressitError.
    """
    if to not in ENDINGS:
        raise CompressitError(f"--to {to}: unknown export format", did_you_mean(to, ENDINGS))
    if compact and to != "folder":
        raise CompressitError(f"--compact only works with --to folder, not with --to {to}", "leave it out")
    read_header(path)
    target = out if out is not None else path.with_suffix(ENDINGS[to])
    _check_target(path, target, to)
    from compressit.export import folder, onnx, torch_export
    from compressit.export.subject import opened

    subject = opened(path, host, limited)
    with naming(path):
        try:
            if to == "onnx":
                onnx.write(subject, target)
            elif to == "torch-export":
                torch_export.write(subject, target)
            else:
                folder.write(subject, target, compact, host)
        except OSError as error:  # a read-only folder or a full disk
            reason = error.strerror or type(error).__name__
            raise CompressitError(
                f"cannot write {target}: {reason}", "choose another path with --out"
            ) from error
    return target


def _check_target(path: Path, target: Path, to: str) -> None:
    ending = ENDINGS[to]
    if ending and (target.suffix != ending or target.is_dir()):
        raise CompressitError(f"--out {target}: for {to}, give a file name that ends in {ending}")
    if not ending and not _takes_folder(target):
        raise CompressitError(f"--out {target} exists, and no export wrote it", "choose another folder")
    if target.absolute() == path.absolute():
        raise CompressitError(f"{target} is the checkpoint itself", "choose another path with --out")


def _takes_folder(target: Path) -> bool:
    """Whether the target does not exist, is an empty folder, or was written by an export."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return True
    try:
        about = json.loads(content(target / "config.json").decode())
        return about["format"]["name"] == "compressit"
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False
