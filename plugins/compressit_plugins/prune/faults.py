"""Finds groups of coupled layers that cannot be pruned correctly, by trying them."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compressit import CompressitError, InputTensors, each_tensor
from compressit_plugins.prune.coupling import Group
from compressit_plugins.prune.oracle import Gap, compare
from compressit_plugins.prune.surgery import outputs, remove

_TRIALS = 200  # per net; each faulty group takes about two trials for each doubling of the number of groups


def faulty(
    model: nn.Module,
    empty: nn.Module,
    groups: Sequence[Group],
    gone: Sequence[Tensor],
    inputs: Sequence[InputTensors],
) -> tuple[dict[str, str], Gap]:
    """The groups that must not be pruned, with the reason, by name; and the gap (see `oracle`) of the others together.

    `empty` is `model` without storage, or a copy of it. Tries all groups together first, with two forward passes per
    input; if that fails, tries halves. Raises CompressitError if that would take too many trials.
    """
    moved = [index for index, mask in enumerate(gone) if mask.any()]
    gap = compare(model, groups, gone, inputs) if moved else Gap(0.0)
    if not gap.wrong:
        return {}, gap
    passed: list[int] = []
    failed: dict[str, str] = {}
    gap, waiting = Gap(0.0), [moved]
    for _ in range(_TRIALS):
        if not waiting:
            return failed, gap
        some = waiting.pop()
        chosen = [groups[i] for i in (*passed, *some)], [gone[i] for i in (*passed, *some)]
        found = Gap(0.0, _misfit(empty, *chosen, inputs[0]))  # a cheap test first
        if not found.wrong:
            found = compare(model, *chosen, inputs)
        if not found.wrong:
            passed, gap = [*passed, *some], found
        elif len(some) == 1:
            failed[groups[some[0]].name] = found.reason or (
                "removing some of its channels does not give the same outputs as setting them to zero (they differ "
                f"by {found.largest:.2g} of the largest output)"
            )
        else:
            middle = len(some) // 2
            waiting += [some[middle:], some[:middle]]
    names = ", ".join(f"'{groups[i].name}'" for i in waiting[-1][-3:])
    raise CompressitError(
        f"too many layers of {type(model).__name__} cannot be pruned: stopped after {_TRIALS} trials, at {names}",
        f"`ignore` layers that need not become narrower, {names} first",
    )


def _misfit(empty: nn.Module, groups: Sequence[Group], gone: Sequence[Tensor], x: InputTensors) -> str:
    """Why the pruned net does not run, or how the shapes of its outputs change; empty if all is well."""
    trial, device = copy.deepcopy(empty), next(empty.parameters()).device
    x = each_tensor(x, lambda tensor: tensor.to(device))
    try:
        remove(trial, groups, gone)
        shapes, wanted = ([out.shape for out in outputs(net, x)] for net in (trial, empty))
    except CompressitError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - Torch-Pruning's function for a layer
        return f"{type(error).__name__}: {error}"
    return "" if shapes == wanted else f"the outputs would change from {wanted} to {shapes}"


def half(group: Group) -> Tensor:
    """A mask of nearly half of the group's channels, drawn from its name and independent of scores.

    It has an odd number of channels and more of the first than of the last, so that a group that must be pruned evenly
    from several parts does not pass by luck.
    """
    width = group.width // group.parts
    draws = torch.Generator().manual_seed(zlib.crc32(group.name.encode()))
    count = max(width // 2 - (width // 2 + 1) % 2, min(width - 1, 1))
    order = torch.randperm(min(count + count // 2 + 1, width), generator=draws)
    gone = torch.zeros(width, dtype=torch.bool)
    gone[order[:count]] = True
    return gone.repeat(group.parts)
