"""`compressit import`: weights from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.terminal import LocalFiles, Trust, open_host_with, say
from compressit.config import dump
from compressit.errors import CompressitError
from compressit.files.reading import kind
from compressit.host.plugins import Host
from compressit.recipe.settings import options_of
from compressit.recipe.validation import checked

if TYPE_CHECKING:
    from compressit.importing.described import Described

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
    model: Annotated[
        str | None,
        typer.Option(
            help="The model plugin that builds a FILE's network: gives a checkpoint that describes itself."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of --model; repeatable."),
    ] = None,
    shape: Annotated[
        str | None, typer.Option("--input", help="With --model: the shape of one input, for example 3x32x32.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="With --model: its outputs; default: the length of FILE's last tensor.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="With --model: how its training scaled inputs: unit (the default), imagenet, or "
            "'{mean: […], std: […]}'."
        ),
    ] = None,
    plugins: LocalFiles = None,
    trust: Trust = False,
) -> None:
    """Turn weights from elsewhere into a .safetensors file.

    A FILE gives a plain one for `model: {uses: …, weights: FILE}`; with --model, a checkpoint for
    `model: {from: FILE}`, which needs nothing else. LIBRARY:NAME downloads that library's own weights of
    model.LIBRARY and gives a checkpoint too. No code from a file runs.
    """
    told = {"--set": settings, "--input": shape, "--classes": classes, "--scale": scale}
    given = [option for option, value in told.items() if value is not None]
    if model is None and given:
        raise CompressitError(f"{given[0]} goes with --model, which names the network of a file's weights")
    library = _LIBRARY.fullmatch(source)
    if library is None or kind(Path(source)) is not None:
        path = Path(source)
        if path.is_dir():
            raise CompressitError(f"{path} is a folder", "give the path of a file with weights")
        target = _target(out or path.with_suffix(_ENDING), path)
        described = None
        if model is not None:
            described = _described(
                model, settings or [], shape, classes, scale, open_host_with(plugins, trust)
            )
        from compressit.importing.weights import import_weights

        say(*import_weights(path, target, take, keep_names, described).lines())
        return
    if model is not None:
        raise CompressitError("--model is for files: a library's weights know their network")
    if take is not None or keep_names:
        raise CompressitError("--take and --keep-names are for files, not for a library's weights")
    host = open_host_with(plugins, trust)
    target = _target(out or Path(f"{library[2]}{_ENDING}"))
    from compressit.importing.pretrained import import_pretrained

    say(*import_pretrained(library[1], library[2], target, host))


def _described(
    model: str, settings: list[str], shape: str | None, classes: int | None, scale: str | None, host: Host
) -> Described:
    if shape is None:
        raise CompressitError("--model needs --input", "the shape of one input: --input 3x32x32")
    plugin = host.find(model, "model").plugin
    options = dump(checked(plugin.Config, options_of(settings), model))
    told = options_of([f"input=[{shape.replace('x', ',')}]", *([f"scale={scale}"] if scale else [])])
    from compressit.importing.described import Described, Told

    return Described(model, options, checked(Told, told | {"classes": classes}, "import"), host)


def _target(target: Path, source: Path | None = None) -> Path:
    """The file to write; an existing one will be replaced."""
    if target.suffix != _ENDING or target.is_dir():
        raise CompressitError(f"--out {target}: give a file name that ends in {_ENDING}")
    if source is not None and target.absolute() == source.absolute():
        raise CompressitError(f"{target} is the file itself", "choose another path with --out")
    return target
