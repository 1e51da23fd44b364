"""Runs one trainer, compressor or evaluator and checks its result, in a worker or from Python."""

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
from compressit.contract.zeros import from_pruning
from compressit.errors import CompressitError, NoEffectError
from compressit.running.isolation import lending
from compressit.running.recorded import check_recorded
from compressit.running.rng import acting, measuring


def apply_plugin(plugin: Trainer[Any] | Compressor[Any], model: nn.Module, ctx: StageContext) -> nn.Module:
    """Runs the plugin on `model`, moved to the stage's device and in train mode, and returns the result.

    The plugin may change `model` in place.

    Raises CompressitError for a result that is not a module or has new hooks, a trainer that changed a shape, notes
    that are not JSON, and whatever `lending` finds; NoEffectError for a compressor that changed nothing.
    """
    ctx.compute.placed(model).train()
    trains = isinstance(plugin, Trainer)
    before = Before.of(model, digest=not trains)  # only compressors must change something
    with lending(plugin.name, ctx.memo), acting(ctx.streams):
        result = plugin.train(model, ctx) if trains else plugin.compress(model, ctx)
    result = _plain(f"{plugin.name} returned", result)
    check_plain(plugin.name, before, result)
    if trains:
        check_shapes_kept(plugin.name, before, result)
        if not ctx.fresh:
            _tell_of_lost_zeros(plugin.name, before, result, ctx)
    else:
        check_changed(plugin.name, before, result)
    check_notes(plugin.name, ctx.notes)
    return result


def dry_run_plugin(
    plugin: Compressor[Any] | Trainer[Any], model: nn.Module, ctx: StageContext
) -> nn.Module | None:
    """The model of a compressor's dry run, without training; None if it has no dry run, and for a trainer."""
    ctx.compute.placed(model).train()
    with lending(plugin.name, ctx.memo), acting(ctx.streams):
        result = plugin.dry_run(model, ctx)
    check_notes(plugin.name, ctx.notes)
    return None if result is None else _plain(f"{plugin.name}.dry_run returned", result)


def measure_with(plugin: Evaluator[Any], model: nn.Module, ctx: StageContext) -> dict[str, float]:
    """The evaluator's metrics of `model` by name, including those that are not finite.

    Its curves, arrays and pictures are then in `ctx`. Raises CompressitError for a result that is not a mapping of
    numbers, for what it did not declare, and whatever `lending` finds.
    """
    with lending(plugin.name, ctx.memo), measuring(ctx.streams):
        measured = plugin.evaluate(model, ctx)
    if not isinstance(measured, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CompressitError(
            f"{plugin.name} returned {_kind(measured)}, not a mapping of metrics",
            "return {} if no metric is defined",
        )
    metrics: dict[str, float] = {}
    for name, value in measured.items():
        try:
            metrics[name] = float(value)  # also accepts tensors of one value
        except (TypeError, ValueError, RuntimeError) as error:
            raise CompressitError(
                f"{plugin.name} returned {_kind(value)} as '{name}', not a number",
                "return one number per metric",
            ) from error
    check_recorded(plugin, metrics, ctx)
    return metrics


@dataclass(frozen=True)
class Was:
    """A tensor's state before the call, without a copy."""

    shape: tuple[int, ...]
    zeros: int
    content: tuple[Any, ...]  # differs if any bit differs

    @staticmethod
    def of(tensor: Tensor, digest: bool = True) -> Was:
        """Reads the whole tensor. Without `digest`, `content` ignores the values."""
        shape, bits = tuple(tensor.shape), b""
        if digest and not tensor.is_meta and tensor.layout is torch.strided:
            raw = tensor.detach().resolve_conj().resolve_neg().contiguous().flatten().view(torch.uint8).cpu()
            bits = hashlib.blake2b(raw.numpy().data).digest()
        return Was(shape, tensor.numel() - int(tensor.count_nonzero()), (shape, tensor.dtype, bits))


@dataclass(frozen=True)
class Before:
    """The model before the call, for comparison with the result."""

    tensors: Mapping[str, Was]
    layers: Mapping[str, type[nn.Module]]
    dressed: frozenset[str]  # modules with hooks or parametrizations: the builder's own

    @staticmethod
    def of(model: nn.Module, digest: bool = True) -> Before:
        """Records the model's tensors and layers without copying them, to save memory."""
        tensors = {name: Was.of(value, digest) for name, value in _tensors(model).items()}
        return Before(tensors, _layers(model), frozenset(_dressed(model)))


def check_plain(name: str, before: Before, model: nn.Module) -> None:
    """Raises CompressitError for a new hook or parametrization."""
    left = sorted(set(_dressed(model)) - before.dressed)
    if left:
        raise CompressitError(
            f"{name} left a hook or parametrization on '{left[0] or 'the model'}'",
            "remove it before returning: the model must load without the plugin's code",
        )


def check_shapes_kept(name: str, before: Before, model: nn.Module) -> None:
    """Raises CompressitError if a tensor changed shape, was added or was removed."""
    was = {tensor: value.shape for tensor, value in before.tensors.items()}
    now = {tensor: tuple(value.shape) for tensor, value in _tensors(model).items()}
    changed = [tensor for tensor in {**was, **now} if was.get(tensor) != now.get(tensor)]
    if changed:
        raise CompressitError(
            f"the trainer {name} changed the shape of {', '.join(changed[:5])}",
            "a plugin that changes shapes must be a Compressor",
        )


def check_changed(name: str, before: Before, model: nn.Module) -> None:
    """Raises NoEffectError if layers and tensors are all the same."""
    after = _tensors(model)
    if (
        after.keys() == before.tensors.keys()
        and _layers(model) == before.layers
        and all(Was.of(after[tensor]) == was for tensor, was in before.tensors.items())
    ):
        raise NoEffectError(
            f"{name} changed nothing: all layer types, weights and buffers are the same",
            "check that its options select at least one layer; a changed `forward` alone does not count",
        )


def check_notes(name: str, notes: Mapping[str, Any]) -> None:
    """Raises CompressitError for a note that is not a JSON value."""
    for note, value in notes.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise CompressitError(
                f"{name} noted '{note}', which is not a JSON value: {error}",
                "note plain numbers, strings, lists and dicts; save arrays with ctx.save",
            ) from error


def _tell_of_lost_zeros(name: str, before: Before, model: nn.Module, ctx: StageContext) -> None:
    """Warns if training a pruned model made it dense again, which is rarely intended."""
    after = _tensors(model)
    total = left = 0
    learned = {name for name, _ in model.named_parameters()}
    for tensor, was in before.tensors.items():
        if tensor in learned and from_pruning(was.shape, was.zeros):
            total += was.zeros
            left += after[tensor].numel() - int(after[tensor].count_nonzero())
    if total > left:
        ctx.note(zeros_lost=total - left)
        ctx.emit(
            {
                "announce": f"{name} trained away {total - left} of the model's {total} zeros: it is less sparse "
                "now (the built-in trainings keep the zeros, unless `keep_zeros` is false)"
            }
        )


def _plain(told: str, result: object) -> nn.Module:
    """A plugin's result without wrappers and autograd graphs. Raises CompressitError if it is not a module."""
    if not isinstance(result, nn.Module):
        raise CompressitError(
            f"{told} {_kind(result)}, not a model", "return the model, even if you changed it in place"
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
