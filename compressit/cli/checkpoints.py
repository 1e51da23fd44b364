"""Commands on checkpoint files: inspect, evaluate, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from compressit.cli.terminal import AsJson, LocalFiles, Trust, open_host_with, put, say, tell
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
        for kind, given in (("curve", found.curves), ("array", found.arrays), ("picture", found.pictures)):
            for name in given:
                say(f"{name:24} ({kind}: get it with compressit.evaluate in Python)")


def export(
    file: CheckpointFile,
    to: Annotated[str, typer.Option(help="onnx, torch-export or folder (weights, config and a model card).")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: beside FILE.")] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="Store a folder's sparse tensors without their zeros.")
    ] = False,
    unlimited: Unlimited = False,
    plugins: LocalFiles = None,
    trust: Trust = False,
) -> None:
    """Write a checkpoint for other programs.

    The exported model's outputs are compared with the original's.
    """
    from compressit.export.export import export as write

    host = open_host_with(plugins, trust)
    say(write(file, to, out, host=host, compact=compact, limited=not unlimited))
