"""The command line. Mistakes come out as messages with exit code 2, failed stages with 1, Ctrl-C with 130."""

from __future__ import annotations

import gc
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from compressit.errors import CompressitError

if TYPE_CHECKING:
    from compressit.plugins import Host
    from compressit.recipe.model import LocalPlugin, Recipe

app = typer.Typer(
    name="compressit",
    help="Make networks smaller and know what you lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeFile = Annotated[
    Path, typer.Argument(help="A recipe, for example examples/mnist_twins.yaml.", show_default=False)
]
Profile = Annotated[str | None, typer.Option(help="One of the recipe's profiles, for example quick.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one value: --set stages.train.with.epochs=5 (repeatable)."),
]
Trust = Annotated[bool, typer.Option("--trust", help="Run the plugin files the recipe names without asking.")]
StoreFolder = Annotated[
    Path | None, typer.Option("--store", help="Folder of results; default: the user's cache.")
]
CheckpointFile = Annotated[Path, typer.Argument(help="A compressit .safetensors file.", show_default=False)]

_MALFORMED = (ValueError, TypeError, LookupError, AttributeError)  # pydantic's error is a ValueError


@app.command()
def run(
    recipe: RecipeFile,
    profile: Profile = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/<name>[-profile].")] = None,
    store: StoreFolder = None,
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes side by side.")] = 1,
    save_every: Annotated[
        float, typer.Option(min=0, hidden=True, help="Seconds between saves of a stage's progress.")
    ] = 10.0,
    trust: Trust = False,
) -> None:
    """Run a recipe: make what the store lacks, then write the report."""
    from compressit import api

    host = _host()
    loaded = _load(recipe, profile, settings, trust, host)
    gc.enable()
    try:
        done = api.run(
            loaded, out=out, store=store, jobs=jobs, host=host, save_every=save_every, command=_command()
        )
    except KeyboardInterrupt:
        _say(f"\ninterrupted; what is done is kept. To go on: {_command()}")
        raise typer.Exit(130) from None
    _say(f"report: {done.folder / 'report.html'}\nnumbers: {done.folder / 'results.csv'}")


@app.command()
def check(
    recipe: RecipeFile, profile: Profile = None, settings: Settings = None, trust: Trust = False
) -> None:
    """Check a recipe; run nothing."""
    loaded = _load(recipe, profile, settings, trust, _host())
    count = sum(len(variant.stages) for variant in loaded.variants)
    _say(
        f"{recipe}: {loaded.name} is fine: {len(loaded.variants)} variants, {count} stages, seeds {list(loaded.seeds)}"
    )


@app.command()
def plan(
    recipe: RecipeFile,
    profile: Profile = None,
    settings: Settings = None,
    store: StoreFolder = None,
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the tasks as JSON.")] = False,
) -> None:
    """Show what a run would do: which results the store has and which it must make."""
    from compressit.api import default_store
    from compressit.plan import make_plan
    from compressit.store import Store

    host = _host()
    made = make_plan(_load(recipe, profile, settings, trust, host), host)
    objects = Store(store or default_store(), warn=lambda text: typer.echo(text, err=True))
    present = {key: objects.find(key) is not None for key in made.tasks}
    pending = {task.key for task in made.pending(present)}
    if as_json:
        _say(
            json.dumps(
                [task.to_json() | {"present": present[task.key]} for task in made.tasks.values()], indent=1
            )
        )
        return
    for task in made.tasks.values():
        state = "to do" if task.key in pending else "here"
        state = "begun" if state == "to do" and objects.has_progress(task.key) else state
        _say(f"{task.key[:12]}  {state:5}  {task.uses:20}  {task.label}")
    _say(f"{len(pending)} of {len(made.tasks)} tasks to do")


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="A run folder, for example runs/mnist_twins.", show_default=False)
    ],
    trust: Trust = False,
    trusted: Annotated[list[str] | None, typer.Option(hidden=True, help="Digests that may run.")] = None,
) -> None:
    """Draw a run folder's report again from its results.json."""
    from compressit.kinds import Report
    from compressit.plugins import file_digest
    from compressit.recipe.model import LocalPlugin
    from compressit.report import render
    from compressit.results import Results

    file = folder / "results.json"
    host = _host()
    try:
        results = Results.read_json(file)
    except FileNotFoundError:
        raise CompressitError(
            f"{file}: there is no such file", "give the folder of a run (`--out`)"
        ) from None
    except (OSError, *_MALFORMED) as error:
        raise CompressitError(f"{file}: not the results of a run: {error}") from error
    try:
        for entry in results.config.get("plugins", ()):
            path = Path(entry["path"])
            plugin = LocalPlugin(path, file_digest(path))  # as it is now: an edited report is drawn anew
            if plugin.digest in (trusted or ()) or _asker(trust)(plugin):
                host.load_file(path, plugin.digest)
        uses = results.config.get("report", ())
        render(results, [host.create(Report, use["uses"], use["config"]) for use in uses], folder)
    except _MALFORMED as error:  # somebody edited it
        why = f"{type(error).__name__}: {error}"
        raise CompressitError(f"{file}: not the results of a run: {why}") from error
    _say(f"report: {folder / 'report.html'}")


@app.command()
def inspect(
    file: CheckpointFile, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show what a checkpoint says of itself: architecture, sizes, inputs, lineage, metrics."""
    from compressit.checkpoint.inspect import facts, render

    found = facts(file)
    _say(json.dumps(found, indent=1, sort_keys=True) if as_json else render(found))


@app.command()
def evaluate(
    file: CheckpointFile,
    data: Annotated[str, typer.Option(help="A dataset plugin, for example data.mnist.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the dataset: --set labels=random (repeatable)."),
    ] = None,
    evaluators: Annotated[
        list[str] | None,
        typer.Option("--evaluator", help="Evaluators; default: eval.accuracy and eval.size."),
    ] = None,
    plugins: Annotated[
        list[Path] | None, typer.Option("--plugin", help="A local plugin file the model needs.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Measure a checkpoint on a dataset."""
    from compressit.evaluation import evaluate_file
    from compressit.plugins import file_digest
    from compressit.recipe.model import LocalPlugin

    host = _host()
    for path in plugins or ():
        plugin = LocalPlugin(path, file_digest(path))
        if not _asker(trust)(plugin):
            raise CompressitError(f"{path} was not trusted", "read the file, then pass --trust")
        host.load_file(path, plugin.digest)
    names = tuple(evaluators or ("eval.accuracy", "eval.size"))
    for name, value in evaluate_file(file, data, settings or (), names, host, announce=_tell).items():
        _say(f"{name:24} {value:.6g}")


@app.command("plugins")
def list_plugins(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the installed plugins, and those that could not be loaded with the reason."""
    host = _host()
    rows = [
        {"name": r.plugin.name, "kind": r.kind, "from": r.owner, "about": r.plugin.summary()}
        for r in host.registered()
    ]
    broken = [{"entry": b.entry, "from": b.owner, "reason": b.reason} for b in host.broken]
    if as_json:
        _say(json.dumps({"plugins": rows, "broken": broken, "disabled": sorted(host.disabled)}, indent=1))
        return
    for row in rows:
        _say(f"{row['name']:22} {row['kind']:10} {row['from']:20} {row['about']}")
    for item in broken:
        _say(f"{item['entry']:22} BROKEN     {item['from']:20} {item['reason']}")
    for name in sorted(host.disabled):
        _say(f"{name:22} disabled by COMPRESSIT_DISABLE_PLUGINS")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe over the installed plugins, for editors."""
    from compressit.recipe.schema import json_schema

    _say(json.dumps(json_schema(_host()), indent=1))


def main() -> NoReturn:
    """The console script: exit codes 0, 1 (a stage failed), 2 (a mistake, nothing was run), 130 (Ctrl-C)."""
    gc.disable()  # starting up allocates much and frees nothing; `run` turns it on again
    try:
        code: Any = app(standalone_mode=False)  # that of a raised typer.Exit, which comes back as the value
    except CompressitError as error:
        typer.echo(f"{error}" if _has_place(error) else f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # the disk is full, a file may not be read …
        about = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        typer.echo(f"error: {about}", err=True)
        sys.exit(1)
    except Exception as error:
        if _is_usage(error):
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _has_place(error: CompressitError) -> bool:
    return hasattr(error, "problems")


def _is_usage(error: Exception) -> bool:
    return hasattr(error, "show") and hasattr(error, "exit_code")  # click's, whichever click typer brings


def _host() -> Host:
    from compressit.plugins import installed

    return installed()


def _load(recipe: Path, profile: str | None, settings: list[str] | None, trust: bool, host: Host) -> Recipe:
    from compressit.recipe.load import load_recipe

    return load_recipe(recipe, host, profile=profile, settings=settings or (), trust=_asker(trust))


def _asker(trust: bool) -> Callable[[LocalPlugin], bool]:
    from compressit.trust import ask

    return (lambda plugin: True) if trust else ask


def _command() -> str:
    return shlex.join(["compressit", *sys.argv[1:]])


def _say(text: Any) -> None:
    typer.echo(text)


def _tell(text: str) -> None:
    typer.echo(text, err=True)
