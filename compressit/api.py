"""The functions of `import compressit`. Torch is imported only by functions that need it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.contract.results import Results, Row
from compressit.datasets.specs import Inputs, as_inputs
from compressit.errors import CompressitError, StageFailed
from compressit.files.reading import checkpoint_file
from compressit.host.plugins import Host, installed
from compressit.paths import default_store
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan
from compressit.python.arguments import check_net, create, plain
from compressit.python.stage import InProcess
from compressit.recipe.load import load_recipe
from compressit.recipe.model import Recipe
from compressit.results.runfolder import default_folder as default_folder

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from compressit.datasets.splits import InputSpec
    from compressit.datasets.task_spec import TaskSpec
    from compressit.searching.search import Found


@dataclass(frozen=True)
class Run:
    """A finished (or partly failed) run: its folder, plan and results."""

    folder: Path
    plan: Plan
    results: Results
    failures: Sequence[str] = ()
    host: Host | None = field(default=None, repr=False)  # the plugins of the run; None: the installed ones

    @property
    def stages(self) -> list[str]:
        """Names of all models, `variant/seed0/stage-round`, in the recipe's order."""
        return [point.path for point in self.plan.points]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One dict per model: the rows of results.csv, with numbers as numbers and None for empty cells."""
        return self.results.table()

    def row(self, stage: str, variant: str | None = None, seed: int | None = None) -> Row:
        """The row of `stage` (`blog-04`; `train`). Variant and seed default to the first.

        Raises CompressitError if there is no such row.
        """
        for row in self.results.rows:
            if row.name == stage and variant in (None, row.variant) and seed in (None, row.seed):
                return row
        raise CompressitError(f"the run has no model '{stage}'", f"it has {', '.join(self.stages)}")

    def model(self, stage: str, variant: str | None = None, seed: int | None = None) -> nn.Module:
        """The model of a stage, in eval mode, loaded from the run folder."""
        from compressit.checkpoint import model as checkpoint

        file = self.folder / str(self.row(stage, variant, seed).checkpoint)
        return checkpoint.load(file, host=self.host or installed())


def run(
    recipe: Recipe | Path | str,
    *,
    out: Path | str | None = None,
    store: Path | str | None = None,
    jobs: int = 1,
    host: Host | None = None,
    console: Console | None = None,
    save_every: float = 10.0,
    job_timeout: float | None = None,
    command: str | None = None,
    live: bool = True,
) -> Run:
    """Runs a recipe. Reuses results in the store and makes the rest in `jobs` worker processes.

    `out`: the run folder, by default `default_folder`; `store`: by default a folder in the user's cache;
    `save_every`: seconds between saves of a stage's progress; `job_timeout`: seconds after which a job is stopped and
    counts as failed; `live`: plugins that only this Python process has may be used, in workers forked from it, or in it
    where those could not compute.
    Raises StageFailed if stages failed, and KeyboardInterrupt after Ctrl-C. In both cases all
    finished work is in the folder, and running again continues from there.
    """
    from compressit.running.session import run_plan

    if jobs < 1:
        raise CompressitError(f"jobs={jobs}: at least one worker is needed", "leave it out for one")
    recipe, host = _opened(recipe, host)
    plan = make_plan(recipe, host, live)
    folder = Path(out) if out else default_folder(recipe)
    results, failures = run_plan(
        plan,
        host,
        folder=folder,
        store=Path(store) if store else default_store(),
        workers=jobs,
        console=console,
        save_every=save_every,
        job_timeout=job_timeout,
        command=command or shlex.join(sys.argv),
    )
    done = Run(folder, plan, results, failures, host)
    if failures:
        raise StageFailed(
            "\n".join([*failures, f"everything else is kept; run the same command to continue ({folder})"])
        )
    return done


def search(
    recipe: Recipe | Path | str,
    *,
    minimize: str,
    max_drop: float = 0.005,
    metric: str | None = None,
    trials: int = 40,
    jobs: int = 1,
    seed: int = 0,
    out: Path | str | None = None,
    store: Path | str | None = None,
    job_timeout: float | None = None,
    host: Host | None = None,
    console: Console | None = None,
    command: str | None = None,
) -> Found:
    """Searches a recipe for the model with the least `minimize` (a column: "macs", "parameters") that loses at most
    `max_drop` of `metric`, a column of the validation split (by default what the task watches there).

    Makes `trials` models in all, `jobs` side by side, and runs the winner; continues what `out` holds (by default
    `runs/<name>-search`). The test split is not looked at until then. Without a winner `Found.winner` is None and
    `Found.reason` names the nearest. Raises CompressitError for a recipe that cannot be searched or without Optuna,
    StageFailed if nothing could be measured, and KeyboardInterrupt after Ctrl-C; finished trials are kept.
    """
    from compressit.searching.search import Order
    from compressit.searching.search import search as find

    if jobs < 1 or trials < 1:
        raise CompressitError(f"jobs={jobs}, trials={trials}: at least one of each is needed")
    recipe, host = _opened(recipe, host)
    order = Order(
        minimize, max_drop, metric, trials, jobs, seed, job_timeout, command or shlex.join(sys.argv)
    )
    folder = Path(out) if out else default_folder(replace(recipe, name=f"{recipe.name}-search"))
    return find(recipe, order, host, folder, Path(store) if store else default_store(), console)


def _opened(recipe: Recipe | Path | str, host: Host | None) -> tuple[Recipe, Host]:
    """The recipe, and a host with its plugin files."""
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(Path(recipe))
    host = host or installed()
    if host is installed():
        for plugin in recipe.plugins:
            host.load_file(plugin.path, plugin.digest)
    return recipe, host


def load(
    path: Path | str, into: nn.Module | None = None, *, probe: bool = True, limited: bool = True
) -> nn.Module:
    """Loads the model of a checkpoint file, in eval mode on the CPU, with the shapes it was saved with.

    `into`: a module with the right shapes, for files saved without a registered model. `probe`: compare the model's
    outputs with the recorded ones. `limited`: limit memory and time by the file's size, which is enough for nearly
    every net; turn it off only for your own files. Runs no code from the file. Raises CompressitError for a damaged
    file, a missing plugin, or outputs that differ from the recorded ones.
    """
    from compressit.checkpoint import model as checkpoint

    if into is not None:
        from compressit.contract.nets import unwrapped

        check_net(into, "into=")
        into = unwrapped(into)
    return checkpoint.load(checkpoint_file(path), into=into, host=installed(), probe=probe, limited=limited)


def save(
    model: nn.Module,
    path: Path | str,
    *,
    uses: str | None = None,
    inputs: Inputs | Sequence[int] | None = None,
    outputs: int | None = None,
    contract: InputSpec | None = None,
    task: TaskSpec | None = None,
    compact: bool = False,
    **config: Any,
) -> None:
    """Saves a model as one self-describing safetensors file and checks that it reloads to the same outputs.

    `uses` names the registered model that it was built from, before any compression, and `config` the options of
    that; the default is the name that `@compressit.model` gave its class. A registered model needs `inputs`, or
    `contract` (`data.contract`): a shape without the batch, a TensorSpec, or a tuple or dict of them. `outputs` is by
    default the number that the model gives. `task`: what it was made for (`data.task`).
    Without a registered model, the file loads only with `load(path, into=net)`. `compact` stores sparse
    tensors without their zeros. Raises CompressitError for a model that would not reload the same.
    """
    from compressit.checkpoint import model as checkpoint
    from compressit.contract.kinds import Model
    from compressit.contract.nets import unwrapped
    from compressit.host.live_models import name_of

    check_net(model, "save")
    model = unwrapped(model)
    uses = uses or name_of(model)
    architecture = None
    if uses is not None:
        config = dict(plain(uses, config))
        create(Model, uses, config)  # raises for wrong options
        given = contract.inputs if inputs is None and contract is not None else inputs
        if given is None:
            raise CompressitError(
                f"saving a {uses} needs the shape of its inputs", "pass inputs=, without the batch"
            )
        taken = as_inputs(given)
        outputs = outputs if outputs is not None else checkpoint.outputs_of(model, taken)
        architecture = checkpoint.Architecture(uses, config, taken, outputs)
    elif config or inputs is not None or outputs is not None:
        given = {"inputs": inputs, "outputs": outputs, **config}
        first = next(name for name, value in given.items() if value is not None or name in config)
        raise CompressitError(
            f"{first}= is for registered models, and {type(model).__name__} is not registered",
            "name it with uses=, or register the class with @compressit.model",
        )
    checkpoint.save(model, Path(path), architecture, contract, host=installed(), compact=compact, task=task)


def fresh(path: Path | str, seed: int = 0) -> nn.Module:
    """A model with a checkpoint's shapes and fresh weights, to train from scratch as a control."""
    from compressit.checkpoint import model as checkpoint

    return checkpoint.fresh(checkpoint_file(path), seed, host=installed())


def stage(
    name: str,
    *,
    teacher: nn.Module | Path | str | Sequence[nn.Module | Path | str] | None = None,
    seed: int = 0,
    **options: Any,
) -> Callable[..., nn.Module]:
    """A trainer or compressor as a function `(model, data) -> model`, without recipe, store or worker.

    Example: `compressit.stage("prune.magnitude", sparsity=0.9)(net, data)`. `teacher`, a net or the path of a
    checkpoint, is used for every ModelRef option; a list of them, by a stage that takes several; 'original', in
    `compare`, is the net that is compressed. The model of a file must fit the data; inputs are rescaled to its own
    mean and deviation. Runs on the data's device (without data, on the model's). Does not change the given model.
    The function's `notes` and `curves` hold what the last call recorded. Raises the same errors as in a recipe.
    """
    return InProcess(name, options, teacher, seed)
