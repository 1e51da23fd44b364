"""Runs one task: the only place where plugins compute. Reads from the store, publishes to it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressit.checkpoint import model as checkpoint
from compressit.compute import Compute, host_facts
from compressit.context import DataContext, Judged, Progress, StageContext
from compressit.splits import Contract, Data, prepare
from compressit.errors import CompressitError, NoEffectError
from compressit.kinds import Compressor, Dataset, Evaluator, Model, Trainer
from compressit.plan import Task
from compressit.plugins import Host
from compressit.seeds import Streams
from compressit.store import Artifact, Store

CURVE_POINTS = 200
Emit = Callable[[Mapping[str, Any]], None]


class Recent(MutableMapping[Hashable, Any]):
    """A mapping that keeps only what was used last: models, data and logits that tasks share."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: OrderedDict[Hashable, Any] = OrderedDict()

    def __getitem__(self, key: Hashable) -> Any:
        self._items.move_to_end(key)
        return self._items[key]

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        while len(self._items) > self._capacity:
            self._items.popitem(last=False)

    def __delitem__(self, key: Hashable) -> None:
        del self._items[key]

    def __iter__(self) -> Iterator[Hashable]:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)


class TaskRunner:
    """Runs tasks one after another in this process, keeping recent data and models in memory."""

    def __init__(self, store: Store, host: Host, cache: Path, save_every: float = 10.0) -> None:
        self._store = store
        self._host = host
        self._cache = cache
        self._save_every = save_every
        self._memo = Recent(24)
        self._data = Recent(4)

    def run(self, task: Task, emit: Emit) -> Artifact:
        """Makes the task's result, or returns the one that another process published meanwhile.

        Raises CompressitError for a user's mistake; whatever else a plugin raises comes through.
        """
        with self._store.lock(task.key):
            present = self._store.find(task.key)
            if present is not None:
                return present
            started = time.perf_counter()
            if task.kind == "init":
                return self._init(task, started)
            if task.kind == "stage":
                return self._stage(task, emit, started)
            return self._evaluate(task, emit, started)

    def _init(self, task: Task, started: float) -> Artifact:
        if "checkpoint" in task.files:
            path = Path(task.files["checkpoint"])
            model = checkpoint.load(path, host=self._host)
            architecture, contract = checkpoint.architecture_of(path), checkpoint.contract_of(path)
        else:
            dataset = self._host.create(Dataset, task.data["uses"], task.data["config"])
            architecture = checkpoint.Architecture(
                task.uses, dict(task.config), tuple(dataset.input_shape), dataset.classes
            )
            torch.manual_seed(Streams(task.seed).number("init"))
            model, contract = checkpoint.build(architecture, self._host), None
        if "weights" in task.files:
            _load_weights(model, Path(task.files["weights"]))
        return self._publish_model(task, model, architecture, contract, {}, None, started)

    def _stage(self, task: Task, emit: Emit, started: float) -> Artifact:
        progress = _StoredProgress(self._store, task.key, self._save_every, started)
        source = self._model_file(task, "previous")
        model = checkpoint.load(source, host=self._host)
        given = checkpoint.architecture_of(source)
        built: list[tuple[nn.Module, checkpoint.Architecture]] = []
        ctx = self._context(task, emit)
        ctx.progress = progress
        ctx.narrow = lambda factor, times: self._narrow(given, ctx, factor, times, built)
        model.to(ctx.compute.device).train()
        before = {name: value.detach().clone() for name, value in model.state_dict().items()}
        torch.manual_seed(ctx.streams.number("plugin"))
        plugin_kind = self._host.find(task.uses, "trainer", "compressor").kind
        if plugin_kind == "trainer":
            result = self._host.create(Trainer, task.uses, task.config).train(model, ctx)
            _check_shapes_kept(task.uses, before, result)
        else:
            result = self._host.create(Compressor, task.uses, task.config).compress(model, ctx)
            _check_changed(task.uses, before, result)
        _check_plain(task.uses, result)
        architecture = next((a for module, a in built if module is result), given)
        return self._publish_model(
            task, result, architecture, ctx.data.contract, ctx.notes, ctx, started - progress.spent
        )

    def _evaluate(self, task: Task, emit: Emit, started: float) -> Artifact:
        ctx = self._context(task, emit)
        model = ctx.model("model")
        evaluator = self._host.create(Evaluator, task.uses, task.config)
        torch.manual_seed(ctx.streams.number("evaluate"))
        measured = evaluator.evaluate(model, ctx)
        metrics = {name: float(value) for name, value in measured.items()}
        unknown = sorted(set(metrics) - set(evaluator.metrics))
        if unknown:
            raise CompressitError(
                f"{task.uses} returned undeclared metrics: {', '.join(unknown)}",
                "declare them in its `metrics`",
            )
        bad = sorted(name for name, value in metrics.items() if not np.isfinite(value))
        facts = {
            "metrics": {n: v for n, v in metrics.items() if n not in bad},
            "notes": {**ctx.notes, "not_finite": bad},
        }
        return self._store.publish(task.key, self._facts(task, started) | facts)

    def _context(self, task: Task, emit: Emit) -> StageContext:
        compute = Compute.select(**task.compute)

        def load_model(ref: str) -> nn.Module:
            return checkpoint.load(self._model_file(task, ref), host=self._host)

        def identity(ref: str) -> str:
            if not ref:
                return task.data["id"] + compute.device
            return str(task.inputs.get(ref) or task.files.get(ref) or ref)

        return StageContext(
            compute=compute,
            streams=Streams(task.seed, task.stage, task.rung),
            load_data=lambda: self._load_data(task, compute, emit),
            load_model=load_model,
            rung=task.rung,
            feed=task.feed,
            judged=self._judged(task),
            emit=emit,
            memo=self._memo,
            identity=identity,
        )

    def _judged(self, task: Task) -> Judged | None:
        if task.judged is None:
            return None
        judged = self._store.find(task.inputs["model"])
        return Judged(
            stage=task.judged["stage"],
            uses=task.judged["uses"],
            config=task.judged["config"],
            notes=judged.notes if judged else {},
            streams=Streams(task.judged["seed"], task.judged["stage"], task.judged["rung"]),
            reference=task.judged["reference"],
        )

    def _load_data(self, task: Task, compute: Compute, emit: Emit) -> Data:
        key = (task.data["id"], compute.device)
        if key not in self._data:
            dataset = self._host.create(Dataset, task.data["uses"], task.data["config"])
            raw_key = ("raw", task.data["uses"], dataset.fingerprint(), _loading_options(task.data["config"]))
            if raw_key not in self._data:
                self._cache.mkdir(parents=True, exist_ok=True)
                self._data[raw_key] = dataset.load(
                    DataContext(self._cache, lambda text: emit({"announce": text}))
                )
            self._data[key] = prepare(
                self._data[raw_key], dataset.config, dataset.classes, dataset.class_names, compute.device
            )
        return self._data[key]

    def _model_file(self, task: Task, ref: str) -> Path:
        if ref in task.files:
            return Path(task.files[ref])
        key = task.inputs.get(ref)
        if key is None:
            raise CompressitError(
                f"{task.uses} asked for the model '{ref}', which its options do not name",
                "declare it as a ModelRef field of the plugin's config",
            )
        artifact = self._store.find(key)
        if artifact is None:
            raise CompressitError(
                f"the model '{ref}' of {task.label} is no longer in the store", "start the run again"
            )
        return artifact.model_file

    def _narrow(
        self,
        given: checkpoint.Architecture | None,
        ctx: StageContext,
        factor: float,
        times: int,
        built: list[tuple[nn.Module, checkpoint.Architecture]],
    ) -> nn.Module | None:
        if given is None or given.edited:
            return None  # the config no longer says how wide the layers are
        config = given.config
        for _ in range(times):
            narrower = self._host.create(Model, given.name, config).narrower(factor)
            if narrower is None:
                return None
            config = narrower.model_dump(mode="json")
        architecture = checkpoint.Architecture(given.name, config, given.input_shape, given.classes)
        torch.manual_seed(ctx.streams.number("student"))
        model = checkpoint.build(architecture, self._host).to(ctx.compute.device).train()
        built.append((model, architecture))
        return model

    def _publish_model(
        self,
        task: Task,
        model: nn.Module,
        architecture: checkpoint.Architecture | None,
        contract: Contract | None,
        notes: dict[str, Any],
        ctx: StageContext | None,
        started: float,
    ) -> Artifact:
        curves = dict(ctx.curves) if ctx else {}
        arrays = ctx.arrays if ctx else {}
        if "loss" in arrays:
            curves["loss"] = thinned(arrays["loss"])
        facts = {
            "notes": {"width": _width(model), **notes},
            "curves": {name: _thinned_points(points) for name, points in curves.items()},
        }

        def write(folder: Path) -> None:
            checkpoint.save(
                model.cpu(),
                folder / "model.safetensors",
                architecture,
                contract,
                host=self._host,
                lineage=task.lineage,
            )
            if arrays:
                save_arrays(
                    {n: np.ascontiguousarray(a) for n, a in arrays.items()}, folder / "arrays.safetensors"
                )

        return self._store.publish(task.key, self._facts(task, started) | facts, write)

    def _facts(self, task: Task, started: float) -> dict[str, Any]:
        return {"task": task.to_json(), "seconds": time.perf_counter() - started, "host": host_facts()}


class _StoredProgress(Progress):
    """A stage's saved state in the store, under the task's own key."""

    def __init__(self, store: Store, key: str, every: float, started: float) -> None:
        self._store = store
        self._key = key
        self._every = every
        self._last = started
        self._started = started
        self.spent = 0.0  # seconds of earlier sessions

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        saved = self._store.load_progress(self._key)
        if saved is None:
            return None
        tensors, facts = saved
        self.spent = float(facts["seconds"])
        return load_file(tensors), facts["facts"]

    def due(self) -> bool:
        return time.perf_counter() - self._last >= self._every

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        seconds = self.spent + time.perf_counter() - self._started
        # clones: momentum buffers and parameters must not share storage in a safetensors file
        plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        self._store.save_progress(
            self._key, {"seconds": seconds, "facts": facts}, lambda path: save_file(plain, path)
        )
        self._last = time.perf_counter()


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


def _loading_options(config: Mapping[str, Any]) -> str:
    """What `load` may depend on: a dataset's own options, not the host's."""
    from compressit.data_options import DataConfig
    from compressit.keys import canonical

    return canonical({name: value for name, value in config.items() if name not in DataConfig.model_fields})


def _load_weights(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (RuntimeError, OSError, ValueError) as error:
        raise CompressitError(f"{path}: these weights do not fit the model: {error}") from error


def _width(model: nn.Module) -> int | None:
    """Units of the widest hidden layer: the outputs of every linear and convolutional layer but the last."""
    outputs = [
        cast("int", getattr(m, "out_features", None) or getattr(m, "out_channels", None))
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)  # pyright: ignore[reportPrivateUsage]
    ]
    return max(outputs[:-1], default=None)


def _check_shapes_kept(uses: str, before: Mapping[str, Tensor], model: nn.Module) -> None:
    after = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    changed = [n for n, v in before.items() if after.get(n) != tuple(v.shape)] + [
        n for n in after if n not in before
    ]
    if changed:
        raise CompressitError(
            f"the trainer {uses} changed the shape of {', '.join(changed[:5])}",
            "a plugin that changes shapes is a Compressor",
        )


def _check_changed(uses: str, before: Mapping[str, Tensor], model: nn.Module) -> None:
    after = model.state_dict()
    if set(after) == set(before) and all(
        after[n].shape == v.shape and torch.equal(after[n].to(v.device), v) for n, v in before.items()
    ):
        raise NoEffectError(f"{uses} changed nothing", "choose other layers or a larger amount")


def _check_plain(uses: str, model: nn.Module) -> None:
    for name, module in model.named_modules():
        hooks = [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks]  # pyright: ignore
        if any(hooks) or hasattr(module, "parametrizations"):
            raise CompressitError(
                f"{uses} left a hook or parametrization on '{name or 'the model'}'",
                "remove it before returning: the model must reload without the plugin's code",
            )
