"""The command sensitivity: what each layer of a model can lose, and ratios per layer that follow from it."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.recipes import Profile, Settings, StoreFolder
from compressit.cli.terminal import (
    Trust,
    command,
    console,
    forgive_output,
    load,
    open_host,
    put,
    say,
    table,
)
from compressit.errors import CompressitError

if TYPE_CHECKING:
    from compressit.host.plugins import Host
    from compressit.recipe.model import Recipe
    from compressit.searching.sensitivity import Sensitivities


def sensitivity(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RECIPE|FILE", help="A recipe, or a .safetensors file with --data.", show_default=False
        ),
    ],
    stage: Annotated[
        str | None,
        typer.Option(help="Whose model; default: the one that the first pruning gets.", show_default=False),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="For a FILE: a dataset plugin, for example data.mnist.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0, help="Print ratios by which no layer alone costs more than this.", show_default=False
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(help="With --max-drop: a new recipe with these ratios.", show_default=False),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help="An option of eval.sensitivity: --with eval.sensitivity.ratios=[0.5] (repeatable)."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/<name>-sensitivity.")] = None,
    store: StoreFolder = None,
    profile: Profile = None,
    settings: Settings = None,
    trust: Trust = False,
) -> None:
    """Measure what a model loses when one layer is pruned, layer by layer.

    Judges by the validation split (without one by the training examples), first variant and seed. With a FILE, --set
    sets options of the dataset.
    """
    from compressit import api
    from compressit.cli.signals import Ended
    from compressit.recipe.settings import options_by_plugin
    from compressit.searching.sensitivity import EVALUATOR, Question, with_shares

    forgive_output()
    _check(source, data, max_drop, write)
    host = open_host()
    given = options_by_plugin(options or (), [EVALUATOR])[EVALUATOR]
    if data is not None:
        loaded = _measuring(source, data, settings or (), host)
    else:
        loaded = load(source, profile, settings, trust, host)
    asked = Question.about(loaded, stage, given, host)
    gc.enable()
    try:
        done = api.run(
            asked.recipe, out=out, store=store, host=host, command=command(), console=console(), live=False
        )
    except Ended as ended:
        say("", f"{ended}; finished work is kept. To continue: {command()}")
        raise typer.Exit(128 + ended.number) from None
    found = asked.answer(done.results)
    _show(found, asked.of)
    say(f"figure: {done.folder / found.picture}")
    if max_drop is None:
        return
    shares = asked.shares(found, max_drop)
    put(
        "\n".join(
            [f"{asked.option}:{'' if shares else ' {}'}", *(f"  {n}: {v:g}" for n, v in shares.items())]
        )
    )
    say(
        f"{len(shares)} of {len(found.layers)} layers have a share of their own; the others make up for what these keep"
    )
    if write is not None:
        from compressit.files.writing import replace

        replace(write, with_shares(loaded, asked, shares).encode())
        say(f"recipe: {write}")


def _check(source: Path, data: str | None, max_drop: float | None, write: Path | None) -> None:
    if (source.suffix == ".safetensors") != (data is not None):
        hint = f"--data {'is needed with' if data is None else 'is only for'} a .safetensors file"
        raise CompressitError(
            f"{source}: {hint}", "a recipe has its own data; for a file name a dataset plugin"
        )
    if write is not None and max_drop is None:
        raise CompressitError("--write needs --max-drop", "say how much a layer may lose: --max-drop 0.01")
    if write is not None and write.exists():
        raise CompressitError(f"{write} is there already", "choose another name, or remove it")


def _measuring(file: Path, data: str, settings: list[str] | tuple[()], host: Host) -> Recipe:
    """A recipe that only measures this checkpoint."""
    from compressit.files.reading import checkpoint_file
    from compressit.recipe.load import Recipe
    from compressit.recipe.settings import options_of

    path = checkpoint_file(file)
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem).lstrip("_.-") or "model"
    return Recipe.of(
        {
            "version": 1,
            "name": name,
            "data": {"uses": data, "with": options_of(settings)},
            "model": {"from": str(path.resolve())},
            "evaluate": ["eval.size"],
        },
        host,
    )


def _show(found: Sensitivities, of: str) -> None:
    order = found.ordered()
    whole = found.layers[order[0]][0]
    say(f"{found.watched} of the whole model: {whole:.4f}; lost where one layer loses a part of its {of}:")
    head = ["layer", *(f"-{ratio:.3g}" for ratio in found.ratios[1:])]
    put(
        table(
            head,
            [[name, *(f"{round(drop, 4) + 0.0:.4f}" for drop in found.drops(name)[1:])] for name in order],
        )
    )
    say(f"most sensitive: {', '.join(order[:3])}; least: {', '.join(order[:-4:-1])}")
