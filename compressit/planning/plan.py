"""Makes a Plan from a Recipe: every job with its key, inputs first.

Reads the recipe, plugins and file digests. Writes nothing and does not import torch.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

from compressit.checkpoint.starting import check_fits, code_of, start_of, statistics_of, weights_digest
from compressit.contract.job import Job
from compressit.contract.kinds import Compressor, Evaluator, Plugin, Trainer, images_after
from compressit.contract.module_types import by_name
from compressit.datasets.options import UNMEASURED
from compressit.datasets.specs import to_json
from compressit.errors import CompressitError
from compressit.files.sealed import canonical
from compressit.host.plugins import Host, Source
from compressit.planning.asked import asked
from compressit.planning.dry_run import dry_runs
from compressit.planning.keys import code_digest, key_of, torch_version
from compressit.planning.points import Plan, Point, point_name
from compressit.recipe.model import Recipe, Stage, Use, Variant, join_labels, member_of

# Modules whose code affects results: of a first model, of a stage or evaluation, of data.
_INIT_CORE = ("compressit.seeds", "compressit.running.rng")
_STAGE_CORE = ("compressit.contract.context", *_INIT_CORE)
_DATA_CORE = ("compressit.datasets.preparation", "compressit.datasets.stored")


def make_plan(recipe: Recipe, host: Host) -> Plan:
    """Expands the recipe into jobs: variants x seeds x stages x members x rounds. Equal jobs appear once.

    Raises CompressitError if something has become invalid since the recipe was read (a checkpoint no longer fits the
    data), for a plugin file that is not valid Python, and for a plugin that exists only in this process.
    """
    graphs = [_Graph(recipe, host, variant, seed) for variant in recipe.variants for seed in recipe.seeds]
    made: dict[str, Job] = {}
    for graph in graphs:
        made |= {key: job for key, job in graph.jobs.items() if key not in made}
    jobs = _abreast(made)
    points = [point for graph in graphs for point in graph.points]
    stages = [jobs[point.model] for point in points if point.seed == recipe.seeds[0]]
    tried = dry_runs(stages, host, partial(_machine, recipe))
    first = {key: job for key, job in jobs.items() if job.kind == "init"}
    first |= {job.key: job for job in tried.values()}
    return Plan(recipe, first | jobs, tuple(points), {stage: job.key for stage, job in tried.items()})


def _abreast(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """Sorts jobs level by level across variants, so that an interrupted run can already compare them."""
    place: dict[str, int] = {}
    counts: dict[str, int] = {}
    for key, job in jobs.items():  # inputs come first
        inputs = [place[k] for k in job.inputs.values()]
        if job.kind == "stage":
            lane = "/".join(job.label.split("/")[:2])
            counts[lane] = counts.get(lane, 0) + 1
            inputs.append(counts[lane])
        place[key] = max(inputs, default=0)
    return dict(sorted(jobs.items(), key=lambda item: place[item[0]]))  # stable: inputs still come first


def _machine(recipe: Recipe, per_host: bool) -> dict[str, Any]:
    """The facts about this machine that a result depends on; none unless `per_host`."""
    if not per_host:
        return {}
    host = f"{platform.node()}/{platform.machine()}"
    return {"host": host, "device": recipe.compute.device, "threads": recipe.compute.threads}


class _Graph:
    """The jobs of one variant and seed, inputs first, and the models they make."""

    def __init__(self, recipe: Recipe, host: Host, variant: Variant, seed: int) -> None:
        self.recipe = recipe
        self.host = host
        self.variant = variant
        self.seed = seed
        self.offer = variant.offer
        self.jobs: dict[str, Job] = {}
        self.points: list[Point] = []
        dataset, spec, compute = variant.dataset, variant.model, recipe.compute
        self.images = images_after(dataset.config, dataset.train_size)
        self.data_modules = (self._module(dataset.name), *_DATA_CORE)
        weights = spec.weights
        file, kept = (weights.file, weights.fresh) if weights else (None, ())
        statistics = statistics_of(start_of(spec.checkpoint, file, self.offer, host, kept))
        # inputs are scaled with the mean and deviation of this checkpoint
        like = {"like": statistics} if statistics is not None else {}
        data = {**variant.data.to_json(), **like}
        content = {"code": code_digest(*self.data_modules), "content": asked(dataset, "fingerprint")}
        config = {name: value for name, value in data["config"].items() if name not in UNMEASURED}
        self.data = {**data, "id": key_of({"data": canonical({**data, "config": config, **content})})}
        self.data["content"] = content["content"]  # for a worker, which may find other files
        # trainings see the augmented examples, measurements never do
        augment = data["config"]["augment"]
        self.augment = {"augment": augment} if augment else {}
        self.compute = {"device": compute.device, "precision": compute.precision, "compile": compute.compile}
        self.model: tuple[str, ...] = ()  # the modules that build the network
        self.fresh = ""  # key of init if its weights are fresh; such a model is never a teacher
        self.lineage: dict[str, Sequence[Mapping[str, Any]]] = {}
        # stage name -> {label of member: key}; for a repeated stage, the key of the last round
        self.made: dict[str, dict[str, str]] = {"init": {"": self._init()}}
        for stage in variant.stages:
            self.made[stage.name] = {
                join_labels(above, label): self._member(stage, use, join_labels(above, label), parent)
                for above, parent in self.made[stage.needs].items()
                for label, use in stage.members
            }

    def _init(self) -> str:
        """The first model. If it was trained elsewhere, it is a row of the results: the dense parent."""
        spec = self.variant.model
        given = {"checkpoint": spec.checkpoint, "weights": spec.weights and spec.weights.file}
        kept = spec.weights.fresh if spec.weights else ()
        files = {name: path for name, path in given.items() if path is not None}
        digests = {name: weights_digest(path) for name, path in files.items()}
        partly: dict[str, Any] = {"fresh": list(kept)} if kept else {}
        facts: dict[str, Any] = {"kind": "init", **digests, **partly}
        if spec.use is None:
            self.model = self._builders(files["checkpoint"])
            made: dict[str, Any] = {"uses": "init", "config": {}}
            facts |= {"code": code_digest(*self.model)}
        else:
            self.model = (self._module(spec.use.uses),)
            made = spec.use.to_json()
            facts |= {**made, "code": code_digest(*self.model, *_INIT_CORE), "inputs": to_json(self.offer.inputs),
                      "outputs": self.offer.classes, "seed": self.seed, "torch": torch_version()}  # fmt: skip
        key = key_of(facts)
        lineage = ({"stage": "init", **made, "seed": self.seed, "key": key, **digests, **partly},)
        job = Job(
            key=key, kind="init", **made, inputs={}, files={name: str(path) for name, path in files.items()},
            lineage=lineage, fresh=kept, **self._common("init", *_INIT_CORE),
        )  # fmt: skip
        self._put(job)
        if files:
            self._measure(job, None)
        else:
            self.fresh = key
        return key

    def _member(self, stage: Stage, use: Use, member: str, parent: str) -> str:
        """Adds all rounds of a member (without `repeat`, one unnumbered). Returns the key of the last."""
        key = parent
        for number in range(1, stage.repeat + 1) if stage.repeat else (None,):
            key = self._round(stage, use, member, number, parent if stage.feed == "original" else key)
        return key

    def _round(self, stage: Stage, use: Use, member: str, number: int | None, given: str) -> str:
        made = use.to_json()
        files = {ref: ref for ref in use.models if ref.endswith(".safetensors")}
        others = [ref for ref in use.models if ref not in files and ref != "previous"]
        inputs = {"previous": given, **{ref: self._member_of(ref, stage, member) for ref in others}}
        builds = [module for path in files for module in self._builders(Path(path))]
        builders = {"builders": code_digest(*sorted({*builds}))} if builds else {}
        per_host = isinstance(use.plugin, Compressor) and bool(asked(use.plugin, "per_host"))
        module = self._module(use.uses)
        key = key_of({
            "kind": "stage", **made, "code": code_digest(module, *_STAGE_CORE), "inputs": inputs,
            "files": {ref: weights_digest(Path(path)) for ref, path in files.items()}, **builders,
            "seed": self.seed, "stage": stage.name, "round": number, "feed": stage.feed if number else None,
            "data": self.data["id"], **self.augment, "precision": self.compute["precision"],
            "compile": self.compute["compile"], "torch": torch_version(), **_machine(self.recipe, per_host),
        })  # fmt: skip
        name = point_name(stage.name, member, number)
        data = {"uses": self.data["uses"], "config": self.data["config"]}
        step = {
            "stage": name,
            **made,
            "seed": self.seed,
            "variant": self.variant.name,
            "data": data,
            "key": key,
        }
        job = Job(
            key=key, kind="stage", **made, inputs=inputs, files=files, stage=stage.name, round=number,
            feed=stage.feed, member=member, work=_work(use.plugin, self.images, number), exclusive=per_host,
            lineage=(*self.lineage[given], step),
            **self._common(name, module, *builds, *_STAGE_CORE, *self.data_modules),
        )  # fmt: skip
        self._put(job)
        default = None if given == self.fresh else "previous"
        named = (ref for ref in use.models if inputs.get(ref) != self.fresh)
        self._measure(job, next(named, default))
        return key

    def _member_of(self, ref: str, stage: Stage, member: str) -> str:
        """The key of the member of stage `ref` that this member belongs to. Reading the recipe checked that."""
        found = member_of(member, self.made[ref])
        assert found is not None, f"'{stage.name}' names one member of '{ref}'"
        return self.made[ref][found]

    def _measure(self, made: Job, reference: str | None) -> None:
        """Adds the evaluations of a model, and its point."""
        metrics: dict[str, str] = {}
        about: dict[str, Any] = {"stage": made.stage, "round": made.round}
        for use in self.variant.evaluate:
            plugin = cast("Evaluator[Any]", use.plugin)
            module = self._module(use.uses)
            judges = plugin.uses_stage
            inputs = {**(made.inputs if judges else {}), "model": made.key}
            key = key_of({
                "kind": "evaluate", **use.to_json(), "code": code_digest(module, *_STAGE_CORE), "inputs": inputs,
                "seed": self.seed, "precision": self.compute["precision"], "torch": torch_version(),
                "data": self.data["id"] if plugin.uses_data else [to_json(self.offer.inputs), self.offer.classes],
                **_machine(self.recipe, plugin.per_host),
            })  # fmt: skip
            judged = {
                **about,
                "uses": made.uses,
                "config": made.config,
                "reference": reference,
                "seed": self.seed,
            }
            data = self.data_modules if plugin.uses_data else ()
            name = f"{point_name(made.stage, made.member, made.round)} {use.uses}"
            self._put(Job(
                key=key, kind="evaluate", **use.to_json(), inputs=inputs, files=made.files if judges else {},
                **about, member=made.member, judged=judged if judges else None, exclusive=plugin.exclusive,
                **self._common(name, module, *_STAGE_CORE, *data),
            ))  # fmt: skip
            metrics[use.uses] = key
        self.points.append(Point(
            variant=self.variant.name, seed=self.seed, **about, member=made.member, uses=made.uses,
            reference=reference, model=made.key, metrics=metrics,
        ))  # fmt: skip

    def _put(self, job: Job) -> None:
        self.jobs.setdefault(job.key, job)
        self.lineage[job.key] = job.lineage

    def _common(self, name: str, *modules: str) -> dict[str, Any]:
        """The fields that every job has, with the digest of the code that it and its model run."""
        roots = tuple(dict.fromkeys((*self.model, *modules)))
        label = f"{self.variant.name}/seed{self.seed}/{name}"
        return {"label": label, "seed": self.seed, "data": self.data, "compute": self.compute,
                "code": code_digest(*roots), "roots": roots}  # fmt: skip

    def _builders(self, checkpoint: Path) -> tuple[str, ...]:
        """The modules that build a checkpoint's network. Raises CompressitError if only this process has them."""
        manifest = check_fits(checkpoint, self.offer, self.host)
        if manifest.model is not None:
            self._module(manifest.model.name)
        files = {plugin.path.resolve() for plugin in self.recipe.plugins}
        for name in dict.fromkeys(edit.type for edit in manifest.edits if edit.do == "replace"):
            rule = by_name(self.host.module_types(), name)
            source = self.host.module_type_sources()[rule.name]
            if source.is_local and Path(source.name).resolve() not in files:
                raise _only_here(f"the layer type '{name}'", source)
        return code_of(manifest, self.host)

    def _module(self, name: str) -> str:
        """The module of a plugin's code. Raises CompressitError if only this process has it."""
        found = self.host.find(name)
        if found.live:
            raise _only_here(f"'{name}'", found.source)
        return found.plugin.__module__


def _only_here(what: str, source: Source) -> CompressitError:
    return CompressitError(
        f"{what} was registered in this Python process ({source}), but a run's jobs are done by other "
        "processes, which do not have it",
        "put it in a file and list the file in the recipe under `plugins:`",
    )


def _work(plugin: Plugin[Any], images: int | None, number: int | None) -> dict[str, float] | None:
    """The estimated work of a stage; None if unknown. A failing estimate does not stop the run."""
    if images is None:
        return None
    try:
        if isinstance(plugin, Trainer):
            work = plugin.work(images)
        else:  # the round is the number of shrinking steps from the recipe's model, whatever `feed` is
            work = cast("Compressor[Any]", plugin).work(images, number or 1)
        return asdict(work) if work else None
    except Exception:  # noqa: BLE001 - third-party code
        return None
