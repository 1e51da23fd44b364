"""The jobs of one variant and seed, with their keys: its first model, its stages, and what measures them."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from compressit.checkpoint.starting import check_fits, start_of, statistics_of, weights_digest
from compressit.config import dump, model_uses
from compressit.contract.init_options import InitConfig
from compressit.contract.job import Job
from compressit.contract.kinds import Compressor, Evaluator, Plugin, Trainer, images_after
from compressit.contract.module_types import by_name
from compressit.datasets.options import UNMEASURED
from compressit.datasets.specs import to_json
from compressit.errors import CompressitError
from compressit.files.sealed import canonical
from compressit.host.plugins import Host, Source
from compressit.planning.asked import asked
from compressit.planning.identity import root_of
from compressit.planning.keys import code_digest, key_of, torch_version
from compressit.planning.points import Point
from compressit.recipe.envelope import INIT, ORIGINAL, PREVIOUS
from compressit.recipe.model import Measure, Recipe, Stage, Use, Variant, join_labels
from compressit.recipe.names import Series, called, meaning, point_name
from compressit.recipe.originals import of_first

if TYPE_CHECKING:
    from compressit.checkpoint.manifest import Prepared

# Modules whose code affects results: of a first model, of a stage or evaluation, of data.
_INIT_CORE = ("compressit.seeds", "compressit.running.rng", "compressit.contract.initial")
_STAGE_CORE = ("compressit.contract.context", *_INIT_CORE)
_DATA_CORE = ("compressit.datasets.preparation", "compressit.datasets.stored")


def machine(recipe: Recipe, per_host: bool) -> dict[str, Any]:
    """The facts about this machine that a result depends on; none unless `per_host`."""
    if not per_host:
        return {}
    host = f"{platform.node()}/{platform.machine()}"
    return {"host": host, "device": recipe.compute.device, "threads": recipe.compute.threads}


@dataclass(frozen=True)
class Whole:
    """What the graphs of all variants and seeds share."""

    recipe: Recipe
    host: Host
    models: Mapping[str, Mapping[str, Series]]  # of every variant, by stage
    graphs: dict[tuple[str, int], Graph] = field(default_factory=dict[tuple[str, int], "Graph"])
    # keys of first models with fresh weights, which are never teachers
    fresh: set[str] = field(default_factory=set[str])
    live: bool = False  # whether plugins that only this process has may be used
    found: set[str] = field(default_factory=set[str])  # those that are


class Graph:
    """The jobs of one variant and seed, and the models they make. First `add` makes all models of all graphs, since
    one may need another's; then `measured` adds the evaluations."""

    def __init__(self, whole: Whole, variant: Variant, seed: int) -> None:
        self.whole = whole
        self.recipe = whole.recipe
        self.host = whole.host
        self.variant = variant
        self.seed = seed
        self.offer = variant.offer
        self.rows: list[tuple[Job, str | None]] = []  # the models that may be measured, and their references
        self.points: list[Point] = []
        dataset, spec, compute = variant.dataset, variant.model, self.recipe.compute
        self.images = images_after(dataset.config, dataset.train_size)
        self.data_modules = (self._module(dataset.name), *_DATA_CORE)
        weights = spec.weights
        file, kept = (weights.file, weights.fresh) if weights else (None, ())
        self.data = self._data(start_of(spec.checkpoint, file, self.offer, self.host, kept))
        # trainings see the augmented examples, measurements never do
        augment = self.data["config"]["augment"]
        self.augment = {"augment": augment} if augment else {}
        # what is measured does not depend on the options that only trainings use
        self.task, self.measured_as = (
            task.posed.to_json() for task in (variant.posed, variant.posed.measuring())
        )
        self.task_module = self._module(variant.task.uses)
        self.compute = {"device": compute.device, "precision": compute.precision, "compile": compute.compile}
        changed = spec.init != InitConfig()
        self.init: dict[str, Any] = {"init": dump(spec.init)} if changed else {}
        self.model: tuple[str, ...] = ()  # the modules that build the network
        self.lineage: dict[str, Sequence[Mapping[str, Any]]] = {}
        # stage name -> {label of member: keys of its rounds}
        self.made: dict[str, dict[str, Sequence[str]]] = {}
        for name, path in spec.files:
            self.made[name] = {"": [self._given(name, path)]}
        if not spec.files:
            self.made[INIT] = {"": [self._init()]}
        self.originals: dict[str, str | None] = {}  # of every model, by keys
        for name, original in of_first(spec, self.host).items():
            found = None if original is None else self.made[original][""][0]
            self.originals.setdefault(self.made[name][""][0], found)

    def add(self, stage: Stage) -> None:
        """Adds the models of a stage. Those that it needs must be there."""
        self.made[stage.name] = {
            join_labels(above, label): self._member(stage, use, join_labels(above, label), parents[-1])
            for above, parents in self.made[stage.needs].items()
            for label, use in stage.members
        }

    def _data(self, inputs: Prepared | None) -> dict[str, Any]:
        """The data as jobs have them. `inputs`: how those of a model from a file were prepared."""
        statistics = statistics_of(inputs)
        # inputs are scaled with the mean and deviation of this checkpoint
        like = {"like": statistics} if statistics is not None else {}
        data = {**self.variant.data.to_json(), **like}
        fingerprint = asked(self.variant.dataset, "fingerprint")
        content = {"code": code_digest(*self.data_modules), "content": fingerprint}
        config = {name: value for name, value in data["config"].items() if name not in UNMEASURED}
        identity = key_of({"data": canonical({**data, "config": config, **content})})
        return {**data, "id": identity, "content": fingerprint}  # for a worker, which may find other files

    def _given(self, name: str, path: Path) -> str:
        """A checkpoint that is only measured. It keeps the lineage that its file records."""
        manifest = check_fits(path, self.offer, self.host)
        builders, digest = self._builders(path), weights_digest(path)
        self.model = tuple(dict.fromkeys((*self.model, *builders)))
        key = key_of({
            "kind": "init", "checkpoint": digest, "code": code_digest(*builders), "task": self.measured_as
        })  # fmt: skip
        step = {
            "stage": name,
            "uses": "init",
            "config": {},
            "seed": self.seed,
            "key": key,
            "checkpoint": digest,
        }
        job = Job(
            key=key, kind="init", uses="init", config={}, inputs={}, files={"checkpoint": str(path)}, stage=name,
            lineage=(*manifest.lineage, step),
            **self._common(
                name, *_INIT_CORE, self.task_module, data=self._data(manifest.input), task=self.measured_as
            ),
        )  # fmt: skip
        self._row(job, None)
        return key

    def _init(self) -> str:
        """The first model. If it was trained elsewhere, it is a row of the results: the dense parent."""
        spec = self.variant.model
        given = {"checkpoint": spec.checkpoint, "weights": spec.weights and spec.weights.file}
        kept = spec.weights.fresh if spec.weights else ()
        files = {name: path for name, path in given.items() if path is not None}
        digests = {name: weights_digest(path) for name, path in files.items()}
        partly: dict[str, Any] = {"fresh": list(kept)} if kept else {}
        precise = {"precision": "fp64"} if self.compute["precision"] == "fp64" else {}  # others build float32
        facts: dict[str, Any] = {"kind": "init", **digests, **partly, **precise, **self.init}
        if spec.use is None:
            self.model = self._builders(files["checkpoint"])
            made: dict[str, Any] = {"uses": "init", "config": {}}
            facts |= {"code": code_digest(*self.model), "task": self.measured_as}
        else:
            self.model = (self._module(spec.use.uses),)
            made = spec.use.to_json()
            facts |= {**made, "code": code_digest(*self.model, *_INIT_CORE), "inputs": to_json(self.offer.inputs),
                      "outputs": self.offer.classes, "task": self.measured_as, "seed": self.seed,
                      "torch": torch_version()}  # fmt: skip
        key = key_of(facts)
        lineage = (
            {"stage": "init", **made, "seed": self.seed, "key": key, **digests, **partly, **self.init},
        )
        job = Job(
            key=key, kind="init", **made, inputs={}, files={name: str(path) for name, path in files.items()},
            lineage=lineage, fresh=kept, **self._common("init", *_INIT_CORE, self.task_module, task=self.measured_as),
        )  # fmt: skip
        self._row(job, None)
        if not self.variant.model.given:
            self.whole.fresh.add(key)
        return key

    def _member(self, stage: Stage, use: Use, member: str, parent: str) -> list[str]:
        """Adds all rounds of a member (without `repeat`, one unnumbered). Returns their keys."""
        keys: list[str] = []
        for number in range(1, stage.repeat + 1) if stage.repeat else (None,):
            given = keys[-1] if keys and stage.feed == "previous" else parent
            keys.append(self._round(stage, use, member, number, given))
        return keys

    def _round(self, stage: Stage, use: Use, member: str, number: int | None, given: str) -> str:
        made = use.to_json()
        files, builds = self._files(use)
        relative = {PREVIOUS: given, ORIGINAL: self.originals[given]}
        others = [ref for ref in use.models if ref not in files]
        inputs = {PREVIOUS: given, **{ref: self._named(ref, member, relative) for ref in others}}
        per_host = isinstance(use.plugin, Compressor) and bool(asked(use.plugin, "per_host"))
        module = self._module(use.uses)
        key = key_of({
            "kind": "stage", **made, "code": code_digest(module, *_STAGE_CORE), "inputs": inputs,
            "task": {**self.task, "code": code_digest(self.task_module)},
            **self._file_facts(files, builds), "seed": self.seed, "stage": stage.name, "round": number,
            "feed": stage.feed if number else None, "data": self.data["id"], **self.augment,
            "precision": self.compute["precision"], "compile": self.compute["compile"], "torch": torch_version(),
            **machine(self.recipe, per_host),
        })  # fmt: skip
        name = point_name(stage.name, member, number)
        step = {
            "stage": name,
            **use.to_lineage(),
            "seed": self.seed,
            "variant": self.variant.name,
            "data": self.variant.data.to_lineage(),
            "key": key,
        }
        job = Job(
            key=key, kind="stage", **made, inputs=inputs, files=files, stage=stage.name, round=number,
            feed=stage.feed, member=member, work=_work(use.plugin, self.images, number), exclusive=per_host,
            lineage=(*self.lineage[given], step),
            **self._common(name, module, *builds, *_STAGE_CORE, self.task_module, *self.data_modules),
        )  # fmt: skip
        first = given in self.whole.fresh
        trained = key if isinstance(use.plugin, Trainer) else None
        self.originals[key] = trained if first else self.originals[given]
        default = None if first else PREVIOUS
        named = (ref for ref in use.models if inputs.get(ref) not in self.whole.fresh)
        self._row(job, next(named, default))
        return key

    def _named(self, ref: str, member: str, relative: Mapping[str, str | None]) -> str:
        """The key of the model that an option of this member names. Reading the recipe checked that it is one.

        `relative`: the keys of those that are others for each model."""
        if ref in relative:
            key = relative[ref]
            assert key is not None, f"'{ref}' is a model"
            return key
        meant = meaning(ref, self.variant.name, self.whole.models)
        there = self.whole.graphs[
            meant.variant or self.variant.name, self.seed if meant.seed is None else meant.seed
        ]
        rounds = there.made[meant.stage]
        found = meant.member_for(member, rounds)
        assert found is not None, f"'{ref}' is one model"
        return rounds[found][meant.round - 1 if meant.round else -1]

    def _files(self, use: Use) -> tuple[dict[str, str], list[str]]:
        """The checkpoints that a plugin's options name, and the modules that build their networks and those of the
        model plugins that they name."""
        files = {ref: ref for ref in use.models if ref.endswith(".safetensors")}
        builders = [module for path in files for module in self._builders(Path(path))]
        return files, builders + [self._module(model.uses) for _, model in model_uses(use.plugin.config)]

    def _file_facts(self, files: Mapping[str, str], builds: Sequence[str]) -> dict[str, Any]:
        """What of these files a result depends on."""
        builders = {"builders": code_digest(*sorted({*builds}))} if builds else {}
        return {"files": {ref: weights_digest(Path(path)) for ref, path in files.items()}, **builders}

    def _row(self, job: Job, reference: str | None) -> None:
        self.rows.append((job, reference))
        self.lineage[job.key] = job.lineage

    def measured(self) -> dict[str, Job]:
        """All jobs, each model with its evaluations after it. Makes `points`."""
        jobs: dict[str, Job] = {}
        for made, reference in self.rows:
            jobs.setdefault(made.key, made)
            names = called(made.stage, made.member, made.round)
            measures = [m for m in self.variant.evaluate if self._covers(m, made, names)]
            if made.key in self.whole.fresh and not measures:
                continue
            evaluations = [(measure, self._evaluation(measure, made, reference)) for measure in measures]
            for _, job in evaluations:
                jobs.setdefault(job.key, job)
            self.points.append(Point(
                variant=self.variant.name, seed=self.seed, stage=made.stage, round=made.round, member=made.member,
                uses=made.uses, reference=reference, model=made.key,
                metrics={job.key: measure.name for measure, job in evaluations}, swept=dict(self.variant.swept),
                original=self.originals[made.key],
            ))  # fmt: skip
        return jobs

    def _covers(self, measure: Measure, made: Job, names: Sequence[str]) -> bool:
        return made.key not in self.whole.fresh if measure.stages is None else measure.covers(*names)

    def _evaluation(self, measure: Measure, made: Job, reference: str | None) -> Job:
        """The job that measures a model."""
        use = measure.use
        plugin = cast("Evaluator[Any]", use.plugin)
        module = self._module(use.uses)
        judges = plugin.uses_stage
        files, builds = self._files(use)
        others = [ref for ref in use.models if ref not in files]
        relative = {PREVIOUS: made.inputs.get(PREVIOUS), ORIGINAL: self.originals[made.key]}
        compared = {ref: self._named(ref, made.member, relative) for ref in others}
        inputs = {**(made.inputs if judges else {}), **compared, "model": made.key}
        key = key_of({
            "kind": "evaluate", **use.to_json(), "code": code_digest(module, *_STAGE_CORE), "inputs": inputs,
            **(self._file_facts(files, builds) if files or builds else {}),
            "seed": self.seed, "precision": self.compute["precision"], "torch": torch_version(),
            "data": made.data["id"] if plugin.uses_data else [to_json(self.offer.inputs), self.offer.classes],
            **({"task": {**self.measured_as, "code": code_digest(self.task_module)}} if plugin.uses_data else {}),
            **machine(self.recipe, plugin.per_host),
        })  # fmt: skip
        about: dict[str, Any] = {"stage": made.stage, "round": made.round}
        judged = {
            **about,
            "uses": made.uses,
            "config": made.config,
            "reference": reference,
            "seed": self.seed,
        }
        data = (self.task_module, *self.data_modules) if plugin.uses_data else ()
        own = f"{use.uses} as {measure.name}" if measure.name else use.uses
        return Job(
            key=key, kind="evaluate", **use.to_json(), inputs=inputs,
            files={**(made.files if judges else {}), **files}, **about, member=made.member,
            judged=judged if judges else None, exclusive=plugin.exclusive, work=_work(plugin, self.images, None),
            **self._common(f"{point_name(made.stage, made.member, made.round)} {own}", module, *builds, *_STAGE_CORE,
                           *data, data=made.data, task=self.measured_as),
        )  # fmt: skip

    def _common(
        self,
        name: str,
        *modules: str,
        data: Mapping[str, Any] | None = None,
        task: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The fields that every job has, with the digest of the code that it and its model run."""
        roots = tuple(dict.fromkeys((*self.model, *modules)))
        label = f"{self.variant.name}/seed{self.seed}/{name}"
        return {"label": label, "seed": self.seed, "data": data or self.data, "task": task or self.task,
                "compute": self.compute, **self.init,
                "code": code_digest(*roots), "roots": roots}  # fmt: skip

    def _builders(self, checkpoint: Path) -> tuple[str, ...]:
        """The modules that build a checkpoint's network, its model's and those of replaced layer types."""
        manifest = check_fits(checkpoint, self.offer, self.host)
        builder = () if manifest.model is None else (self._module(manifest.model.name),)
        files = {plugin.path.resolve() for plugin in self.recipe.plugins}
        replaced = dict.fromkeys(edit.type for edit in manifest.edits if edit.do == "replace")
        for name in replaced:
            rule = by_name(self.host.module_types(), name)
            source = self.host.module_type_sources()[rule.name]
            if source.is_local and Path(source.name).resolve() not in files:
                self._found_here(f"the layer type '{name}'", source)
        return (*builder, *(self.host.module_type_modules() if replaced else ()))

    def _module(self, name: str) -> str:
        """The root of a plugin's code (`keys`)."""
        found = self.host.find(name)
        if found.live:
            self._found_here(f"'{name}'", found.source)
        return root_of(found)

    def _found_here(self, what: str, source: Source) -> None:
        """Notes what only this process has. Raises CompressitError unless the run may use it."""
        if not self.whole.live:
            raise _only_here(what, source)
        self.whole.found.add(what)


def _only_here(what: str, source: Source) -> CompressitError:
    return CompressitError(
        f"{what} was registered in this Python process ({source}), but a run's jobs are done by other "
        "processes, which do not have it",
        "put it in a file and list the file in the recipe under `plugins:`, or call compressit.run in that process",
    )


def _work(plugin: Plugin[Any], images: int | None, number: int | None) -> dict[str, float] | None:
    """The estimated work of a stage or evaluation; None if unknown. A failing estimate does not stop the run."""
    if images is None:
        return None
    try:
        if isinstance(plugin, Trainer | Evaluator):
            work = plugin.work(images)
        else:  # the round is the number of shrinking steps from the recipe's model, whatever `feed` is
            work = cast("Compressor[Any]", plugin).work(images, number or 1)
        return asdict(work) if work else None
    except Exception:  # noqa: BLE001 - third-party code
        return None
