"""Which groups of coupled layers cannot be pruned rightly, found by trying them."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from compressit import CompressitError
from compressit_plugins.prune.coupling import Group
from compressit_plugins.prune.oracle import Gap, compare
from compressit_plugins.prune.surgery import output_shapes, remove

_TRIALS = 200  # of a net; two for each group that cannot be pruned and each doubling of their number


def halves(groups: Sequence[Group]) -> list[Tensor]:
    """Nearly half of every group's channels, drawn by its name: whatever the scores, the same ones.

    An odd number, and more of the first than of the last: what must go evenly from several parts must not pass by luck.
    """
    return [_half(group) for group in groups]


def faulty(
    model: nn.Module,
    empty: nn.Module,
    groups: Sequence[Group],
    gone: Sequence[Tensor],
    inputs: Sequence[Tensor],
) -> tuple[dict[str, str], Gap]:
    """Why which groups must be left alone, by name; and the gap (see `oracle`) of the others together.

    `empty` is `model` without storage, or a copy of it. Together the groups cost two forward passes of each input;
    where that goes wrong they are tried by halves. Raises CompressitError where too many would have to be tried.
    """
    example = inputs[0].to(next(empty.parameters()).device)

    def runs(chosen: Sequence[int]) -> str:
        trial = copy.deepcopy(empty)
        try:
            remove(trial, [groups[i] for i in chosen], [gone[i] for i in chosen])
            shapes, wanted = output_shapes(trial, example), output_shapes(empty, example)
        except CompressitError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - Torch-Pruning's function for a layer
            return f"{type(error).__name__}: {error}"
        return "" if shapes == wanted else f"the outputs would change from {wanted} to {shapes}"

    gaps: dict[tuple[int, ...], Gap] = {}

    def right(chosen: Sequence[int]) -> str:
        gap = compare(model, [groups[i] for i in chosen], [gone[i] for i in chosen], inputs)
        gaps[tuple(chosen)] = gap
        if not gap.wrong:
            return ""
        return gap.reason or (
            f"without some of its channels the net computes something else (by {gap.largest:.2g} of the largest "
            "output) than with zeros in their place"
        )

    moved = [index for index, mask in enumerate(gone) if mask.any()]
    trials = 0

    def counted(test: Callable[[Sequence[int]], str]) -> Callable[[Sequence[int]], str]:
        def once(chosen: Sequence[int]) -> str:
            nonlocal trials
            trials += 1
            if trials > _TRIALS:
                names = ", ".join(f"'{groups[i].name}'" for i in chosen[-3:])
                raise CompressitError(
                    f"too much of {type(model).__name__} cannot be pruned: stopped after {_TRIALS} trials, at {names}",
                    f"`ignore` what need not become narrower, {names} first",
                )
            return test(chosen)

        return once

    if moved and not right(moved):
        return {}, gaps[tuple(moved)]
    running, stuck = _sift(moved, counted(runs))  # shapes first: that is cheap
    correct, wrong = _sift(running, counted(right))
    gap = gaps[tuple(correct)] if correct else Gap(0.0)
    return {groups[i].name: reason for i, reason in (stuck | wrong).items()}, gap


def _sift(
    candidates: Sequence[int], test: Callable[[Sequence[int]], str]
) -> tuple[list[int], dict[int, str]]:
    """Those that pass together, and the others with the reason (an empty one is a pass)."""
    passed: list[int] = []
    failed: dict[int, str] = {}
    waiting = [list(candidates)] if candidates else []
    while waiting:
        some = waiting.pop()
        reason = test([*passed, *some])
        if not reason:
            passed += some
        elif len(some) == 1:
            failed[some[0]] = reason
        else:
            middle = len(some) // 2
            waiting += [some[middle:], some[:middle]]
    return passed, failed


def _half(group: Group) -> Tensor:
    width = group.width // group.parts
    draws = torch.Generator().manual_seed(zlib.crc32(group.name.encode()))
    count = max(width // 2 - (width // 2 + 1) % 2, min(width - 1, 1))
    order = torch.randperm(min(count + count // 2 + 1, width), generator=draws)
    gone = torch.zeros(width, dtype=torch.bool)
    gone[order[:count]] = True
    return gone.repeat(group.parts)
