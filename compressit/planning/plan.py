"""Recipe -> Plan: every job with its key, in an order that works.

Reads the recipe, plugins and file digests; writes nothing, imports no torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from compressit.checkpoint.starting import Offer, check_fits, code_of, start_of, statistics_of, weights_digest
from compressit.config import model_refs, parse
from compressit.contract.job import Job
from compressit.contract.kinds import Compressor, Dataset, Evaluator, Plugin, Trainer, Work, images_after
from compressit.contract.module_types import by_name
from compressit.datasets.options import known_doubts
from compressit.errors import FOREIGN, CompressitError, place_in, told
from compressit.files.sealed import canonical
from compressit.host.plugins import Host, Source
from compressit.planning.dry_run import dry_runs
from compressit.planning.keys import code_digest, key_of, torch_version
from compressit.planning.points import Plan, Point, point_name
from compressit.recipe.model import Recipe, Stage, Use, Variant, join_labels, member_of

if TYPE_CHECKING:
    from compressit.checkpoint.manifest import Manifest

# Whose code takes part in the results: of a first model, of a stage or evaluation, of data.
_INIT_CORE = ("compressit.seeds", "compressit.running.rng")
_STAGE_CORE = ("compressit.contract.context", *_INIT_CORE)
_DATA_CORE = ("compressit.datasets.splits",)


Digest = Callable[..., str]
"""From names of modules to the digest of their code, and of the code they import."""


def make_plan(recipe: Recipe, host: Host, digest: Digest = code_digest) -> Plan:
    """Multiplies the recipe out into jobs: variants x seeds x stages x members x rounds, equal jobs once.

    `digest`: how code is read for the keys. Raises CompressitError for what a recipe's reading refuses too and
    has become wrong since (a checkpoint that no longer fits the data), and for a plugin file that is no Python.
    """
    builder = _Builder(recipe, host, digest)
    for variant in recipe.variants:
        for seed in recipe.seeds:
            builder.add(variant, seed)
    jobs = _abreast(builder.jobs)
    first = [point for point in builder.points if point.seed == recipe.seeds[0]]
    tried = dry_runs([jobs[point.model] for point in first], host, builder.machine)
    return Plan(
        recipe,
        _before_all_stages(tried.values(), jobs),
        tuple(builder.points),
        {stage: dry.key for stage, dry in tried.items()},
        tuple(dict.fromkeys(builder.doubts)),
    )


def _before_all_stages(tried: Iterable[Job], jobs: Mapping[str, Job]) -> dict[str, Job]:
    inits = {key: job for key, job in jobs.items() if job.kind == "init"}
    return {**inits, **{job.key: job for job in tried}, **jobs}


def _abreast(jobs: Mapping[str, Job]) -> dict[str, Job]:
    """Variants side by side, level by level: an interrupted run can already compare them."""
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


class _Builder:
    def __init__(self, recipe: Recipe, host: Host, digest: Digest) -> None:
        self.recipe = recipe
        self.host = host
        self.digest = digest
        self.jobs: dict[str, Job] = {}
        self.points: list[Point] = []
        self.doubts: list[str] = []

    def add(self, variant: Variant, seed: int) -> None:
        graph = _Graph(self, variant, seed)
        graph.add_init()
        for stage in variant.stages:
            graph.add_stage(stage)

    def put(self, job: Job) -> str:
        """Keeps the job under its key, once; the first label wins."""
        self.jobs.setdefault(job.key, job)
        return job.key

    def config_of(self, kind: type[Plugin[Any]], use: Use) -> Any:
        return self.host.create(kind, use.uses, use.config)

    def plugin(self, use: Use) -> Plugin[Any]:
        cls = self.host.find(use.uses).plugin
        return cls(parse(cls.Config, use.config))

    def machine(self, per_host: bool) -> dict[str, Any]:
        """What a result depends on that holds for this machine only."""
        if not per_host:
            return {}
        compute = self.recipe.compute
        return {"host": _host_name(), "device": compute.device, "threads": compute.threads}

    def code(self, use: Use, *roots: str) -> str:
        return self.digest(self.module(use.uses), *roots)

    def network(self, manifest: Manifest) -> None:
        """Raises CompressitError where a checkpoint's network is built by what only this process has."""
        if manifest.model is not None:
            self.module(manifest.model.name)
        replaced = dict.fromkeys(edit.type for edit in manifest.edits if edit.do == "replace")
        if not replaced:
            return
        types, sources = self.host.module_types(), self.host.module_type_sources()
        named = {plugin.path.resolve() for plugin in self.recipe.plugins}
        for name in replaced:
            source = sources[by_name(types, name).name]
            if source.is_local and Path(source.name).resolve() not in named:
                raise _only_here(f"the layer type '{name}'", source)

    def module(self, name: str) -> str:
        found = self.host.find(name)
        if found.live:
            raise _only_here(f"'{name}'", found.source)
        return found.plugin.__module__


def _only_here(what: str, source: Source) -> CompressitError:
    return CompressitError(
        f"{what} was registered in this Python process ({source}), and the jobs of a run are carried "
        "out by other processes, which do not have it",
        "put it into a file, and name that in the recipe under `plugins:`",
    )


def _asked(plugin: Plugin[Any], name: str) -> Any:
    """What a plugin says under that name, a property or a method. Raises CompressitError where it cannot."""
    try:
        answer = getattr(plugin, name)
        return answer() if callable(answer) else answer
    except CompressitError:
        raise
    except FOREIGN as error:
        place = place_in(error, [Path(inspect.getfile(type(plugin)))])
        raise CompressitError(
            f"{plugin.name} cannot say its `{name}`: {told(error)}{place}",
            "a fault of the plugin, not of the recipe",
        ) from error


class _Graph:
    """The jobs of one variant and seed."""

    def __init__(self, builder: _Builder, variant: Variant, seed: int) -> None:
        self.builder = builder
        self.variant = variant
        self.seed = seed
        dataset = cast("Dataset[Any]", builder.config_of(Dataset, variant.data))
        self.offer = Offer.of(dataset)
        spec = variant.model
        statistics = statistics_of(start_of(spec.checkpoint, spec.weights, self.offer, builder.host))
        like = (
            {"like": statistics} if statistics is not None else {}
        )  # whose mean and deviation inputs are scaled by
        size = _asked(dataset, "train_size")
        self.images = images_after(dataset.config, size)
        doubts = known_doubts(dataset.config, self.offer.classes, size)
        builder.doubts += (f"{variant.name}: {doubt}" for doubt in doubts)
        identity = canonical(
            {
                **vars(variant.data),
                "code": builder.code(variant.data, *_DATA_CORE),
                "content": _asked(dataset, "fingerprint"),
                **like,
            }
        )
        self.data = {**vars(variant.data), "id": key_of({"data": identity}), **like}
        self.data_modules = (builder.module(variant.data.uses), *_DATA_CORE)
        self.model: tuple[str, ...] = ()  # the modules that build the network
        compute = builder.recipe.compute
        self.fresh = ""  # the key of init where its weights are fresh: they teach nothing
        self.compute = {"device": compute.device, "precision": compute.precision, "compile": compute.compile}
        # stage name -> {label of member: key}; the last round stands for a repeated stage
        self.made: dict[str, dict[str, str]] = {}
        self.lineage: dict[str, tuple[Mapping[str, Any], ...]] = {}

    def add_init(self) -> None:
        """The first model. One that was trained elsewhere is a row of the results: the dense parent."""
        spec = self.variant.model
        facts: dict[str, Any] = {"kind": "init", "seed": self.seed, "torch": torch_version()}
        files: dict[str, str] = {}
        if spec.checkpoint is not None:
            manifest = check_fits(spec.checkpoint, self.offer, self.builder.host)
            self.builder.network(manifest)
            self.model = code_of(manifest, self.builder.host)
            code = self.builder.digest(*self.model)
            facts = {"kind": "init", "checkpoint": weights_digest(spec.checkpoint), "code": code}
            files["checkpoint"] = str(spec.checkpoint)
            use = Use("init")
        else:
            use = cast("Use", spec.use)
            self.model = (self.builder.module(use.uses),)
            facts |= {**vars(use), "code": self.builder.code(use, *_INIT_CORE), "input_shape": self.offer.shape,
                      "classes": self.offer.classes}  # fmt: skip
        if spec.weights is not None:
            facts["weights"] = weights_digest(spec.weights)
            files["weights"] = str(spec.weights)
        key = key_of(facts)
        step = {"stage": "init", **vars(use), "seed": self.seed, "key": key}
        lineage = ({**step, **_digest(facts)},)
        job = Job(
            key=key, kind="init", label=f"{self.variant.name}/seed{self.seed}/init", uses=use.uses,
            config=use.config, seed=self.seed, inputs={}, files=files, data=self.data, compute=self.compute,
            lineage=lineage, **self._code(*_INIT_CORE),
        )  # fmt: skip
        self.builder.put(job)
        self.made["init"] = {"": key}
        self.lineage[key] = lineage
        if files:
            self._add_point(job, None)
        else:
            self.fresh = key

    def add_stage(self, stage: Stage) -> None:
        inherited = self.made[stage.needs]
        made: dict[str, str] = {}
        for parent_label, parent in inherited.items():
            for label, use in stage.members:
                member = join_labels(parent_label, label)
                made[member] = self._add_rounds(stage, use, member, parent)
        self.made[stage.name] = made

    def _add_rounds(self, stage: Stage, use: Use, member: str, parent: str) -> str:
        """All rounds of one member (one, unnumbered, without `repeat`); returns the last one's key."""
        key = parent
        for number in range(1, stage.repeat + 1) if stage.repeat else (None,):
            given = parent if stage.feed == "original" else key
            key = self._add_round(stage, use, member, number, given)
        return key

    def _add_round(self, stage: Stage, use: Use, member: str, number: int | None, given: str) -> str:
        inputs = {"previous": given}
        files: dict[str, str] = {}
        builds: list[str] = []  # modules that build the networks in these files
        refs = [ref for _, ref in self._refs(use)]
        for ref in refs:
            if ref == "previous":
                continue
            if ref.endswith(".safetensors"):
                files[ref] = ref
                manifest = check_fits(Path(ref), self.offer, self.builder.host)
                self.builder.network(manifest)
                builds += code_of(manifest, self.builder.host)
            else:
                inputs[ref] = self._member(ref, stage, member)
        builders = {"builders": self.builder.digest(*sorted({*builds}))} if builds else {}
        plugin = self.builder.plugin(use)
        per_host = isinstance(plugin, Compressor) and bool(_asked(plugin, "per_host"))
        facts = {
            "kind": "stage", **vars(use), "code": self.builder.code(use, *_STAGE_CORE), "inputs": inputs,
            "files": {ref: weights_digest(Path(path)) for ref, path in files.items()}, **builders,
            "seed": self.seed, "stage": stage.name, "round": number, "feed": stage.feed if number else None,
            "data": self.data["id"], "precision": self.compute["precision"],
            "compile": self.compute["compile"], "torch": torch_version(),
            **self.builder.machine(per_host),
        }  # fmt: skip
        key = key_of(facts)
        name = point_name(stage.name, member, number)
        lineage = (
            *self.lineage[given],
            {"stage": name, **vars(use), "seed": self.seed,
             "variant": self.variant.name, "data": {"uses": self.data["uses"], "config": self.data["config"]},
             "key": key},
        )  # fmt: skip
        job = Job(
            key=key, kind="stage", label=f"{self.variant.name}/seed{self.seed}/{name}", uses=use.uses,
            config=use.config, seed=self.seed, inputs=inputs, files=files, data=self.data,
            compute=self.compute, stage=stage.name, round=number, feed=stage.feed, member=member,
            work=self._work(plugin, number), lineage=lineage, exclusive=per_host,
            **self._code(self.builder.module(use.uses), *builds, *_STAGE_CORE, *self.data_modules),
        )  # fmt: skip
        self.builder.put(job)
        self.lineage[key] = lineage
        default = None if given == self.fresh else "previous"
        named = (ref for ref in refs if inputs.get(ref) != self.fresh)
        self._add_point(job, next(named, default))
        return key

    def _member(self, ref: str, stage: Stage, member: str) -> str:
        """The member of a stage that this one is made from or stands beside."""
        members = self.made[ref]
        found = member_of(member, members)
        if found is None:
            raise CompressitError(
                f"stage '{stage.name}' names the model '{ref}', which has {len(members)} members: "
                f"{', '.join(members)}",
                f"let '{stage.name}' need '{ref}', or something made from it: then each goes with its own",
            )
        return members[found]

    def _add_point(self, job: Job, reference: str | None) -> None:
        metrics = self._add_evaluations(job, reference)
        self.builder.points.append(
            Point(
                variant=self.variant.name, seed=self.seed, stage=job.stage, round=job.round, member=job.member,
                uses=job.uses, reference=reference, model=job.key, metrics=metrics,
            )
        )  # fmt: skip

    def _add_evaluations(self, stage: Job, reference: str | None) -> dict[str, str]:
        made: dict[str, str] = {}
        for use in self.variant.evaluate:
            plugin = cast("type[Evaluator[Any]]", self.builder.host.find(use.uses, "evaluator").plugin)
            judged = {"stage": stage.stage, "round": stage.round, "uses": stage.uses, "config": stage.config,
                      "reference": reference, "seed": stage.seed}  # fmt: skip
            inputs = {**(stage.inputs if plugin.uses_stage else {}), "model": stage.key}
            facts = {
                "kind": "evaluate", **vars(use), "code": self.builder.code(use, *_STAGE_CORE),
                "inputs": inputs, "seed": self.seed, "precision": self.compute["precision"],
                "torch": torch_version(),
                "data": self.data["id"] if plugin.uses_data else [self.offer.shape, self.offer.classes],
                **self.builder.machine(plugin.per_host),
            }  # fmt: skip
            key = key_of(facts)
            data = self.data_modules if plugin.uses_data else ()
            self.builder.put(
                Job(
                    key=key, kind="evaluate", label=f"{stage.label} {use.uses}", uses=use.uses,
                    config=use.config, seed=self.seed, inputs=inputs,
                    files=stage.files if plugin.uses_stage else {}, data=self.data, compute=self.compute,
                    stage=stage.stage, round=stage.round, member=stage.member,
                    judged=judged if plugin.uses_stage else None, exclusive=plugin.exclusive,
                    **self._code(plugin.__module__, *_STAGE_CORE, *data),
                )
            )  # fmt: skip
            made[use.uses] = key
        return made

    def _code(self, *modules: str) -> dict[str, Any]:
        """The code that runs for a job of these modules, and for the model it is about."""
        roots = tuple(dict.fromkeys((*self.model, *modules)))
        return {"code": self.builder.digest(*roots), "roots": roots}

    def _refs(self, use: Use) -> Iterator[tuple[tuple[str, ...], str]]:
        return model_refs(parse(self.builder.host.find(use.uses).plugin.Config, use.config))

    def _work(self, plugin: Plugin[Any], number: int | None) -> dict[str, float] | None:
        if self.images is None:
            return None
        work: Work | None = None
        try:
            if isinstance(plugin, Trainer):
                work = plugin.work(self.images)
            elif isinstance(plugin, Compressor):
                # how many steps narrower than the recipe's own model: the round, whichever way it is fed
                work = plugin.work(self.images, number or 1)
        except Exception:  # noqa: BLE001 - an estimate is no reason not to run
            return None
        return asdict(work) if work else None


def _digest(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in ("checkpoint", "weights") if name in facts}


def _host_name() -> str:
    import platform

    return f"{platform.node()}/{platform.machine()}"
