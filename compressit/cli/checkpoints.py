"""Commands on checkpoint files: inspect, evaluate, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from compressit.cli.terminal import AsJson, LocalFiles, Trust, open_host_with, put, say, tell
from compressit.errors import CompressitError
from compressit.exporting.export import IMAGES
from compressit.files.reading import checkpoint_file

CheckpointFile = Annotated[
    Path,
    typer.Argument(help="A compressit .safetensors file.", show_default=False, callback=checkpoint_file),
]


CheckpointFiles = Annotated[
    list[Path],
    typer.Argument(
        help="compressit .safetensors files.",
        show_default=False,
        callback=lambda files: [checkpoint_file(file) for file in files],
    ),
]
Unlimited = Annotated[
    bool,
    typer.Option("--unlimited", help="No limits on memory and time; only for files you made yourself."),
]


def inspect(file: CheckpointFile, as_json: AsJson = False) -> None:
    """Show a checkpoint: architecture, sizes, inputs, lineage."""
    from compressit.checkpoint.inspect import facts, render

    found = facts(file)
    put(json.dumps(found, indent=1, sort_keys=True) if as_json else render(found))


def evaluate(
    files: CheckpointFiles,
    data: Annotated[str, typer.Option(help="A dataset plugin, for example data.mnist.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the dataset: --set labels=random (repeatable)."),
    ] = None,
    evaluators: Annotated[
        list[str] | None,
        typer.Option(
            "--evaluator",
            help="Evaluators; default: eval.accuracy (for a task of no classes eval.scores) and eval.size.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="The seed of the run whose numbers to get, for evaluators that draw.")
    ] = 0,
    options: Annotated[
        list[str] | None,
        typer.Option("--with", help="An option of an evaluator: --with eval.latency.warmup=3 (repeatable)."),
    ] = None,
    unlimited: Unlimited = False,
    plugins: LocalFiles = None,
    trust: Trust = False,
) -> None:
    """Measure checkpoints on a dataset."""
    from compressit.python.evaluation import evaluate_file
    from compressit.recipe.settings import options_by_plugin

    host = open_host_with(plugins, trust)
    names = evaluators or ()
    chosen = options_by_plugin(options or (), names)
    for file in files:
        found = evaluate_file(
            file, data, settings or (), names, host, tell, not unlimited, options=chosen, seed=seed
        )
        if len(files) > 1:
            say(str(file))
        for name, value in found.items():
            say(f"{name:24} {value:.6g}")
        kinds = {"curve": found.curves, "array": found.arrays, "picture": found.pictures, "file": found.files}
        for kind, given in kinds.items():
            for name in given:
                say(f"{name:24} ({kind}: get it with compressit.evaluate in Python)")


def export(
    file: CheckpointFile,
    to: Annotated[str, typer.Option(help="onnx, torch-export or folder (weights, config and a model card).")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: beside FILE.")] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="ONNX in whole numbers: smaller and faster; needs --calibrate.")
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="For --int8: a dataset plugin. Ranges come from its training split, the accuracy told from its test "
            "split.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the dataset: --set root=photos (repeatable)."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Training examples that ranges come from.")] = IMAGES,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Refuse an int8 file that loses more of what the task watches; default: 0.01 of an accuracy.",
            show_default=False,
        ),
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Store a folder's sparse tensors without their zeros.")
    ] = False,
    unlimited: Unlimited = False,
    plugins: LocalFiles = None,
    trust: Trust = False,
) -> None:
    """Write a checkpoint for other programs.

    The exported model's outputs are compared with the original's; those of --int8 on test data.
    """
    from compressit.exporting.export import export as write

    if int8 != (calibrate is not None):
        missing, given = ("--calibrate DATA", "--int8") if int8 else ("--int8", "--calibrate")
        raise CompressitError(
            f"{given} needs {missing}", "for example --int8 --calibrate data.folder --set root=photos"
        )
    for option, unused in (("--set", bool(settings)), ("--max-drop", max_drop is not None)):
        if unused and not int8:
            raise CompressitError(
                f"{option} is for --int8", "leave it out, or export with --int8 --calibrate DATA"
            )
    host = open_host_with(plugins, trust)
    say(
        write(
            file, to, out, int8=calibrate, settings=settings or (), images=images, max_drop=max_drop,
            compact=compact, limited=not unlimited, host=host, announce=say,
        )
    )  # fmt: skip
