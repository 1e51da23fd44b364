"""Runs one job: the only place where plugins compute. Reads from the store, publishes to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file
from torch import float32, nn

from compressit.checkpoint import model as checkpoint
from compressit.checkpoint.probe import probe_input
from compressit.contract.compute import Compute, host_facts
from compressit.contract.context import DataContext, Judged, StageContext
from compressit.contract.job import Job
from compressit.contract.kinds import Compressor, Dataset, Evaluator, Model, Trainer
from compressit.contract.measure import hidden_width
from compressit.contract.nets import check_answers, copied, fault_of, refuse_unworkable, try_out
from compressit.datasets.feeding import fed
from compressit.datasets.splits import Data, InputSpec
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit.planning.keys import code_now
from compressit.running import loading, rng
from compressit.running.apply import apply_plugin, dry_run_plugin, measure_with
from compressit.running.isolation import lending
from compressit.running.memo import Recent
from compressit.running.shapes import emptied, refill
from compressit.seeds import Streams
from compressit.store.objects import Artifact, Store
from compressit.store.progress import StoredProgress

CURVE_POINTS = 200
Emit = Callable[[Mapping[str, Any]], None]
_Built = list[tuple[nn.Module, checkpoint.Architecture]]


class Taken(Exception):  # noqa: N818 - no error: it can be made later
    """Another process is making this result; says who."""


class JobRunner:
    """Runs jobs one after another in this process, keeping recent data and models in memory."""

    def __init__(self, store: Store, host: Host, cache: Path, save_every: float = 10.0) -> None:
        self._store = store
        self._host = host
        self._cache = cache
        self._save_every = save_every
        self._memo = Recent(24)
        self._data = Recent(4)

    def run(self, job: Job, emit: Emit, patience: float = math.inf) -> Artifact:
        """Makes the job's result, or returns the one that another process published meanwhile.

        Raises Taken after `patience` seconds in which another process was making it, CompressitError for a user's
        mistake, for code that changed since the plan, and for a plugin that changed what it was lent or a setting of
        the process; whatever else a plugin raises comes through.
        """
        with self._right_to_make(job, emit, patience):
            present = self._store.find(job.key)
            if present is not None:
                return present
            if job.kind == "init":
                return self._init(job)
            if job.kind == "dry_run":
                return self._dry_run(job, emit)
            if job.kind == "stage":
                return self._stage(job, emit)
            return self._evaluate(job, emit)

    @contextmanager
    def _right_to_make(self, job: Job, emit: Emit, patience: float) -> Generator[None]:
        with ExitStack() as stack:
            try:
                say = lambda text: emit({"announce": f"{job.label}: {text}"})  # noqa: E731
                stack.enter_context(self._store.lock(job.key, say, patience))
            except TimeoutError as error:
                raise Taken(str(error)) from error
            yield

    def _init(self, job: Job) -> Artifact:
        started = time.perf_counter()
        if "checkpoint" in job.files:
            path = Path(job.files["checkpoint"])
            model = self._load(path, given=True)
            architecture, contract = checkpoint.architecture_of(path), checkpoint.contract_of(path)
        else:
            dataset = self._host.create(Dataset, job.data["uses"], job.data["config"])
            architecture = checkpoint.Architecture(
                job.uses, dict(job.config), tuple(dataset.input_shape), dataset.classes
            )
            with lending(job.uses), rng.building(job.seed):
                model, contract = checkpoint.build(architecture, self._host), None
        if "weights" in job.files:
            _load_weights(model, Path(job.files["weights"]))
        self._try_out(job, model, architecture, contract)
        seconds = time.perf_counter() - started
        return self._publish_model(job, model, architecture, contract, None, seconds)

    def _try_out(
        self,
        job: Job,
        model: nn.Module,
        architecture: checkpoint.Architecture | None,
        contract: InputSpec | None,
    ) -> None:
        """Refuses, before anything is trained, a first model that could not be trained, copied or saved afterwards."""
        shape = architecture.input_shape if architecture else contract.shape if contract else None
        x = probe_input(shape, float32) if shape is not None else None
        with lending(job.uses):
            refuse_unworkable(model)
            if not try_out(model, x) and x is not None and (fault := fault_of(model, x)) is not None:
                raise fault
            if x is not None and architecture is not None:
                check_answers(copied(model, same_parameters=True), x, architecture.classes)

    def _dry_run(self, job: Job, emit: Emit) -> Artifact:
        """Keeps the shapes the stage will give, of a model that was saved and loaded again like its result will be."""
        started = time.perf_counter()
        source = self._model_file(job, "previous")
        if not source.exists():  # the dry run before this one could not say its shapes
            return self._publish(job, {"notes": {}}, time.perf_counter() - started)
        model, given, built, ctx = self._given(job, source, emit)
        before = self._store.find(job.inputs["previous"])
        if before is not None and before.manifest["job"]["kind"] == "dry_run":
            refill(model, ctx.streams.generator("dry run"))
        with self._lending(job, emit):
            result = dry_run_plugin(self._host.create(Compressor, job.uses, job.config), model, ctx)
        seconds = time.perf_counter() - started
        if result is None:
            return self._publish(job, {"notes": {}}, seconds)
        architecture = next((a for module, a in built if module is result), given)
        return self._publish_model(job, result, architecture, ctx.data.contract, ctx, seconds)

    def _stage(self, job: Job, emit: Emit) -> Artifact:
        progress = StoredProgress(
            self._store,
            job.key,
            self._save_every,
            lambda text: emit({"announce": f"{job.label}: {text}"}),
        )
        model, given, built, ctx = self._given(job, self._model_file(job, "previous"), emit)
        ctx.progress = progress
        trains = self._host.find(job.uses, "trainer", "compressor").kind == "trainer"
        plugin = self._host.create(Trainer if trains else Compressor, job.uses, job.config)
        with self._lending(job, emit):
            result = apply_plugin(plugin, model, ctx, self._fresh(job))
        architecture = next((a for module, a in built if module is result), given)
        return self._publish_model(job, result, architecture, ctx.data.contract, ctx, progress.seconds())

    def _fresh(self, job: Job) -> bool:
        """Whether nothing but training has changed the model since it was built here."""
        if not job.lineage:
            return False
        first, *others = job.lineage
        trained = all(self._host.find(step["uses"]).kind == "trainer" for step in others)
        return trained and not {"checkpoint", "weights"} & first.keys()

    def _given(
        self, job: Job, source: Path, emit: Emit
    ) -> tuple[nn.Module, checkpoint.Architecture | None, _Built, StageContext]:
        """The model a stage is given, its architecture, the narrower ones built since, and the context."""
        model = self._load(source)
        given = checkpoint.architecture_of(source)
        built: _Built = []
        ctx = self._context(job, emit)
        ctx.narrow = lambda multiplier, times: self._narrow(given, ctx, multiplier, times, built)
        return model, given, built, ctx

    def _evaluate(self, job: Job, emit: Emit) -> Artifact:
        started = time.perf_counter()
        ctx = self._context(job, emit)
        evaluator = self._host.create(Evaluator, job.uses, job.config)
        with self._lending(job, emit):
            model = ctx.model("model")
            metrics = measure_with(evaluator, model, ctx)
        finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
        notes = {"not_finite": sorted(set(metrics) - set(finite))}
        seconds = time.perf_counter() - started
        return self._publish(job, {"metrics": finite, "notes": notes}, seconds)

    def _context(self, job: Job, emit: Emit) -> StageContext:
        compute = Compute.select(**job.compute)

        def load_model(ref: str) -> nn.Module:
            file = self._model_file(job, ref)
            contract = checkpoint.contract_of(file) if ref in job.files else None
            if contract is None or contract.mean is None:  # of this run, or of pixels as they are
                return self._load(file, given=ref in job.files)
            return fed(self._load(file, given=True), contract, self._load_data(job, compute, emit).contract)

        def identity(ref: str) -> str:
            if not ref:
                return job.data["id"] + compute.device
            self._model_file(job, ref)  # refuses the undeclared
            return _identity(job, ref)

        return StageContext(
            compute=compute,
            streams=Streams(job.seed, job.stage, job.round),
            load_data=lambda: self._load_data(job, compute, emit),
            load_model=load_model,
            round=job.round,
            feed=job.feed,
            judged=self._judged(job),
            emit=emit,
            memo=self._memo,
            identity=identity,
        )

    @contextmanager
    def _lending(self, job: Job, emit: Emit) -> Generator[None]:
        """The block in which the job's plugin computes with what jobs share."""

        def called(key: Hashable) -> str:
            match key:
                case ("model", identity):
                    known = (*job.files, *job.inputs)
                    *_, ref = (
                        ref for ref in known if _identity(job, ref) == identity
                    )  # "previous" comes first
                    return "the model it measured" if ref == "model" else f"the model '{ref}'"
                case ("logits", *_):
                    return "outputs of ctx.logits"
                case _:
                    return "the data" if key in self._data else "what it keeps in ctx.memo"

        with lending(job.uses, self._memo, self._data, called=called):
            yield
        emit({})  # a plugin that closed our way to the run is found out before its result is kept

    def _load(self, path: Path, given: bool = False) -> nn.Module:
        """The model of a checkpoint; building it may not change the process's settings either.

        `given`: it came with the recipe, so that what it orders must go with its size; what a run made itself need not.
        """
        architecture = checkpoint.architecture_of(path)
        with lending(architecture.name if architecture else "the model"):
            return checkpoint.load(path, host=self._host, limited=given)

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

    def _load_data(self, job: Job, compute: Compute, emit: Emit) -> Data:
        key = (job.data["id"], compute.device)
        if key not in self._data:
            dataset = self._host.create(Dataset, job.data["uses"], job.data["config"])
            raw_key = ("raw", *loading.content(dataset))
            if raw_key not in self._data:
                self._cache.mkdir(parents=True, exist_ok=True)
                context = DataContext(self._cache, lambda text: emit({"announce": text}))
                self._data[raw_key] = loading.loaded(dataset, context)
            names, like = dataset.class_names, job.data.get("like")
            contract = InputSpec(
                tuple(dataset.input_shape), like["scale"], tuple(like["mean"]), tuple(like["std"]), names
            ) if like else None  # fmt: skip
            self._data[key] = loading.prepared(
                dataset, self._data[raw_key], lambda text: emit({"announce": text}), compute.device, contract
            )
        return self._data[key]

    def _model_file(self, job: Job, ref: str) -> Path:
        if ref in job.files:
            return Path(job.files[ref])
        key = job.inputs.get(ref)
        if key is None:
            raise CompressitError(
                f"{job.uses} asked for the model '{ref}', which its options do not name",
                "declare it as a ModelRef field of the plugin's config",
            )
        artifact = self._store.find(key)
        if artifact is None:
            raise CompressitError(
                f"the model '{ref}' of {job.label} is no longer in the store", "start the run again"
            )
        return artifact.model_file

    def _narrow(
        self,
        given: checkpoint.Architecture | None,
        ctx: StageContext,
        multiplier: float,
        times: int,
        built: _Built,
    ) -> nn.Module | None:
        if given is None or given.edited:
            return None  # the config no longer says how wide the layers are
        config = rng.narrowed(
            given.config,
            times,
            lambda config: self._host.create(Model, given.name, config).with_width(multiplier),
        )
        if config is None:
            return None
        architecture = checkpoint.Architecture(given.name, config, given.input_shape, given.classes)
        with rng.narrowing(ctx.streams):
            model = checkpoint.build(architecture, self._host).to(ctx.compute.device).train()
        built.append((model, architecture))
        return model

    def _publish_model(
        self,
        job: Job,
        model: nn.Module,
        architecture: checkpoint.Architecture | None,
        contract: InputSpec | None,
        ctx: StageContext | None,
        seconds: float,
    ) -> Artifact:
        curves = dict(ctx.curves) if ctx else {}
        arrays = ctx.arrays if ctx else {}
        notes = ctx.notes if ctx else {}
        if "loss" in arrays:
            curves["loss"] = thinned(arrays["loss"])
        facts = {
            "notes": {"width": hidden_width(model), **notes, **_doubts(ctx)},
            "curves": {name: _thinned_points(points) for name, points in curves.items()},
        }

        def write(folder: Path) -> None:
            file = folder / "model.safetensors"
            try:
                checkpoint.save(model, file, architecture, contract, self._host, job.lineage)
            except CompressitError as error:  # the temporary file's name tells the user nothing
                raise CompressitError(error.message.removeprefix(f"{file}: "), error.hint) from error
            if job.kind == "dry_run":
                # of which the whole stays where a net without weights is none that could be saved
                with suppress(CompressitError):
                    checkpoint.save(
                        emptied(model), file, architecture, contract, self._host, job.lineage, compact=True
                    )
            if arrays:
                save_arrays(
                    {n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / "arrays.safetensors"
                )

        return self._publish(job, facts, seconds, write)

    def _publish(
        self,
        job: Job,
        facts: Mapping[str, Any],
        seconds: float,
        write: Callable[[Path], None] = lambda folder: None,
    ) -> Artifact:
        # Plugins import as they go: after an edit, nobody knows which code made this result.
        if job.code and code_now(*job.roots) != job.code:
            raise CompressitError(
                f"the code of {job.uses} changed since this run was planned", "start the run again"
            )
        told = {"job": job.to_json(), "seconds": seconds, "host": host_facts()}
        return self._store.publish(job.key, {**told, **facts}, write)


def _identity(job: Job, ref: str) -> str:
    """What tells a job's models apart: a file's is fed as the job's data are scaled."""
    return job.inputs.get(ref) or f"{job.files[ref]} {job.data['id']}"


def _doubts(ctx: StageContext | None) -> dict[str, Any]:
    """What its data should be read with."""
    return {"data_doubts": list(ctx.data.doubts)} if ctx and ctx.data.doubts else {}


def thinned(values: np.ndarray) -> list[tuple[float, float]]:
    """At most CURVE_POINTS points (step, mean of its bin) of a value per step."""
    bins = np.array_split(values.astype(np.float64), min(CURVE_POINTS, len(values))) if len(values) else []
    ends = np.cumsum([len(part) for part in bins])
    return [(float(end), float(part.mean())) for end, part in zip(ends, bins, strict=True)]


def _thinned_points(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    points = [(s, v) for s, v in points if np.isfinite(v)]
    if len(points) <= CURVE_POINTS:
        return points
    chosen = np.linspace(0, len(points) - 1, CURVE_POINTS).round().astype(int)
    return [points[i] for i in chosen]


def _load_weights(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError, OSError, ValueError) as error:
        raise CompressitError(f"{path}: these weights do not fit the model: {error}") from error
