"""Structured pruning as a plain function: whole channels go, and every layer that is coupled with them follows."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from compressit.compute import Compute
from compressit.errors import CompressitError, NoEffectError
from compressit.measure import multiply_adds, parameters
from compressit_plugins.evaluate.latency import forward_seconds
from compressit_plugins.prune.coupling import Group, coupled
from compressit_plugins.prune.importance import Importance, magnitude
from compressit_plugins.prune.selection import Rule, Scope, Selection, select
from compressit_plugins.prune.surgery import check, empty_copy, remove
from compressit_plugins.prune.target import find_share
from compressit_plugins.prune.tracing import refuse_unprunable

Target: TypeAlias = Literal["parameters", "multiply_adds", "latency", "channels"]
Seconds: TypeAlias = Callable[[nn.Module, Tensor], float]  # of a forward pass of an input


_TURNS = 15  # of timing a model and its parent


@dataclass(frozen=True)
class PruneReport:
    """What was asked and what came of it. Fractions are of the model as it was given."""

    target: Target
    requested: float
    achieved: float  # of what `target` names
    parameters_kept: float
    multiply_adds_kept: float
    widths: Mapping[
        str, tuple[int, int]
    ]  # channels before and after, by the first layer of each coupled group
    skipped: Sequence[str]  # groups (by their first layer) that were to become narrower and did not


def prune_channels(
    model: nn.Module,
    example: Tensor,
    keep: float,
    *,
    target: Target = "channels",
    importance: Importance = magnitude,
    scope: Scope = "local",
    round_to: int = 1,
    max_ratio: float = 1.0,
    ignore: Sequence[str] = (),
    steps: int = 1,
    time_limit: float = 60.0,
    seconds: Seconds | None = None,
) -> tuple[nn.Module, PruneReport]:
    """Prunes `model` in place and returns it: `net, report = prune_channels(net, torch.zeros(1, 3, 224, 224), 0.5)`.

    example: one input with its batch dimension (1, ...), float, on the model's device. keep: the fraction left,
    0 < keep < 1, of every width that can be pruned (`channels`), or of the model's parameters, multiply-adds or
    seconds per input, to within 2 %. importance, scope, round_to, max_ratio: which channels, see `importance` and
    `selection`. ignore: globs over module names whose output widths stay, and with them those coupled to them.
    steps: so many times, scoring anew in between. time_limit: seconds for tracing. seconds: the clock of `latency`,
    by default the median of five passes; it is asked in turns about the model and its parent.

    The outputs keep their shape: the classifier is what reaches them. Train mode and `requires_grad` come back,
    gradients are cleared, random numbers stay. Parameters are new ones: build optimizers afterwards.
    Raises CompressitError for a model that cannot be traced or would not run afterwards and for a target out of reach,
    NoEffectError when no channel would go. The model is then as it was, unless that happened after a first step.
    """
    _check_arguments(example, keep, round_to, max_ratio, steps)
    refuse_unprunable(model)
    with _traceable(model):
        job = _Job.of(model, example, target, seconds or _median_seconds)
        groups, fixed, chosen = list[Group](), list[str](), Selection((), ())
        initial: dict[str, int] = {}
        for step in range(1, steps + 1):
            groups, fixed = coupled(model, example, importance(model), ignore, time_limit)
            initial = initial or {group.name: group.width for group in groups}
            rule = Rule(scope, round_to, max_ratio, initial)
            chosen = job.choose(groups, rule, keep ** (step / steps), last=step == steps)
            remove(model, groups, chosen.gone)
            job = job.after(groups, chosen)
    left = {g.name: g.width - gone for g, gone in zip(groups, chosen.key, strict=True)}
    kept = {
        "parameters": parameters(model) / job.parameters,
        "multiply_adds": job.multiply_adds(job.empty) / max(job.computed, 1),
        "channels": sum(left.values()) / sum(initial.values()),
    }
    return model, PruneReport(
        target,
        requested=keep,
        achieved=kept[target] if target in kept else job.cost(job.empty),
        parameters_kept=kept["parameters"],
        multiply_adds_kept=kept["multiply_adds"],
        widths={name: (initial.get(name, width), width) for name, width in left.items()},
        skipped=(*chosen.skipped, *fixed),
    )


@dataclass(frozen=True)
class _Job:
    """What is measured against, and the model so far as a copy without storage."""

    target: Target
    seconds: Seconds
    example: Tensor  # a real input
    empty_example: Tensor
    given: nn.Module  # empty
    empty: nn.Module
    parameters: int
    computed: int  # multiply-adds of the model as it was given

    @staticmethod
    def of(model: nn.Module, example: Tensor, target: Target, seconds: Seconds) -> _Job:
        empty, empty_example = empty_copy(model, example)
        computed = multiply_adds(empty, example.shape[1:])
        return _Job(target, seconds, example, empty_example, empty, empty, parameters(model), computed)

    def after(self, groups: Sequence[Group], chosen: Selection) -> _Job:
        return replace(self, empty=self.pruned(groups, chosen))

    def pruned(self, groups: Sequence[Group], chosen: Selection) -> nn.Module:
        """A copy without storage, pruned."""
        trial = copy.deepcopy(self.empty)
        remove(trial, groups, chosen.gone)
        return trial

    def choose(self, groups: Sequence[Group], rule: Rule, keep: float, last: bool) -> Selection:
        """The channels to remove now: only after trying it on a copy."""
        share = keep if self.target == "channels" else self._share(groups, rule, keep, last)
        chosen = select(groups, share, rule)
        if last and not any(chosen.key) and self.empty is self.given:
            raise NoEffectError(
                f"no channel would be removed (skipped: {', '.join(chosen.skipped[:5]) or 'none'})",
                "a smaller `keep` or a smaller `round_to`",
            )
        check(self.pruned(groups, chosen), self.given, self.empty_example)
        return chosen

    def _share(self, groups: Sequence[Group], rule: Rule, keep: float, last: bool) -> float:
        costs: dict[tuple[int, ...], float] = {}

        def cost(share: float) -> float:
            selection = select(groups, share, rule)
            if selection.key not in costs:
                costs[selection.key] = self.cost(self.pruned(groups, selection))
            return costs[selection.key]

        return find_share(cost, keep, guess=keep**0.5, strict=last)  # costs go with a width's square, roughly

    def cost(self, trial: nn.Module) -> float:
        """What `target` names, as a fraction of the model as it was given."""
        try:
            if self.target == "parameters":
                return parameters(trial) / self.parameters
            if self.target == "multiply_adds":
                return self.multiply_adds(trial) / self.computed
            return self._time_kept(trial)
        except Exception:
            check(trial, self.given, self.empty_example)  # says it better where the trial does not run
            raise

    def multiply_adds(self, trial: nn.Module) -> int:
        return multiply_adds(trial, self.example.shape[1:])

    def _time_kept(self, trial: nn.Module) -> float:
        """In turn with the model as it was given: a machine's speed changes while it is measured."""
        given, small = _filled(self.given, self.example), _filled(trial, self.example)
        return statistics.median(
            self.seconds(small, self.example) / self.seconds(given, self.example) for _ in range(_TURNS)
        )


def _filled(empty: nn.Module, example: Tensor) -> nn.Module:
    """With storage, all zeros: whatever was in that memory could be slow (subnormal numbers are)."""
    filled = copy.deepcopy(empty).to_empty(device=example.device).eval()
    with torch.no_grad():
        for tensor in (*filled.parameters(), *filled.buffers()):
            tensor.zero_()
    return filled


def _check_arguments(example: Tensor, keep: float, round_to: int, max_ratio: float, steps: int) -> None:
    if not 0 < keep < 1:
        raise CompressitError(f"keep is {keep:g}", "give the fraction that is left, between 0 and 1")
    if not example.is_floating_point() or example.ndim < 2:
        raise CompressitError(
            f"the example is {example.dtype} of shape {tuple(example.shape)}",
            "give one float input with its batch dimension, such as torch.zeros(1, 3, 224, 224)",
        )
    if round_to < 1 or steps < 1 or not 0 < max_ratio <= 1:
        raise CompressitError("round_to and steps are at least 1, max_ratio is above 0 and at most 1")


@contextmanager
def _traceable(model: nn.Module) -> Generator[None]:
    """Eval mode and gradients for everything, which is how Torch-Pruning sees a network; then as it was."""
    modes = [(module, module.training) for module in model.modules()]
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    model.eval().requires_grad_(True)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for name, parameter in model.named_parameters():
            parameter.grad = None
            parameter.requires_grad_(name not in frozen)


def _median_seconds(model: nn.Module, example: Tensor) -> float:
    return statistics.median(forward_seconds(model, example, Compute(example.device.type), 1, 5))
