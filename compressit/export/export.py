"""`export`: one checkpoint as ONNX, as a torch.export program, or as a folder to publish."""

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
"""What each kind of export ends in."""


def export(
    path: Path,
    to: str,
    out: Path | None = None,
    *,
    host: Host | None = None,
    compact: bool = False,
    limited: bool = True,
) -> Path:
    """Writes the checkpoint at `path` as `to` ("folder", "onnx", "torch-export"); returns where it is.

    `out` is by default beside the checkpoint, with another ending. A file that is there is replaced, and so
    are the files of an exported folder; any other folder that is not empty is refused. `compact` stores a
    folder's sparse tensors without their zeros. `limited`: building the model and running it on an input of its size
    may take the memory and time that go with the file's size. What was written gave the model's outputs, or nothing was
    written. Raises CompressitError.
    """
    if to not in ENDINGS:
        raise CompressitError(f"--to {to}: there is no such export", did_you_mean(to, ENDINGS))
    if compact and to != "folder":
        raise CompressitError(f"--compact is for folders: {to} has no such form", "leave it out")
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
        except OSError as error:  # a folder one may not write to, a full disk
            reason = error.strerror or type(error).__name__
            raise CompressitError(
                f"cannot write {target}: {reason}", "give another place with --out"
            ) from error
    return target


def _check_target(path: Path, target: Path, to: str) -> None:
    ending = ENDINGS[to]
    if ending and (target.suffix != ending or target.is_dir()):
        raise CompressitError(f"--out {target}: {to} is written to a file that ends in {ending}")
    if not ending and not _takes_folder(target):
        raise CompressitError(f"--out {target} is there, and no export wrote it", "give another folder")
    if target.absolute() == path.absolute():
        raise CompressitError(f"{target} is the checkpoint itself", "say with --out where to write to")


def _takes_folder(target: Path) -> bool:
    """Whether it is free, an empty folder, or one that an export wrote."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return True
    try:
        about = json.loads(content(target / "config.json").decode())
        return about["format"]["name"] == "compressit"
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False
