"""Which groups of coupled layers cannot be pruned rightly, found by trying them."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compressit import CompressitError
from compressit_plugins.prune.coupling import Group
from compressit_plugins.prune.oracle import Gap, compare
from compressit_plugins.prune.surgery import outputs, remove

_TRIALS = 200  # of a net; two for each group that cannot be pruned and each doubling of their number


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
        found = Gap(0.0, _misfit(empty, *chosen, inputs[0]))  # that is cheap
        if not found.wrong:
            found = compare(model, *chosen, inputs)
        if not found.wrong:
            passed, gap = [*passed, *some], found
        elif len(some) == 1:
            failed[groups[some[0]].name] = found.reason or (
                f"without some of its channels the net computes something else (by {found.largest:.2g} of the largest "
                "output) than with zeros in their place"
            )
        else:
            middle = len(some) // 2
            waiting += [some[middle:], some[:middle]]
    names = ", ".join(f"'{groups[i].name}'" for i in waiting[-1][-3:])
    raise CompressitError(
        f"too much of {type(model).__name__} cannot be pruned: stopped after {_TRIALS} trials, at {names}",
        f"`ignore` what need not become narrower, {names} first",
    )


def _misfit(empty: nn.Module, groups: Sequence[Group], gone: Sequence[Tensor], x: Tensor) -> str:
    """Why it does not run, or how its outputs would change in shape; nothing where all is well."""
    trial, x = copy.deepcopy(empty), x.to(next(empty.parameters()).device)
    try:
        remove(trial, groups, gone)
        shapes, wanted = ([out.shape for out in outputs(net, x)] for net in (trial, empty))
    except CompressitError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - Torch-Pruning's function for a layer
        return f"{type(error).__name__}: {error}"
    return "" if shapes == wanted else f"the outputs would change from {wanted} to {shapes}"


def half(group: Group) -> Tensor:
    """Nearly half of its channels, drawn by its name: whatever the scores, the same ones.

    An odd number, and more of the first than of the last: what must go evenly from several parts must not pass by luck.
    """
    width = group.width // group.parts
    draws = torch.Generator().manual_seed(zlib.crc32(group.name.encode()))
    count = max(width // 2 - (width // 2 + 1) % 2, min(width - 1, 1))
    order = torch.randperm(min(count + count // 2 + 1, width), generator=draws)
    gone = torch.zeros(width, dtype=torch.bool)
    gone[order[:count]] = True
    return gone.repeat(group.parts)
