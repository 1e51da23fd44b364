"""`compressit new`: write a first plugin or recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.terminal import LocalFiles, Trust, open_host, open_host_with, say
from compressit.errors import CompressitError, did_you_mean

if TYPE_CHECKING:
    from compressit.host.plugins import Host

app = typer.Typer(no_args_is_help=True, help="Start a plugin or a recipe that runs.")

Folder = Annotated[Path, typer.Option(help="Where to write.")]


@app.command()
def plugin(
    name: Annotated[str, typer.Argument(help="kind.method, for example prune.mine.", show_default=False)],
    kind: Annotated[
        str | None,
        typer.Option(
            help="compressor, trainer, evaluator, model, dataset, task, report or observer; default: taken from the "
            "name (eval.mine is an evaluator), else compressor."
        ),
    ] = None,
    folder: Folder = Path(),
    package: Annotated[
        bool, typer.Option("--package", help="Write an installable package with a test.")
    ] = False,
) -> None:
    """Write a plugin and a recipe that uses it. Nothing is overwritten."""
    from compressit.host.plugins import KINDS
    from compressit.scaffold.files import refuse_existing, write_new
    from compressit.scaffold.plugin import NewPlugin, kind_of, plugin_files
    from compressit.scaffold.recipe import parts_around, recipe_text

    host = open_host()
    named = kind_of(name)
    kind = kind or named
    if kind not in KINDS:
        raise CompressitError(f"'{kind}' is not a kind of plugin", did_you_mean(kind, KINDS))
    if name in host.names():
        raise CompressitError(f"'{name}' is taken by {host.find(name).owner}", "choose another name")
    new = NewPlugin(name, kind, package)
    files = {folder / path: text for path, text in plugin_files(new)}
    recipe = folder / new.recipe
    refuse_existing(
        [*files, recipe],
        f"file names come from the part after the dot: choose another name, or --folder {name.split('.')[0]}",
    )
    parts_around(name, kind, host)  # raises before anything is written if, say, no dataset is installed
    write_new(files)
    host.load_file(folder / new.file)
    local = () if package else (f"./{new.file}",)
    write_new({recipe: recipe_text(recipe.stem, parts_around(name, kind, host), host, local)})
    for path in (*files, recipe):
        say(f"wrote {path}")
    say("", "next:")
    if package:
        say(f"  pip install -e '{folder / new.folder}[test]'")
    say(f"  compressit run {recipe}{'' if package else ' --trust'}")
    say(f"  compressit plugins check {name}{'' if package else f' --plugin {folder / new.file} --trust'}")


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="Name of the recipe; the file is NAME.yaml.")] = "recipe",
    data: Annotated[str | None, typer.Option(help="A dataset plugin.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="A model plugin.", show_default=False)] = None,
    stages: Annotated[
        list[str] | None,
        typer.Option("--stage", help="A trainer or compressor (repeatable, in order).", show_default=False),
    ] = None,
    evaluate: Annotated[
        list[str] | None,
        typer.Option(
            "--evaluate", help="An evaluator (repeatable); default: all quick ones.", show_default=False
        ),
    ] = None,
    plugins: LocalFiles = None,
    trust: Trust = False,
    folder: Folder = Path(),
) -> None:
    """Write a commented recipe of installed plugins. Nothing is overwritten."""
    from compressit.scaffold.files import write_new
    from compressit.scaffold.recipe import Parts, checked_name, missing_options, recipe_text, usual_evaluators

    name = checked_name(name)
    host = open_host_with(plugins, trust)
    data, model = data or _only(host, "dataset"), model or _only(host, "model")
    stages = stages or list(filter(None, [_only(host, "trainer", "compressor")]))
    if not (data and model and stages):
        asked = [("--data", data, ["dataset"]), ("--model", model, ["model"])]
        asked += [("--stage", stages, ["trainer", "compressor"])]
        choices = {option: host.names(*kinds) for option, given, kinds in asked if not given}
        listed = [f"{option}: {', '.join(names) or 'none is installed'}" for option, names in choices.items()]
        raise CompressitError(f"choose with {', '.join(choices)}", "; ".join(listed))
    parts = Parts(data, model, stages, evaluate or usual_evaluators(host, data))
    file = folder / f"{name}.yaml"
    local = [_beside(path, folder) for path in plugins or ()]
    write_new({file: recipe_text(name, parts, host, local)})
    say(f"wrote {file}")
    for option in missing_options(parts, host):
        say(f"fill in {option} (it has no default)")
    say("", "next:", f"  compressit run {file}{' --trust' if local else ''}")


def _only(host: Host, *kinds: str) -> str | None:
    """The only plugin of these kinds; None if there are several or none."""
    names = host.names(*kinds)
    return names[0] if len(names) == 1 else None


def _beside(path: Path, folder: Path) -> str:
    """A plugin file's path, relative to the recipe's folder."""
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return relative if relative.startswith(".") else f"./{relative}"
