"""Groups of coupled layers by where their channels go (see `wiring`): to check Torch-Pruning's, and in their place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch_pruning.dependency.dependency import Dependency
from torch_pruning.dependency.group import Group as FoundGroup
from torch_pruning.dependency.node import Node

from compressit_plugins.prune.wiring import Wiring

Side: TypeAlias = tuple[str, str]  # a layer's name and "in", "out" or "both"
Positions: TypeAlias = Mapping[
    Side, tuple[Sequence[int], Sequence[int]]
]  # of a layer, and their root channels


@dataclass(frozen=True)
class Places:
    """Which root channel stands where: for some sides of layers the root of each position, -1: none of this group."""

    roots: Mapping[Side, Tensor]
    width: int


def places(wiring: Wiring, root_of: Mapping[int, int]) -> Places:
    """Where the channels of the classes in `root_of` stand, over all layers."""
    lookup = torch.full((max((int(side.max()) for side in wiring.sides.values()), default=0) + 1,), -1)
    for number, root in root_of.items():
        lookup[number] = root
    found = {side: lookup[numbers] for side, numbers in wiring.sides.items()}
    width = max(root_of.values(), default=-1) + 1
    return Places({side: roots for side, roots in found.items() if bool((roots >= 0).any())}, width)


def agreed(wiring: Wiring, items: Positions) -> bool | None:
    """Whether Torch-Pruning's group, its positions and their roots by side, is what the wiring says; None: unknown.

    Its roots may join classes (query and key with value): that removes more together than is needed, but rightly.
    """
    pairs: list[Tensor] = []
    for side, (positions, roots) in items.items():
        numbers = wiring.sides.get(side)
        if numbers is None or max(positions, default=0) >= len(numbers):
            return None
        pairs.append(torch.stack([numbers[torch.tensor(positions)], torch.tensor(roots)], 1))
    root_of = dict[int, int]()
    for number, root in torch.cat(pairs).unique(dim=0).tolist():
        if number in wiring.tainted or (number == 0 and wiring.tainted):
            return None
        if number == 0 or number in wiring.fixed or root_of.setdefault(number, root) != root:
            return False
    wanted = places(wiring, root_of).roots
    listed = {side: set(positions) for side, (positions, _) in items.items()}
    return all(
        listed.get(side, set[int]()) == set((roots >= 0).nonzero()[:, 0].tolist())
        for side, roots in wanted.items()
    )


def arranged(wiring: Wiring, found: Positions, width: int, parts: int) -> tuple[Tensor, int] | None:
    """An order of the roots and a number of equal parts of it that keep every arrangement in rows; None: there is none.

    From each part the same positions go. An arrangement holds if as many channels of each of its rows are at every
    position.
    """
    root_of: dict[int, int] = {}
    for side, (positions, roots) in found.items():
        numbers = wiring.sides.get(side)
        if numbers is not None:
            root_of |= {int(numbers[p]): r for p, r in zip(positions, roots, strict=True) if p < len(numbers)}
    root_of.pop(0, None)
    seen = set(root_of)
    inside = [rows for rows in wiring.rows if seen.issuperset(rows.flatten().tolist())]
    matrices = [
        torch.tensor([[root_of[number] for number in row] for row in rows.tolist()]) for rows in inside
    ]
    matrices.sort(key=lambda matrix: (-matrix.unique().numel(), len(matrix)))  # what all stand in first
    order = torch.arange(width)
    for matrix in matrices:
        if _even(matrix, order, width // parts):
            continue
        each = _without_repeats(matrix)
        if parts == 1 and sorted(each.flatten().tolist()) == list(range(width)):
            order, parts = each.flatten(), len(each)
        elif (width // parts) % len(matrix) == 0:
            parts *= len(matrix)  # rows inside the rows, as heads in each of query, key and value
        else:
            return None
    fits = all(_even(matrix, order, width // parts) for matrix in matrices)
    return (order, parts) if fits else None


def components(wiring: Wiring, kept: frozenset[str]) -> list[dict[int, int]]:
    """The root of each class, for every set of layers that are coupled by what they give out. What meets padding or
    the output, or is a channel of a layer in `kept`, is in none."""
    made = {side: numbers for side, numbers in wiring.sides.items() if side[1] != "in"}
    out = set(wiring.fixed) | {0}
    for (name, _), numbers in made.items():
        if name in kept or any(name.startswith(f"{layer}.") for layer in kept):
            out |= set(numbers.tolist())
    owner: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    fresh = itertools.count()
    for numbers in made.values():
        own = [number for number in dict.fromkeys(numbers.tolist()) if number not in out]
        met = list(dict.fromkeys(owner[number] for number in own if number in owner))
        target = met[0] if met else next(fresh)
        members.setdefault(target, [])
        for other in met[1:]:
            for number in members.pop(other):
                owner[number] = target
                members[target].append(number)
        for number in own:
            if number not in owner:
                owner[number] = target
                members[target].append(number)
        if not members[target]:
            members[target] = []
    return [{number: at for at, number in enumerate(found)} for found in members.values() if found]


def as_found(
    model: nn.Module, at: Places, pruner_of: Callable[[Any], Any], dims: Mapping[str, int]
) -> tuple[str, FoundGroup] | None:
    """The group as Torch-Pruning would give it, so that its importances can score it; and its first layer's name.

    None where no convolution or linear layer has all of its channels. One may have some twice (query and key).
    """
    items: list[tuple[str, Any, Sequence[int], Sequence[int]]] = []
    for (name, side), roots in at.roots.items():
        parent, _, last = name.rpartition(".")
        layer = getattr(model.get_submodule(parent), last) if name else model
        pruner = pruner_of(layer)
        fn = pruner.prune_in_channels if side == "in" else pruner.prune_out_channels
        positions = (roots >= 0).nonzero()[:, 0]
        items.append((name, (layer, fn), positions.tolist(), roots[positions].tolist()))
    whole = set(range(at.width))
    first = next(
        (
            i
            for i, ((name, side), (_, _, _, roots)) in enumerate(zip(at.roots, items, strict=True))
            if side != "in" and set(roots) == whole and name not in dims
        ),
        None,
    )
    if first is None:
        return None
    items.insert(0, items.pop(first))
    name, root, positions, roots = items[0]
    first_of = dict(reversed(list(zip(roots, positions, strict=True))))
    items[0] = name, root, [first_of[to] for to in sorted(first_of)], sorted(first_of)
    again = [(at, to) for at, to in zip(positions, roots, strict=True) if first_of[to] != at]
    if again:  # a root scores each of its channels once
        items.insert(1, (name, root, [at for at, _ in again], [to for _, to in again]))
    found = FoundGroup()
    source = Node(root[0], None, name)
    for own, (layer, fn), spots, to in items:
        node = Node(layer, None, own)
        node.pruning_dim = dims.get(own, -1)
        found.add_dep(Dependency(fn, fn, source, node), spots)
        found.items[-1].root_idxs = to
    return name, found


def _without_repeats(matrix: Tensor) -> Tensor:
    """Each root once: where two rows are the same (query and key), or a row has one twice."""
    rows = [list(dict.fromkeys(row)) for row in dict.fromkeys(map(tuple, matrix.tolist()))]
    return torch.tensor(rows) if len({len(row) for row in rows}) == 1 else matrix


def _even(matrix: Tensor, order: Tensor, length: int) -> bool:
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    counts = torch.stack([torch.bincount(row % length, minlength=length) for row in place[matrix]])
    return bool((counts == counts[:1]).all())
