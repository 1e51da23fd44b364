"""`compressit import`: weights from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from compressit.cli.terminal import LocalFiles, Trust, open_host_with, say
from compressit.errors import CompressitError
from compressit.files.reading import kind

_LIBRARY = re.compile(r"(\w+):([\w.-]+)")
_ENDING = ".safetensors"


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A .pth, .pt, .bin or .ckpt file, or LIBRARY:NAME, for example torchvision:resnet18.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The .safetensors file to write; default: SOURCE with that ending."),
    ] = None,
    take: Annotated[
        str | None, typer.Option(help="Which part of a FILE with several, for example --take model_ema.")
    ] = None,
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Keep prefixes such as `module.` in names.")
    ] = False,
    plugins: LocalFiles = None,
    trust: Trust = False,
) -> None:
    """Turn weights from elsewhere into a .safetensors file.

    A FILE gives a plain one for `model: {uses: …, weights: FILE}`. LIBRARY:NAME downloads that library's own weights of
    model.LIBRARY and gives a checkpoint for `model: {from: FILE}`. No code from a file runs.
    """
    library = _LIBRARY.fullmatch(source)
    if library is None or kind(Path(source)) is not None:
        path = Path(source)
        if path.is_dir():
            raise CompressitError(f"{path} is a folder", "give the path of a file with weights")
        target = _target(out or path.with_suffix(_ENDING), path)
        from compressit.importing.weights import import_weights

        say(*import_weights(path, target, take, keep_names).lines())
        return
    if take is not None or keep_names:
        raise CompressitError("--take and --keep-names are for files, not for a library's weights")
    host = open_host_with(plugins, trust)
    target = _target(out or Path(f"{library[2]}{_ENDING}"))
    from compressit.importing.pretrained import import_pretrained

    say(*import_pretrained(library[1], library[2], target, host))


def _target(target: Path, source: Path | None = None) -> Path:
    """The file to write; an existing one will be replaced."""
    if target.suffix != _ENDING or target.is_dir():
        raise CompressitError(f"--out {target}: give a file name that ends in {_ENDING}")
    if source is not None and target.absolute() == source.absolute():
        raise CompressitError(f"{target} is the file itself", "choose another path with --out")
    return target
