"""Depth pruning as plain functions: scores residual blocks, and removes those of the lowest scores."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressit import (
    CompressitError,
    InputTensors,
    NoEffectError,
    call,
    counted,
    did_you_mean,
    macs,
    parameters,
    percent,
)
from compressit_plugins.prune.importance import Loss
from compressit_plugins.prune.residual import residual_blocks
from compressit_plugins.prune.surgery import Given, outputs

Score: TypeAlias = Callable[[nn.Module, Sequence[str]], Mapping[str, float]]
"""Scores blocks of a model by their names: those of the lowest scores are removed first."""
Batches: TypeAlias = Iterable[tuple[InputTensors, Tensor]]


@dataclass(frozen=True)
class Removed:
    """What was removed, with scores by name; fractions are relative to the given model."""

    requested: float  # number of blocks, or the fraction of the target to keep
    achieved: float  # the same of what was done
    parameters_kept: float
    macs_kept: float
    gone: Mapping[str, float]
    left: Mapping[str, float]
    skipped: Mapping[str, str]  # blocks that cannot go, and why


def prune_blocks(
    model: nn.Module,
    example: InputTensors,
    score: Score,
    keep: float = 0.75,
    target: Literal["macs", "parameters"] = "macs",
    count: int | None = None,
    ignore: Sequence[str] = (),
) -> Removed:
    """Replaces blocks of `model` by `nn.Identity`, in place: those of the lowest scores, `count` of them or until no
    more than `keep` of `target` is left. Of equal scores the first goes. `example`: one input with its batch dimension.

    Raises CompressitError if the model has no block that can go, or not enough of them; NoEffectError for a glob of
    `ignore` that matches no module.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        given = Given.of(model.eval(), example)
        found, skipped = residual_blocks(model, example)
        found = _allowed(model, found, ignore)
        faults = {name: why for name in found if (why := _fault(given, name))}
        found, skipped = [name for name in found if name not in faults], {**skipped, **faults}
        cost = partial(_costs, given, target)
        _check_enough(model, found, skipped, count, keep, target, cost)
        scores = score(model, found)
    finally:
        for module, mode in modes:
            module.training = mode
    order = sorted(found, key=lambda name: scores[name])
    least = (n for n in range(1, len(order) + 1) if cost(order[:n]) <= keep)
    gone = order[: count if count is not None else next(least)]
    small = _without(given.empty, gone)
    for name in gone:
        model.set_submodule(name, nn.Identity().train(model.training))
    return Removed(
        requested=count if count is not None else keep,
        achieved=len(gone) if count is not None else cost(gone),
        parameters_kept=parameters(model) / given.parameters,
        macs_kept=macs(small, given.example) / max(given.macs, 1),
        gone={name: scores[name] for name in gone},
        left={name: scores[name] for name in order[len(gone) :]},
        skipped=skipped,
    )


def influence(batches: Batches) -> Score:
    """1 - the cosine of a block's input and output, the mean over all examples of the batches; between 0 and 2. Input
    and output are taken as one vector for each example."""

    @torch.no_grad()
    def scored(model: nn.Module, blocks: Sequence[str]) -> dict[str, float]:
        inputs: dict[str, Tensor] = {}
        sums = dict.fromkeys(blocks, 0.0)
        seen = 0

        def before(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs[name] = args[0].clone()  # the block may change it

        def after(name: str, module: nn.Module, args: Any, out: Tensor) -> None:
            pair = inputs.pop(name).flatten(1).double(), out.flatten(1).double()
            sums[name] += float((1 - F.cosine_similarity(*pair)).sum())

        handles: list[Any] = []
        for name in blocks:
            block = model.get_submodule(name)
            handles.append(block.register_forward_pre_hook(partial(before, name)))
            handles.append(block.register_forward_hook(partial(after, name)))
        try:
            for x, y in batches:
                call(model, x)
                seen += len(y)
        finally:
            for handle in handles:
                handle.remove()
        return {name: total / max(seen, 1) for name, total in sums.items()}

    return scored


def loss(batches: Batches, of: Loss) -> Score:
    """By how much the mean loss of the batches rises when a block alone is removed. `of`: a loss of outputs and
    targets; each batch counts the same."""

    @torch.no_grad()
    def scored(model: nn.Module, blocks: Sequence[str]) -> dict[str, float]:
        some = list(batches)

        def mean() -> float:
            return sum(float(of(call(model, x), y)) for x, y in some) / max(len(some), 1)

        whole, found = mean(), dict[str, float]()
        for name in blocks:
            block = model.get_submodule(name)
            model.set_submodule(name, nn.Identity())
            try:
                found[name] = mean() - whole
            finally:
                model.set_submodule(name, block)
        return found

    return scored


def random(generator: torch.Generator) -> Score:
    """Uniform random numbers from `generator` (on the CPU): the control that other scores must beat."""
    return lambda model, blocks: dict(
        zip(blocks, torch.rand(len(blocks), generator=generator).tolist(), strict=True)
    )


def _allowed(model: nn.Module, blocks: Sequence[str], ignore: Sequence[str]) -> list[str]:
    names = [name for name, _ in model.named_modules() if name]
    for glob in ignore:
        if not any(fnmatchcase(name, glob) for name in names):
            raise NoEffectError(f"ignore: '{glob}' matches no module of the model", did_you_mean(glob, names))
    return [name for name in blocks if not any(fnmatchcase(name, glob) for glob in ignore)]


def _without(model: nn.Module, blocks: Sequence[str]) -> nn.Module:
    small = copy.deepcopy(model)
    for name in blocks:
        small.set_submodule(name, nn.Identity())
    return small


def _fault(given: Given, block: str) -> str:
    """Why the net does not run without this block, or how its outputs change; empty if all is well."""
    try:
        small = [out.shape for out in outputs(_without(given.empty, [block]), given.example)]
    except CompressitError as error:
        return error.message
    whole = [out.shape for out in outputs(given.empty, given.example)]
    return "" if small == whole else f"the outputs would change from {whole} to {small}"


def _costs(given: Given, target: str, gone: Sequence[str]) -> float:
    small = _without(given.empty, gone)
    if target == "parameters":
        return parameters(small) / given.parameters
    return macs(small, given.example) / max(given.macs, 1)


def _check_enough(
    model: nn.Module,
    found: Sequence[str],
    skipped: Mapping[str, str],
    count: int | None,
    keep: float,
    target: str,
    cost: Callable[[Sequence[str]], float],
) -> None:
    kind = type(model).__name__
    reasons = "; ".join(f"'{name}': {why}" for name, why in list(skipped.items())[:3])
    if not found:
        raise CompressitError(
            f"{kind} has no block that can be removed{f' ({reasons})' if reasons else ''}",
            "a block adds what it computes to its input; `prune.structured` removes channels of any net",
        )
    blocks = f"{kind} has {counted(len(found), 'block')} that can be removed"
    if count is not None and count > len(found):
        raise CompressitError(f"{blocks}, not {count}", "remove fewer `blocks`")
    if count is None and (least := cost(found)) > keep:
        raise CompressitError(
            f"{blocks}; without them {percent(least)} of its {target} are left, more than `keep: {keep:g}`",
            "use a larger `keep`, and `prune.structured` for the rest",
        )
