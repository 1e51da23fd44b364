"""The command search: tries a recipe's strategies and ratios, and writes the winner as a recipe."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated

import typer

from compressit.cli.recipes import Profile, RecipeFile, Settings, StoreFolder
from compressit.cli.terminal import Trust, command, console, forgive_output, load, open_host, put, say
from compressit.errors import StageFailed


def search(
    recipe: RecipeFile,
    minimize: Annotated[
        str,
        typer.Option(help="The column to make small: macs, parameters, nonzero, bytes …", show_default=False),
    ],
    max_drop: Annotated[
        float,
        typer.Option(min=0, help="How much of the metric may be lost; 0.005 of an accuracy is half a point."),
    ] = 0.005,
    metric: Annotated[
        str | None,
        typer.Option(
            help="A column of the validation split; default: what the task watches.", show_default=False
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Models to try in all.")] = 40,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes, and trials side by side.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the search; the recipe's seeds are its own.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the search; default: runs/<name>-search.")
    ] = None,
    store: StoreFolder = None,
    job_timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="SECONDS",
            help="Stop a job that takes longer: its trial fails.",
            show_default=False,
        ),
    ] = None,
    profile: Profile = None,
    settings: Settings = None,
    trust: Trust = False,
) -> None:
    """Search a recipe for the smallest model that loses no more than is allowed.

    Chooses by the validation split. The same command continues where it was stopped.
    """
    from compressit import api
    from compressit.cli.signals import Ended

    forgive_output()
    host = open_host()
    loaded = load(recipe, profile, settings, trust, host)
    gc.enable()
    try:
        found = api.search(
            loaded,
            minimize=minimize,
            max_drop=max_drop,
            metric=metric,
            trials=trials,
            jobs=jobs,
            seed=seed,
            out=out,
            store=store,
            job_timeout=job_timeout,
            host=host,
            console=console(),
            command=command(),
        )
    except Ended as ended:
        say("", f"{ended}; finished trials are kept. To continue: {command()}")
        raise typer.Exit(128 + ended.number) from None
    put(found.table())
    if found.winner is None:
        raise StageFailed(found.reason)
    tests = (
        f"{name}: {after:.4f}, of its original {before:.4f}" for name, (before, after) in found.tests.items()
    )
    say(found.reason, *tests, f"recipe: {found.recipe}", f"report: {found.folder / 'winner' / 'report.html'}")
