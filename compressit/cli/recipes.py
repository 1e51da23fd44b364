"""Commands on recipes and run folders: run, check, plan, report, schema."""

from __future__ import annotations

import gc
import json
from contextlib import chdir, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressit.cli.terminal import (
    MALFORMED,
    AsJson,
    Trust,
    asker,
    command,
    console,
    forgive_output,
    load,
    open_host,
    put,
    say,
    tell,
)  # fmt: skip
from compressit.errors import CompressitError, StageFailed
from compressit.formatting import counted
from compressit.printable import line
from compressit.processes.python import INCOMPLETE

if TYPE_CHECKING:
    from compressit.recipe.model import Recipe

RecipeFile = Annotated[
    Path, typer.Argument(help="A recipe, for example examples/mnist_twins.yaml.", show_default=False)
]
Profile = Annotated[str | None, typer.Option(help="One of the recipe's profiles, for example quick.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one value: --set stages.train.with.epochs=5 (repeatable)."),
]
StoreFolder = Annotated[
    Path | None, typer.Option("--store", help="Folder of results; default: the user's cache.")
]


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
    job_timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            metavar="SECONDS",
            help="Stop a job that takes longer; jobs that do not need it continue. Default: no limit.",
            show_default=False,
        ),
    ] = None,
    trust: Trust = False,
) -> None:
    """Run a recipe and write its report.

    Results that the store already has are reused.
    """
    from compressit import api
    from compressit.cli.signals import Ended

    forgive_output()  # stdout only gets a summary: failing to write it must not fail the run
    host = open_host()
    loaded = load(recipe, profile, settings, trust, host)
    gc.enable()
    try:
        done = api.run(
            loaded,
            out=out,
            store=store,
            jobs=jobs,
            host=host,
            save_every=save_every,
            job_timeout=job_timeout,
            command=command(),
            console=console(),
        )
    except Ended as ended:
        say("", f"{ended}; finished work is kept. To continue: {command()}")
        raise typer.Exit(128 + ended.number) from None
    say(f"report: {done.folder / 'report.html'}", f"numbers: {done.folder / 'results.csv'}")


def check(
    recipe: RecipeFile, profile: Profile = None, settings: Settings = None, trust: Trust = False
) -> None:
    """Check a recipe without running it."""
    from compressit.planning.asked import ask

    loaded = load(recipe, profile, settings, trust, open_host())
    ask(loaded)
    _tell_doubts(loaded)
    variants = _compared(loaded) or counted(len(loaded.variants), "variant")
    stages = counted(sum(len(variant.stages) for variant in loaded.variants), "stage")
    say(f"{recipe}: {loaded.name} is fine: {variants}, {stages}, seeds {list(loaded.seeds)}")
    _tell_strategies(loaded)


def plan(
    recipe: RecipeFile,
    profile: Profile = None,
    settings: Settings = None,
    store: StoreFolder = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Show the jobs of a run, and which the store already has."""
    from compressit.paths import default_store
    from compressit.planning.plan import make_plan
    from compressit.store.objects import Store

    host = open_host()
    loaded = load(recipe, profile, settings, trust, host)
    made = make_plan(loaded, host)
    _tell_doubts(loaded)
    objects = Store(store or default_store(), warn=tell)
    present = {key: objects.find(key) is not None for key in made.jobs}
    pending = {job.key for job in made.pending(present)}
    if as_json:  # one by one: all jobs of many rounds with their lineages may not fit into memory
        for index, job in enumerate(made.jobs.values()):
            text = json.dumps(job.to_json() | {"present": present[job.key]}, indent=1)
            put(("[\n" if index == 0 else ",\n") + text)
        put("]")
        return
    for job in made.jobs.values():
        state = "to do" if job.key in pending else "here"
        state = "begun" if state == "to do" and objects.has_progress(job.key) else state
        say(f"{job.key[:12]}  {state:5}  {job.uses:20}  {job.label}")
    _tell_strategies(loaded)
    say(f"{len(pending)} of {len(made.jobs)} jobs to do")


def _tell_doubts(recipe: Recipe) -> None:
    for doubt in recipe.doubts():
        tell(f"warning: {doubt}")


def _compared(recipe: Recipe) -> str | None:
    """`6 strategies, 13 controls`; None without `compare`."""
    if recipe.compare is None:
        return None
    controls = sum(bool(role.control) for role in recipe.compare.strategies.values())
    strategies = len(recipe.compare.strategies) - controls
    return f"{strategies} strateg{'y' if strategies == 1 else 'ies'}, {counted(controls, 'control')}"


def _tell_strategies(recipe: Recipe) -> None:
    """The strategies of a comparison and its controls by kind, with the epochs of training that each has."""
    lines: dict[str, list[str]] = {}
    for name, role in recipe.compare.strategies.items() if recipe.compare else ():
        epochs = "unknown epochs" if role.epochs is None else counted(role.epochs, "epoch")
        line = f"control {role.control}" if role.control else "strategies"
        served = f"for {', '.join(role.of)}, " if role.of else ""
        lines.setdefault(line, []).append(f"{name} ({served}{epochs})")
    for line, found in lines.items():
        say(f"{line}: {'; '.join(found)}")


def report(
    folder: Annotated[
        Path, typer.Argument(help="A run folder, for example runs/mnist_twins.", show_default=False)
    ],
    trust: Trust = False,
    trusted: Annotated[list[str] | None, typer.Option(hidden=True, help="Digests that may run.")] = None,
    ends_with: Annotated[int | None, typer.Option(hidden=True, help="Process id of the run.")] = None,
) -> None:
    """Redraw the report of a run folder."""
    if ends_with is not None:
        from compressit.processes.guard import end_with

        end_with(ends_with)
    from compressit.contract.kinds import Report
    from compressit.contract.results import Results
    from compressit.files.ownfolder import OwnFolder
    from compressit.recipe.model import LocalPlugin
    from compressit.results.page import render

    file = folder / "results.json"
    host = open_host()
    try:
        results = Results.read_json(file)
    except FileNotFoundError:
        raise CompressitError(
            f"{file}: there is no such file", "give the folder of a run (`--out`)"
        ) from None
    except (OSError, *MALFORMED) as error:
        raise CompressitError(f"{file}: not the results of a run: {error}") from error
    try:
        for entry in results.config.get("plugins", ()):
            path = Path(entry["path"])
            plugin = LocalPlugin.read(path)  # as it is now: you can edit a report and redraw
            if plugin.digest in (trusted or ()) or asker(trust)(plugin):
                host.load_file(path, plugin.digest)
        reports = [
            (use["uses"], partial(host.create, Report, use["uses"], use["config"]))
            for use in results.config.get("report", ())
        ]
        real = folder.resolve()
        with nullcontext() if ends_with is not None else OwnFolder(folder).writing(tell), chdir(real.anchor):
            failed = render(results, reports, real)  # a matplotlibrc in the current folder would be read
    except MALFORMED as error:  # results.json was edited by hand
        why = f"{type(error).__name__}: {error}"
        raise CompressitError(f"{file}: not the results of a run: {why}") from error
    if ends_with is not None:
        put("\n".join(failed))
        raise typer.Exit(INCOMPLETE if failed else 0)
    say(f"report: {folder / 'report.html'}")
    if failed:
        raise StageFailed("\n".join(map(line, failed)))


def schema() -> None:
    """Print the JSON Schema of recipes, for editors.

    It covers all installed plugins.
    """
    from compressit.recipe.schema import json_schema

    put(json.dumps(json_schema(open_host()), indent=1))
