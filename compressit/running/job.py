"""Runs one job: the only place where a run's plugins compute. Reads from the store and publishes to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint import weights
from compressit.checkpoint.probe import probe_input
from compressit.config import parse
from compressit.contract.compute import Compute
from compressit.contract.context import DataContext, Judged
from compressit.contract.init_options import InitConfig
from compressit.contract.initial import initialise
from compressit.contract.job import Job
from compressit.contract.kinds import Compressor, Dataset, Evaluator, Trainer
from compressit.contract.nets import check_answers, copied, fault_of, try_out
from compressit.contract.tasks import Task
from compressit.datasets.rescaling import fed
from compressit.datasets.splits import Data, InputSpec
from compressit.datasets.task_spec import TaskSpec
from compressit.errors import CompressitError
from compressit.files.sealed import canonical
from compressit.host.plugins import Host
from compressit.running import loading, rng
from compressit.running.apply import apply_plugin, dry_run_plugin, measure_with
from compressit.running.inputs import Inputs
from compressit.running.isolation import Recent, lending
from compressit.running.publish import Made, publish
from compressit.running.recorded import check_names_free
from compressit.running.shapes import refill
from compressit.seeds import Streams
from compressit.store.objects import Artifact, Store
from compressit.store.progress import StoredProgress

Emit = Callable[[Mapping[str, Any]], None]


class Taken(Exception):  # noqa: N818 - not an error: the job can run later
    """Another process is making this result; the text says which."""


class JobRunner:
    """Runs jobs one after another in this process, keeping recent data and models in memory."""

    def __init__(self, store: Store, host: Host, cache: Path, save_every: float = 10.0) -> None:
        self._store = store
        self._host = host
        self._cache = cache
        self._save_every = save_every
        self._memo = Recent()

    def run(self, job: Job, emit: Emit, patience: float = math.inf) -> Artifact:
        """Makes the job's result, or returns the one that another process published meanwhile.

        Raises Taken if another process is still making it after `patience` seconds. Raises CompressitError for a
        user's mistake, for code that changed since planning, and for a plugin that changed shared objects or process
        settings. Other exceptions of a plugin propagate.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._store.lock(job.key, _announcer(job, emit), patience))
            except TimeoutError as error:
                raise Taken(str(error)) from error
            return self._store.find(job.key) or self._make(job, emit)

    def _make(self, job: Job, emit: Emit) -> Artifact:
        kinds = {
            "init": self._init, "dry_run": self._dry_run, "stage": self._stage, "evaluate": self._evaluate,
        }  # fmt: skip
        started = time.perf_counter()
        made = kinds[job.kind](job, emit)
        seconds = made.earlier + time.perf_counter() - started
        emit({})  # fails if the plugin closed the connection to the run, before its result is stored
        return publish(self._store, self._host, job, made, seconds)

    # What each kind of job makes

    def _init(self, job: Job, emit: Emit) -> Made:
        """The first model. Raises CompressitError if it could not be trained, copied or saved later."""
        contract = None
        if "checkpoint" in job.files:
            path = Path(job.files["checkpoint"])
            model = self._load(path, given=True)
            architecture, contract = checkpoint.architecture_of(path), checkpoint.contract_of(path)
        else:
            dataset = self._host.create(Dataset, job.data["uses"], job.data["config"])
            outputs = self._task(job).outputs
            architecture = checkpoint.Architecture(job.uses, dict(job.config), dataset.inputs, outputs)
            init = _init_options(job)
            with lending(job.uses), rng.building(job.seed, init.draw):
                model = checkpoint.build(architecture, self._host)
                initialise(model, init)
        if "weights" in job.files:
            weights.load_into(model, Path(job.files["weights"]), job.fresh, job.uses)
        compute = Compute.select("cpu", job.compute["precision"])
        model = compute.placed(model)
        known = architecture.inputs if architecture else contract.inputs if contract else None
        x = None if known is None else probe_input(known, compute.dtype)
        with lending(job.uses):
            if not try_out(model, x) and x is not None and (fault := fault_of(model, x)) is not None:
                raise fault
            if x is not None and architecture is not None:
                check_answers(copied(model, same_parameters=True), x, self._task(job).check)
        return Made(model, architecture, contract)

    def _dry_run(self, job: Job, emit: Emit) -> Made:
        """The shapes of the stage's result, from a model that was saved and reloaded as in a real run."""
        source = self._model_file(job, "previous")
        if not source.exists():  # the previous dry run returned no model
            return Made()
        model, inputs = self._load(source), self._inputs(job, emit, source)
        ctx = inputs.context(_streams(job), job.feed)
        before = self._store.find(job.inputs["previous"])
        if before is not None and before.manifest["job"]["kind"] == "dry_run":
            refill(model, ctx.streams.generator("dry run"))
        result = dry_run_plugin(self._plugin(job), model, ctx)
        if result is None:
            return Made()
        return Made(result, inputs.architecture_of(result), ctx.data.contract, ctx)

    def _plugin(self, job: Job) -> Trainer[Any] | Compressor[Any]:
        trains = self._host.find(job.uses, "trainer", "compressor").kind == "trainer"
        return self._host.create(Trainer if trains else Compressor, job.uses, job.config)

    def _stage(self, job: Job, emit: Emit) -> Made:
        progress = StoredProgress(self._store, job.key, self._save_every, _announcer(job, emit))
        source = self._model_file(job, "previous")
        model, inputs = self._load(source), self._inputs(job, emit, source)
        ctx = inputs.context(_streams(job), job.feed, progress=progress, fresh=self._fresh(job))
        result = apply_plugin(self._plugin(job), model, ctx)
        if ctx.fits and loading.is_read_anew(ctx.data.train):
            dataset = self._host.create(
                Dataset, job.data["uses"], job.data["config"]
            )  # a new one: it may remember
            _unchanged(job, dataset, "while it was trained on them")
        return Made(result, inputs.architecture_of(result), ctx.data.contract, ctx, earlier=progress.spent)

    def _fresh(self, job: Job) -> bool:
        """Whether the model that the stage receives was built in this run and only trained since."""
        if len(job.lineage) < 2:
            return False
        first, *others = job.lineage[:-1]  # the last step is the stage itself
        trained = all(self._host.find(step["uses"]).kind == "trainer" for step in others)
        return trained and not {"checkpoint", "weights"} & first.keys()

    def _evaluate(self, job: Job, emit: Emit) -> Made:
        evaluator = self._host.create(Evaluator, job.uses, job.config)
        measured = self._store.find(job.inputs["model"])
        check_names_free(evaluator, self._task(job), measured.recorded if measured else ())
        progress = StoredProgress(self._store, job.key, self._save_every, _announcer(job, emit))
        streams = rng.judging(job.seed, job.uses)
        inputs = self._inputs(job, emit, self._model_file(job, "model"))
        ctx = inputs.context(streams, judged=self._judged(job), progress=progress)
        metrics = measure_with(evaluator, ctx.model("model"), ctx)
        return Made(metrics=metrics, ctx=ctx, earlier=progress.spent)

    # What each job receives

    def _inputs(self, job: Job, emit: Emit, source: Path | None = None) -> Inputs:
        """`source`: the file of the model that a stage receives, or that is measured."""
        compute = Compute.select(**job.compute)

        def data() -> Data:
            return self._data(job, compute.device, emit)

        def model(ref: str) -> nn.Module:
            file, given = self._model_file(job, ref), ref in job.files
            contract = checkpoint.contract_of(file) if given or self._of_other_data(job, ref) else None
            net = self._load(file, given)
            # models made of the job's own data, or for unscaled pixels, get them as they are
            return net if contract is None or contract.mean is None else fed(net, contract, data().contract)

        def saved(ref: str) -> tuple[nn.Module, checkpoint.Architecture | None]:
            file = self._model_file(job, ref)
            return self._load(file, ref in job.files), checkpoint.architecture_of(file)

        def identity(ref: str) -> str:
            if not ref:
                return job.data["id"] + compute.device
            if ref in job.files or self._of_other_data(job, ref):
                return f"{job.files.get(ref) or job.inputs[ref]} {job.data['id']}"  # its inputs depend on the data
            return job.inputs[ref]

        architecture = checkpoint.architecture_of(source) if source is not None else None
        task, init = self._task(job), _init_options(job)
        return Inputs(
            self._host, compute, data, model, task, architecture, init, emit, self._memo, identity, saved
        )

    def _task(self, job: Job) -> Task[Any]:
        return self._host.task(TaskSpec.from_json(job.task))

    def _model_file(self, job: Job, ref: str) -> Path:
        return Path(job.files[ref]) if ref in job.files else self._artifact(job, ref).model_file

    def _artifact(self, job: Job, ref: str) -> Artifact:
        """The result that has the model of this reference."""
        if ref not in job.inputs:
            raise CompressitError(
                f"{job.uses} asked for the model '{ref}', which its options do not name",
                "declare it as a ModelRef field of the plugin's config",
            )
        artifact = self._store.find(job.inputs[ref])
        if artifact is None:
            raise CompressitError(
                f"the model '{ref}' of {job.label} is no longer in the store", "start the run again"
            )
        return artifact

    def _of_other_data(self, job: Job, ref: str) -> bool:
        """Whether the model was made of other data than the job's, as that of another variant may be."""
        made_of = self._artifact(job, ref).manifest["job"]["data"]["id"]
        return ref not in ("model", "previous") and made_of != job.data["id"]

    def _load(self, path: Path, given: bool = False) -> nn.Module:
        """The model of a checkpoint; raises CompressitError if building it changes process settings.

        `given`: the file came with the recipe, so its memory and time are limited; a run's own files are not.
        """
        architecture = checkpoint.architecture_of(path)
        with lending(architecture.name if architecture else "the model"):
            return checkpoint.load(path, host=self._host, limited=given)

    def _data(self, job: Job, device: str, emit: Emit) -> Data:
        task = self._task(job).measuring()  # targets do not depend on how models are trained
        key = (
            "data",
            job.data["id"],
            canonical(task.posed.to_json()),
            canonical(job.data["config"]["augment"]),
            device,
        )
        if key not in self._memo:
            announce = lambda text: emit({"announce": text})  # noqa: E731
            dataset = self._host.create(Dataset, job.data["uses"], job.data["config"])
            raw = ("raw", *_unchanged(job, dataset, "since this run was planned"))
            if raw not in self._memo:
                self._cache.mkdir(parents=True, exist_ok=True)
                self._memo[raw] = loading.loaded(dataset, DataContext(self._cache, announce))
            like = job.data.get("like")
            contract = InputSpec(
                dataset.inputs, like["scale"], tuple(like["mean"]), tuple(like["std"]),
                task.posed.names,
            ) if like else None  # fmt: skip
            self._memo[key] = loading.prepared(dataset, task, self._memo[raw], announce, device, contract)
        return self._memo[key]

    def _judged(self, job: Job) -> Judged | None:
        if job.judged is None:
            return None
        judged = self._store.find(job.inputs["model"])
        return Judged(
            stage=job.judged["stage"],
            uses=job.judged["uses"],
            config=job.judged["config"],
            notes=judged.notes if judged else {},
            streams=Streams(job.judged["seed"], job.judged["stage"], job.judged["round"]),
            reference=job.judged["reference"],
        )


def _unchanged(job: Job, dataset: Dataset[Any], when: str) -> tuple[str, str, str]:
    """What identifies its content. Raises CompressitError if that is not what was planned with."""
    content = loading.content(dataset)
    if job.data["content"] != content[1]:
        raise CompressitError(f"the files of {dataset.name} changed {when}", "start the run again")
    return content


def _init_options(job: Job) -> InitConfig:
    return parse(InitConfig, job.init)


def _streams(job: Job) -> Streams:
    return Streams(job.seed, job.stage, job.round)


def _announcer(job: Job, emit: Emit) -> Callable[[str], None]:
    return lambda text: emit({"announce": f"{job.label}: {text}"})
