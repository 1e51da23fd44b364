"""`export`: writes a checkpoint as ONNX, also in int8, as a torch.export program, or as a folder to publish."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressit.checkpoint.header import naming, read_header
from compressit.errors import CompressitError, did_you_mean
from compressit.files.reading import checkpoint_file, content

if TYPE_CHECKING:
    from compressit.datasets.splits import Data
    from compressit.exporting.subject import Subject
    from compressit.host.plugins import Host

ENDINGS = {"folder": "", "onnx": ".onnx", "torch-export": ".pt2"}
"""File name suffix of each kind of export."""


IMAGES = 256
"""Training examples that the ranges of an int8 file are taken from, by default."""


def export(
    path: Path | str,
    to: str,
    out: Path | str | None = None,
    *,
    int8: Data | str | None = None,
    settings: Sequence[str] = (),
    images: int = IMAGES,
    max_drop: float | None = None,
    compact: bool = False,
    limited: bool = True,
    host: Host | None = None,
    announce: Callable[[str], None] = print,
) -> Path:
    """Exports the checkpoint at `path` as `to` ("folder", "onnx", "torch-export"); returns the export's path.

    `out` defaults to the checkpoint's path with another suffix. An existing file or exported folder is replaced; any
    other folder that is not empty is rejected. The export is only written if it gives the model's outputs.

    `int8`: writes ONNX in whole numbers (`int8.quantised`), with nearly the model's outputs. It names a dataset, with
    options in `settings` (`name=value`), or is the result of `compressit.data`: `images` of its training examples show
    the ranges of activations, and what the file loses on its test split is announced. `max_drop`: more than that is
    refused, in units of what the task watches; by default 0.01 of a fraction, such as an accuracy, else no limit.

    `compact` stores a folder's sparse tensors without their zeros. `limited` bounds the memory and time of building
    and running the model by the file's size. Raises CompressitError.
    """
    path = checkpoint_file(path)
    if to not in ENDINGS:
        raise CompressitError(f"--to {to}: unknown export format", did_you_mean(to, ENDINGS))
    for option, given, only in (("--compact", compact, "folder"), ("--int8", int8 is not None, "onnx")):
        if given and to != only:
            raise CompressitError(f"{option} only works with --to {only}, not with --to {to}", "leave it out")
    if images < 1:
        raise CompressitError(f"--images {images}: at least one image is needed", "leave it out for 256")
    read_header(path)
    ending = ".int8.onnx" if int8 is not None else ENDINGS[to]
    target = Path(out) if out is not None else path.with_suffix(ending)
    _check_target(path, target, to)
    from compressit.exporting import folder, onnx, torch_export
    from compressit.exporting.subject import opened

    def write(subject: Subject) -> None:
        if int8 is not None:
            from compressit.exporting import int8_file

            int8_file.write(
                subject, target, int8_file.Order(int8, settings, images, max_drop, announce), host
            )
        elif to == "onnx":
            onnx.write(subject, target)
        elif to == "torch-export":
            torch_export.write(subject, target)
        else:
            folder.write(subject, target, compact, host)

    subject = opened(path, host, limited)
    with naming(path):
        try:
            write(subject)
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
