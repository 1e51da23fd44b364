"""`compressit.compare`: strategies side by side on your model and data, as a recipe that Python writes and runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressit.datasets.task_spec import CLASSIFICATION
from compressit.errors import CompressitError, StageFailed
from compressit.files.reading import checkpoint_file
from compressit.host.plugins import Host
from compressit.paths import default_store
from compressit.planning.plan import make_plan
from compressit.python.evaluation import SCORES, USUAL
from compressit.python.live import Session
from compressit.python.stage import InProcess
from compressit.recipe.envelope import INIT
from compressit.recipe.load import Recipe
from compressit.results.comparison import Comparison
from compressit.results.runfolder import default_folder

if TYPE_CHECKING:
    from torch import nn

    from compressit.datasets.splits import Data

Step = Callable[..., Any]  # what `compressit.stage` returns, or a function (model, data) -> model
FORGOTTEN = "eval.forgotten"  # measured too where it is installed


class ComparisonFailed(StageFailed):
    """Something failed; `comparison` is of everything else."""

    def __init__(self, message: str, comparison: Comparison) -> None:
        super().__init__(message)
        self.comparison = comparison


def compare(
    *,
    model: nn.Module | Path | str,
    data: Data,
    strategies: Mapping[str, Step | Sequence[Step]],
    seeds: Sequence[int] = (0,),
    budget: Mapping[str, float] | None = None,
    controls: bool | Sequence[str] = True,
    baseline: str = "original",
    evaluate: Sequence[str | Mapping[str, Any]] | None = None,
    observe: Sequence[str | Mapping[str, Any]] = (),
    jobs: int = 1,
    out: Path | str | None = None,
    store: Path | str | None = None,
    name: str = "comparison",
    announce: Callable[[str], None] = print,
) -> Comparison:
    """Compares ways of making a model smaller, with controls, over `seeds`, in `jobs` worker processes.

    `model`: a net, or the path of a checkpoint. `data`: from `compressit.data`. `strategies`: by name, each a list of
    stages in order, or one: `compressit.stage(...)`, or a function `(model, data) -> model` of your own, which gets a
    copy in train mode. A stage without the teacher that it needs learns from the original, `model`. `budget`: fractions
    of the original's costs, like `{"macs": 0.5}`, and the largest allowed `max_drop` of the metric. `controls`: false
    for none, or a list of them. `baseline`: what differences are tested against: the original, or a strategy's name.
    `evaluate`: evaluators, each a name or `{"uses": …, "with": …}`; by default accuracy (other tasks: scores) and size.
    `observe`: observers, alike: `["observe.tensorboard"]`.
    `out`: the run folder, by default `runs/<name>`; `store`: by default a folder in the user's cache.

    Results are kept in the store: one more strategy or seed runs only what is new. A net, examples of your own and
    functions are used by workers that are forked from this process, with one thread each, or, where those could not
    compute (on a GPU), by this process, one job at a time; they are known again by their content, and told where they
    cannot be. Raises CompressitError for mistakes, before anything runs, and when a strategy fails: then the error's
    `comparison` is of everything else.
    """
    from compressit.running.session import run_plan

    if jobs < 1:
        raise CompressitError(f"jobs={jobs}: at least one worker is needed", "leave it out for one")
    with ExitStack() as files:
        session = Session(files)
        body = _body(session, model, data, strategies, evaluate)
        block = {"baseline": baseline, "controls": controls, "budget": dict(budget or {})}
        body |= {"version": 1, "name": name, "seeds": list(seeds), "compare": block, "observe": list(observe)}
        host = session.host
        recipe = Recipe.of(body, host)
        plan = make_plan(recipe, host, live=True)
        for line in session.unknown:
            announce(f"note: {line}")
        results, failures = run_plan(
            plan,
            host,
            folder=Path(out) if out else default_folder(recipe),
            store=Path(store) if store else default_store(),
            workers=jobs,
            command=shlex.join(sys.argv),
        )
    found = Comparison.of(results, host)
    if failures:
        kept = "everything else is kept, also in this error's `comparison`; after a repair the same call continues"
        raise ComparisonFailed("\n".join([*failures, kept]), found)
    return found


def _body(
    session: Session,
    model: nn.Module | Path | str,
    data: Data,
    strategies: Mapping[str, Step | Sequence[Step]],
    evaluate: Sequence[str | Mapping[str, Any]] | None,
) -> dict[str, Any]:
    """The recipe's data, model, variants and evaluators. Raises CompressitError for what cannot be in one."""
    found = _data(session, data)
    if isinstance(model, Path | str):
        file = checkpoint_file(model).absolute()
    else:
        file = session.net(model, data, "model=")
        found |= _precision(model)
    if not isinstance(strategies, Mapping) or not strategies:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CompressitError(
            "compare takes its strategies by name",
            'strategies={"sparse": [compressit.stage("prune.magnitude", sparsity=0.9)]}',
        )
    variants = {name: {"stages": _stages(session, name, steps, data)} for name, steps in strategies.items()}
    evaluators = list(evaluate) if evaluate is not None else _usual(session.host, data)
    return {**found, "model": {"from": str(file)}, "variants": variants, "evaluate": evaluators}


def _data(session: Session, data: Data) -> dict[str, Any]:
    from compressit.datasets.splits import Data

    if not isinstance(data, Data):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CompressitError(
            f"data= takes what compressit.data returns, not a {type(data).__name__}",
            "compressit.data(train=(inputs, labels), test=(inputs, labels)), or a dataset's name",
        )
    origin = data.origin
    if origin is None or not data.is_as_given():
        raise CompressitError(
            "these data are not as compressit.data made them, so that workers cannot load them again",
            "give compressit.data what you changed: compressit.data(train=…, test=…)",
        )
    uses = origin.uses or session.data(origin, data.task)
    found: dict[str, Any] = {"data": {"uses": uses, "with": dict(origin.options)}}
    if origin.task is not None:
        found["task"] = dict(origin.task)
    if (device := data.train.y.device.type) != "cpu":
        found["compute"] = {"device": device}
    return found


def _precision(net: nn.Module) -> dict[str, Any]:
    from compressit.contract.compute import precision_of

    precision = precision_of(net)
    return {} if precision == "fp32" else {"compute": {"precision": precision}}


def _usual(host: Host, data: Data) -> list[str]:
    classes = CLASSIFICATION in host.task(data.task).does()
    forgotten = [FORGOTTEN] if classes and FORGOTTEN in host.names("evaluator") else []
    return [*(USUAL if classes else (SCORES, *USUAL[1:])), *forgotten]


def _stages(session: Session, strategy: str, steps: Step | Sequence[Step], data: Data) -> dict[str, Any]:
    """A strategy's stages by name: `prune`, `train`, `train-2`, and `call` for functions."""
    steps = [steps] if callable(steps) else steps
    hint = 'give stages: [compressit.stage("prune.magnitude", sparsity=0.9), …], or a function (model, data) -> model'
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not all(map(callable, steps)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CompressitError(f"the strategy '{strategy}' is {steps!r:.80}, not a list of stages", hint)
    if not steps:
        raise CompressitError(f"the strategy '{strategy}' has no stages: it does nothing", hint)
    found: dict[str, Any] = {}
    for step in steps:
        if isinstance(step, InProcess):
            called, block = step.name.split(".")[0], _block(session, strategy, step, data)
        else:
            called, block = "call", {"uses": session.function(strategy, step)}
        number = sum(name.split("-")[0] == called for name in found) + 1
        found[called if number == 1 else f"{called}-{number}"] = block
    return found


def _block(session: Session, strategy: str, step: InProcess, data: Data) -> dict[str, Any]:
    """The block of a `compressit.stage`; its teacher is its own, else the original where it needs one."""
    if step.seed:
        raise CompressitError(
            f"{step.name} in '{strategy}' has a seed of its own: {step.seed}",
            "leave it out: all strategies of a comparison have the same seeds, `seeds=`",
        )
    options = dict(step.options)
    teachers = [_named(session, one, data) for one in step.teachers.values()]
    if teachers:
        options["teacher"] = teachers if len(teachers) > 1 else teachers[0]
    elif step.needs_teacher:
        options["teacher"] = INIT
    return {"uses": step.name, "with": options}


def _named(session: Session, teacher: nn.Module | Path | str, data: Data) -> str:
    """A teacher as a recipe names it."""
    if isinstance(teacher, str):
        return INIT
    if isinstance(teacher, Path):
        return str(checkpoint_file(teacher).absolute())
    return str(session.net(teacher, data, "teacher="))
