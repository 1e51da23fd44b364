"""Carries out one trainer, compressor or evaluator and checks what it gives back: in a worker as from Python."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressit.contract.context import StageContext
from compressit.contract.kinds import Compressor, Evaluator, Trainer
from compressit.contract.nets import let_go, unwrapped
from compressit.errors import CompressitError, NoEffectError
from compressit.running.isolation import lending
from compressit.running.rng import acting, measuring


def apply_plugin(
    plugin: Trainer[Any] | Compressor[Any], model: nn.Module, ctx: StageContext, fresh: bool = False
) -> nn.Module:
    """The plugin's result for `model`, which is the plugin's own: moved to the stage's device, in train mode.

    `fresh`: nothing can have pruned it, so that its zeros are those it was built with.

    Raises CompressitError for a result that is no module or left with hooks, a trainer that changed a shape,
    notes that are no JSON, and what `lending` finds; NoEffectError for a compressor that changed nothing.
    """
    model.to(ctx.compute.device).train()
    trains = isinstance(plugin, Trainer)
    before = Before.of(model, digest=not trains)  # whether anything changed is asked of compressors only
    with lending(plugin.name, ctx.memo), acting(ctx.streams):
        result = plugin.train(model, ctx) if trains else plugin.compress(model, ctx)
    result = _plain(f"{plugin.name} returned", result)
    check_plain(plugin.name, before, result)
    if trains:
        check_shapes_kept(plugin.name, before, result)
        if not fresh:
            _tell_of_lost_zeros(plugin.name, before, result, ctx)
    else:
        check_changed(plugin.name, before, result)
    check_notes(plugin.name, ctx.notes)
    return result


def dry_run_plugin(plugin: Compressor[Any], model: nn.Module, ctx: StageContext) -> nn.Module | None:
    """What the compressor would give, as far as it can be known without training; None when it cannot."""
    model.to(ctx.compute.device).train()
    with lending(plugin.name, ctx.memo), acting(ctx.streams):
        result = plugin.dry_run(model, ctx)
    check_notes(plugin.name, ctx.notes)
    return None if result is None else _plain(f"{plugin.name}.dry_run returned", result)


def measure_with(plugin: Evaluator[Any], model: nn.Module, ctx: StageContext) -> dict[str, float]:
    """The evaluator's metrics of `model` by name, those that are not finite among them.

    Raises CompressitError for what is no mapping of numbers, an undeclared metric, and for curves, arrays or notes:
    nobody would ever see them; and for what `lending` finds.
    """
    with lending(plugin.name, ctx.memo), measuring(ctx.streams):
        measured = plugin.evaluate(model, ctx)
    if not isinstance(measured, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CompressitError(
            f"{plugin.name} returned {_kind(measured)}, not a mapping of metrics",
            "return {} where nothing is defined",
        )
    metrics: dict[str, float] = {}
    for name, value in measured.items():
        try:
            metrics[name] = float(value)  # a tensor of one value is a number too
        except (TypeError, ValueError, RuntimeError) as error:
            raise CompressitError(
                f"{plugin.name} returned {_kind(value)} as '{name}', not a number", "a metric is one number"
            ) from error
    unknown = sorted(set(metrics) - set(plugin.metrics))
    if unknown:
        raise CompressitError(
            f"{plugin.name} returned undeclared metrics: {', '.join(unknown)}",
            "declare them in its `metrics`",
        )
    check_only_metrics(plugin.name, ctx)
    return metrics


def check_only_metrics(name: str, ctx: StageContext) -> None:
    """Raises CompressitError for what an evaluator gave to its context: only metrics are kept of it."""
    given = {"ctx.log": ctx.curves, "ctx.save": ctx.arrays, "ctx.note": ctx.notes}
    told = [f"{call} '{what}'" for call, values in given.items() for what in values]
    if told:
        raise CompressitError(
            f"{name} called {', '.join(told[:3])}{' …' if len(told) > 3 else ''}, which is lost: of an evaluator "
            "only the metrics are kept",
            "return it as a metric. What trains a probe with `fit` gives that a context of its own: "
            "dataclasses.replace(ctx, curves={}, notes={}, arrays={})",
        )


@dataclass(frozen=True)
class Was:
    """A tensor as it was, without a copy of it."""

    shape: tuple[int, ...]
    zeros: int
    content: tuple[Any, ...]  # other bits, another value

    @staticmethod
    def of(tensor: Tensor, digest: bool = True) -> Was:
        """Reads all of it; only with `digest` its bits count."""
        shape, bits = tuple(tensor.shape), b""
        if digest and not tensor.is_meta and tensor.layout is torch.strided:
            raw = tensor.detach().resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8).cpu()
            bits = hashlib.blake2b(raw.numpy().data).digest()
        return Was(shape, tensor.numel() - int(tensor.count_nonzero()), (shape, tensor.dtype, bits))


@dataclass(frozen=True)
class Before:
    """What a result is compared with."""

    tensors: Mapping[str, Was]
    layers: Mapping[str, type[nn.Module]]
    dressed: frozenset[str]  # modules with hooks or parametrizations: the builder's own

    @staticmethod
    def of(model: nn.Module, digest: bool = True) -> Before:
        """What the model's tensors and layers are; no copies, so that a large model fits twice."""
        tensors = {name: Was.of(value, digest) for name, value in _tensors(model).items()}
        return Before(tensors, _layers(model), frozenset(_dressed(model)))


def check_plain(name: str, before: Before, model: nn.Module) -> None:
    """Raises CompressitError for a hook or parametrization that was not there before."""
    left = sorted(set(_dressed(model)) - before.dressed)
    if left:
        raise CompressitError(
            f"{name} left a hook or parametrization on '{left[0] or 'the model'}'",
            "remove it before returning: the model must reload without the plugin's code",
        )


def check_shapes_kept(name: str, before: Before, model: nn.Module) -> None:
    """Raises CompressitError for a tensor of another shape, and for one more or less."""
    was = {tensor: value.shape for tensor, value in before.tensors.items()}
    now = {tensor: tuple(value.shape) for tensor, value in _tensors(model).items()}
    changed = [tensor for tensor in {**was, **now} if was.get(tensor) != now.get(tensor)]
    if changed:
        raise CompressitError(
            f"the trainer {name} changed the shape of {', '.join(changed[:5])}",
            "a plugin that changes shapes is a Compressor",
        )


def check_changed(name: str, before: Before, model: nn.Module) -> None:
    """Raises NoEffectError for a model with the same layers and the same tensors."""
    after = _tensors(model)
    if (
        after.keys() == before.tensors.keys()
        and _layers(model) == before.layers
        and all(Was.of(after[tensor]) == was for tensor, was in before.tensors.items())
    ):
        raise NoEffectError(
            f"{name} changed nothing: every layer is of the same type, every weight and buffer the same",
            "check its options: do they choose any layer? A forward that computes something else does not count",
        )


def check_notes(name: str, notes: Mapping[str, Any]) -> None:
    """Raises CompressitError for a note that is no JSON value."""
    for note, value in notes.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise CompressitError(
                f"{name} noted '{note}', which is no JSON value: {error}",
                "note plain numbers, texts, lists and dicts; arrays go to ctx.save",
            ) from error


def _tell_of_lost_zeros(name: str, before: Before, model: nn.Module, ctx: StageContext) -> None:
    """A pruned model that is trained as if it were dense is dense again: said, since it is seldom meant.

    Zeros of a weight matrix that has other values too are a pruning's. Those of class tokens and position tables, and
    of layers that start at zero, are where training begins.
    """
    after = _tensors(model)
    total = left = 0
    for tensor, was in before.tensors.items():
        count = after[tensor].numel()
        if len(was.shape) > 1 and "weight" in tensor.rpartition(".")[2] and was.zeros < count:
            total += was.zeros
            left += count - int(after[tensor].count_nonzero())
    if total > left:
        ctx.note(zeros_lost=total - left)
        ctx.emit(
            {
                "announce": f"{name} trained away {total - left} of the {total} zeros it was given: the model is "
                "less sparse now (pruning plugins can fine-tune and keep them)"
            }
        )


def _plain(told: str, result: object) -> nn.Module:
    """A plugin's result without what wraps it and without graphs. Raises CompressitError for what is no module."""
    if not isinstance(result, nn.Module):
        raise CompressitError(
            f"{told} {_kind(result)}, not a model", "return the model, also where it was changed in place"
        )
    result = unwrapped(result)
    let_go(result)
    return result


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _layers(model: nn.Module) -> dict[str, type[nn.Module]]:
    return {name: type(module) for name, module in model.named_modules()}


def _dressed(model: nn.Module) -> list[str]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        name
        for name, module in model.named_modules()
        if hasattr(module, "parametrizations") or any(getattr(module, hook, None) for hook in hooks)
    ]


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
