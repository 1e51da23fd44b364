"""Structured pruning as a plain function: removes whole channels from all layers that are coupled with them."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from compressit import (
    CompressitError,
    Compute,
    InputTensors,
    NoEffectError,
    macs,
    parameters,
    tensors_of,
)
from compressit_plugins.evaluate.latency import forward_seconds
from compressit_plugins.prune.coupling import Group, coupled, of_groups, reasons
from compressit_plugins.prune.faults import faulty
from compressit_plugins.prune.importance import Importance, magnitude
from compressit_plugins.prune.latency_search import find_timed
from compressit_plugins.prune.not_compared import unchecked
from compressit_plugins.prune.oracle import Gap
from compressit_plugins.prune.prunable import inputs_like, sound, traceable, unfit, without
from compressit_plugins.prune.selection import Rule, Scope, Selection, select, varied
from compressit_plugins.prune.surgery import Given, outputs, remove, runs_in_train_mode
from compressit_plugins.prune.target import (
    TOLERANCE,
    Steps,
    find_share,
    find_steps,
    off,
    too_little,
    unreachable,
)
from compressit_plugins.prune.tracing import refuse_unprunable

Target: TypeAlias = Literal["parameters", "macs", "latency", "channels"]
Seconds: TypeAlias = Callable[[nn.Module, InputTensors], float]  # time of a forward pass of an input


@dataclass(frozen=True)
class PruneReport:
    """What was requested and what was achieved. Fractions are relative to the given model."""

    target: Target
    requested: float
    achieved: float  # fraction kept of what `target` names
    parameters_kept: float
    macs_kept: float
    # Channels before and after, by the first layer of each coupled group.
    widths: Mapping[str, tuple[int, int]]
    # Groups (by their first layer) that should have become narrower but did not, and why.
    skipped: Mapping[str, str]
    gap: float  # largest difference from the model with zeroed channels, as a fraction of its largest output
    unchecked: Sequence[str]  # what the comparison did not cover, see `not_compared`


def prune_channels(
    model: nn.Module,
    example: InputTensors,
    keep: float,
    *,
    target: Target = "channels",
    importance: Importance = magnitude,
    scope: Scope = "local",
    round_to: int = 1,
    max_ratio: float = 1.0,
    ignore: Sequence[str] = (),
    ratios: Mapping[str, float] | None = None,
    steps: int = 1,
    time_limit: float = 60.0,
    seconds: Seconds | None = None,
    inputs: Sequence[InputTensors] = (),
    exact: bool = True,
) -> tuple[nn.Module, PruneReport]:
    """Prunes `model` in place and returns it: `net, report = prune_channels(net, torch.zeros(1, 3, 224, 224), 0.5)`.

    example: one input with its batch dimension (1, ...), on the model's device: a tensor, or a tuple or dict of them.
    Its whole numbers are values that the model takes.
    keep: the fraction to keep, 0 < keep < 1: of every width that can be pruned (`channels`), or of the model's
    parameters, MACs or seconds per input, to within 2 %. If no common share of the widths comes that near, one or two
    widths are changed by a step or two (not for seconds).
    importance, scope, round_to, max_ratio: which channels to remove, see `importance` and `selection`.
    ignore: globs over names of modules whose output width must not change, nor that of layers coupled to them.
    ratios: fractions of single widths to keep (0 to 1), by globs over names of layers; the last that matches counts.
    The other widths reach `keep`; if there are none, it has no say. Not for `latency`.
    steps: the number of pruning steps, with new scores in each. time_limit: seconds for tracing.
    seconds: the clock for `latency` (`latency_search`), by default `steady_seconds` in fp32.
    inputs: real inputs (N, ...) for the comparison below, in addition to random ones.
    exact: whether it is an error if no widths come to within 2 % of parameters or MACs; if not, the nearest are taken.

    The pruned model must compute what the given model computes with the removed channels set to zero. This is tested,
    see `oracle`. Groups of layers that fail keep their widths and are named in `skipped`, such as channels that meet in
    a norm, softmax or mean that is not a layer. What the test does not cover is named in `unchecked`.

    The classifier keeps its outputs. Train mode and `requires_grad` are restored, gradients are cleared, random states
    do not change. Parameters are new, so build optimizers afterwards.
    Raises CompressitError if the model cannot be traced or would not run afterwards, or if the target is out of reach;
    NoEffectError if no channel would be removed. The model is then unchanged, unless a first step had succeeded.
    """
    _check_arguments(example, keep, round_to, max_ratio, steps)
    refuse_unprunable(model)
    with traceable(model):
        clock = seconds or steady_seconds(Compute(tensors_of(example)[0].device.type))
        given = Given.of(model, example)
        job = _Job(target, clock, example, [*inputs, *inputs_like(example)][:2], given, given.empty, exact)
        left_alone: dict[str, str] = {}
        initial: dict[str, int] = {}
        made: list[_Chosen] = []
        single: dict[str, float] = {}  # the ratios, by the group's name
        for step in range(1, steps + 1):
            groups, fixed = coupled(model, example, importance(model), ignore, time_limit)
            left_alone |= fixed
            groups = [group for group in groups if group.name not in left_alone]
            if step == 1:
                groups = sound(model, given, example, groups, left_alone)
                initial = {group.name: group.width for group in groups}
                single = of_groups(groups, ratios or {})
            own = {name: share ** (step / steps) for name, share in single.items()}
            rule = Rule(scope, round_to, max_ratio, initial, own)
            done = job.settle(model, groups, rule, keep ** (step / steps), step == steps, left_alone)
            remove(model, done.groups, done.selection.gone)
            job = replace(job, empty=done.empty)
            made.append(done)
    done, gaps = made[-1], [step.gap for step in made]
    left = {g.name: g.width - gone for g, gone in zip(done.groups, done.selection.key, strict=True)}
    kept = {
        "parameters": parameters(model) / given.parameters,
        "macs": done.achieved if target == "macs" else job.macs(done.empty) / max(given.macs, 1),
        "channels": sum(left.values()) / sum(initial.values()),
    }
    decided = initial.keys() <= single.keys()  # by the ratios alone
    return model, PruneReport(
        target,
        requested=kept.get(target, done.achieved) if decided else keep,
        achieved=kept.get(target, done.achieved),
        parameters_kept=kept["parameters"],
        macs_kept=kept["macs"],
        widths={name: (initial.get(name, width), width) for name, width in left.items()},
        skipped=dict.fromkeys(done.selection.skipped, "no narrower width is allowed") | left_alone,
        gap=max(gap.largest for gap in gaps),
        unchecked=unchecked(given, done.empty, done.trains, gaps),
    )


def steady_seconds(compute: Compute) -> Seconds:
    """The clock for `latency`: the mean of the faster half of five forward passes, or of as many as take 20 ms, after
    an untimed pass.

    On a busy machine, a pass either has a core or waits for one. Measured there, for passes of 0.1 to 100 ms: the
    median is unstable if a pass is about as long as a time slice, and the mean if it is shorter; this one was stable.
    """

    def seconds(model: nn.Module, example: InputTensors) -> float:
        passes = forward_seconds(model, example, compute, 1, 5)
        while sum(passes) < 0.02:
            passes += forward_seconds(model, example, compute, 0, len(passes))
        return statistics.mean(sorted(passes)[: (len(passes) + 1) // 2])

    return seconds


@dataclass(frozen=True)
class _Chosen:
    """The channels to remove from groups, and the result."""

    groups: Sequence[Group]
    selection: Selection
    achieved: float  # the fraction of the target's quantity that is left
    gap: Gap
    empty: nn.Module  # the pruned model, without storage
    trains: bool  # whether it runs in train mode


@dataclass(frozen=True)
class _Job:
    """What to measure against, and a copy of the model so far without storage."""

    target: Target
    seconds: Seconds
    example: InputTensors  # with storage
    inputs: Sequence[InputTensors]  # for the comparison with the pruned model
    given: Given
    empty: nn.Module
    exact: bool

    def settle(
        self,
        model: nn.Module,
        groups: Sequence[Group],
        rule: Rule,
        keep: float,
        last: bool,
        left: dict[str, str],
    ) -> _Chosen:
        """Chooses the channels to remove now. Groups that turn out to be faulty are added to `left`."""
        tried = False
        while True:
            try:
                selection, achieved = self.choose(groups, rule, keep, last)
                empty = self.pruned(groups, selection)
                trains = self.trains(empty)
            except CompressitError as error:
                wrong = {} if tried else unfit(model, self.empty, groups, self.example)
                tried = True
                if not wrong:
                    more = f" (left alone: {reasons(left)})" if left else ""
                    raise type(error)(f"{error.message}{more}", error.hint) from error
            else:
                wrong, gap = faulty(model, self.empty, groups, selection.gone, self.inputs)
                if not wrong:
                    return _Chosen(groups, selection, achieved, gap, empty, trains)
            groups = without(groups, wrong, left, type(model).__name__)

    def pruned(self, groups: Sequence[Group], chosen: Selection) -> nn.Module:
        """A pruned copy without storage."""
        trial = copy.deepcopy(self.empty)
        remove(trial, groups, chosen.gone)
        return trial

    def trains(self, trial: nn.Module) -> bool:
        """Whether `trial` runs in train mode. Raises CompressitError if it does not but the given net does."""
        error = runs_in_train_mode(trial, self.given.example)
        if error and not runs_in_train_mode(copy.deepcopy(self.given.empty), self.given.example):
            raise CompressitError(
                f"the pruned model could not be trained: {error.message}",
                "this layer runs only in training, so it was not traced: build the network without it "
                "(`aux_logits: false`), or `ignore` the layers whose channels it reads",
            ) from error
        return error is None

    def choose(self, groups: Sequence[Group], rule: Rule, keep: float, last: bool) -> tuple[Selection, float]:
        """The channels to remove now, and the fraction of the target's quantity that is left."""
        if self.target == "channels":
            chosen, achieved = select(groups, keep, rule), keep
        else:
            find = self._find_timed if self.target == "latency" else self._find_counted
            chosen, achieved = find(groups, rule, keep, last)
        if last and not any(chosen.key) and self.empty is self.given.empty:
            raise NoEffectError(
                f"no channel would be removed (skipped: {', '.join(chosen.skipped[:5]) or 'none'})",
                "use a smaller `keep` or a smaller `round_to`",
            )
        return chosen, achieved

    def _find_counted(
        self, groups: Sequence[Group], rule: Rule, keep: float, strict: bool
    ) -> tuple[Selection, float]:
        costs: dict[tuple[int, ...], float] = {}

        def cost(selection: Selection) -> float:
            if selection.key not in costs:
                costs[selection.key] = self.cost(self.pruned(groups, selection))
            return costs[selection.key]

        def cost_moved(steps: Steps) -> float | None:
            moved = varied(groups, even, steps, rule)
            return None if moved is None else cost(moved)

        guess = keep**0.5  # costs are roughly quadratic in the widths
        largest = select(groups, 1.0, rule)
        whole = cost(largest) if rule.given else 1.0
        if all(group.name in rule.given for group in groups):
            return largest, whole
        if whole <= keep:
            if strict and off(whole, keep) > TOLERANCE:
                raise too_little(whole, keep)
            return largest, whole
        share = find_share(lambda share: cost(select(groups, share, rule)), keep, guess, whole=whole)
        even = select(groups, share, rule)
        if not strict or off(cost(even), keep) <= TOLERANCE:
            return even, cost(even)
        chosen = varied(groups, even, find_steps(cost_moved, len(groups), keep), rule)
        if chosen is None or (self.exact and off(cost(chosen), keep) > TOLERANCE):
            raise unreachable(costs.values(), keep)
        return chosen, cost(chosen)

    def _find_timed(
        self, groups: Sequence[Group], rule: Rule, keep: float, strict: bool
    ) -> tuple[Selection, float]:
        """Times the pruned and the given model in turn, since a machine's speed changes during the search."""
        given = _filled(self.given.empty, self.example)

        def clock(selection: Selection) -> Callable[[], float]:
            trial = self.pruned(groups, selection)
            outputs(trial, self.given.example)  # if it does not run, raises with the name of the layer
            small = _filled(trial, self.example)
            return lambda: self.seconds(small, self.example) / self.seconds(given, self.example)

        return find_timed(clock, lambda share: select(groups, share, rule), keep, strict)

    def cost(self, trial: nn.Module) -> float:
        """Parameters or MACs (the target), as a fraction of the given model's."""
        try:
            if self.target == "parameters":
                return parameters(trial) / self.given.parameters
            return self.macs(trial) / self.given.macs
        except Exception:
            outputs(trial, self.given.example)  # if it does not run, raises with the name of the layer
            raise

    def macs(self, trial: nn.Module) -> int:
        return macs(trial, self.given.example)


def _filled(empty: nn.Module, example: InputTensors) -> nn.Module:
    """The model with storage, all zeros: uninitialised memory may hold subnormal numbers, which are slow."""
    filled = copy.deepcopy(empty).to_empty(device=tensors_of(example)[0].device).eval()
    with torch.no_grad():
        for tensor in (*filled.parameters(), *filled.buffers()):
            tensor.zero_()
    return filled


def _check_arguments(example: InputTensors, keep: float, round_to: int, max_ratio: float, steps: int) -> None:
    if not 0 < keep < 1:
        raise CompressitError(f"keep is {keep:g}", "give the fraction to keep, between 0 and 1")
    if isinstance(example, Tensor) and example.ndim < 2:
        raise CompressitError(
            f"the example is {example.dtype} of shape {tuple(example.shape)}",
            "give one input with its batch dimension, such as torch.zeros(1, 3, 224, 224)",
        )
    if round_to < 1 or steps < 1 or not 0 < max_ratio <= 1:
        raise CompressitError("round_to and steps must be at least 1, max_ratio above 0 and at most 1")
