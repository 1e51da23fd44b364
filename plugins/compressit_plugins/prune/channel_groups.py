"""Groups of coupled layers, found by following channels (`channel_flow`): to check or replace Torch-Pruning's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch_pruning.dependency.dependency import Dependency
from torch_pruning.dependency.group import Group as FoundGroup
from torch_pruning.dependency.node import Node

from compressit_plugins.prune.channel_flow import Wiring

Side: TypeAlias = tuple[str, str]  # a layer's name and "in", "out" or "both"
Positions: TypeAlias = Mapping[
    Side, tuple[Sequence[int], Sequence[int]]
]  # positions in a layer, and their root channels
Roots: TypeAlias = Mapping[int, int]  # the root channel of each class


def places(wiring: Wiring, root_of: Roots) -> dict[Side, Tensor]:
    """The root channel at each position (-1: none), for every side of a layer that has root channels."""
    lookup = torch.full((max((int(side.max()) for side in wiring.sides.values()), default=0) + 1,), -1)
    lookup[list(root_of)] = torch.tensor(list(root_of.values()), dtype=torch.int64)
    found = {side: lookup[numbers] for side, numbers in wiring.sides.items()}
    return {side: roots for side, roots in found.items() if bool((roots >= 0).any())}


def agreed(wiring: Wiring, items: Positions) -> Roots | Literal[False] | None:
    """The roots of the classes if Torch-Pruning's group (positions and roots by side) agrees with the wiring; False if
    it does not; None if that is unknown.

    A root may join several classes (query and key with value). Then more channels than necessary are removed together,
    but correctly.
    """
    pairs: list[Tensor] = []
    for side, (positions, roots) in items.items():
        numbers = wiring.sides.get(side)
        if numbers is None or max(positions, default=0) >= len(numbers):
            return None
        pairs.append(torch.stack([numbers[torch.tensor(positions)], torch.tensor(roots)], 1))
    root_of: dict[int, int] = {}
    for number, root in torch.cat(pairs).unique(dim=0).tolist():
        if number in wiring.tainted or (number == 0 and wiring.tainted):
            return None
        if number == 0 or number in wiring.fixed or root_of.setdefault(number, root) != root:
            return False
    wanted = {side: (roots >= 0).nonzero()[:, 0].tolist() for side, roots in places(wiring, root_of).items()}
    return (
        root_of
        if all(side in items and set(items[side][0]) == set(at) for side, at in wanted.items())
        else False
    )


def arranged(wiring: Wiring, root_of: Roots, width: int, parts: int) -> tuple[Tensor, int] | None:
    """An order of the roots and a number of equal parts, so that pruning keeps all arrangements in rows; None if there
    is none.

    The same positions are removed from each part. An arrangement is kept if each of its rows has the same number of
    channels at every position.
    """
    inside = [rows.tolist() for rows in wiring.rows if root_of.keys() >= set(rows.flatten().tolist())]
    matrices = [torch.tensor([[root_of[number] for number in row] for row in rows]) for rows in inside]
    matrices.sort(
        key=lambda matrix: (-matrix.unique().numel(), len(matrix))
    )  # those with the most roots first
    order = torch.arange(width)
    for matrix in matrices:
        if _even(matrix, order, width // parts):
            continue
        each = _without_repeats(matrix)
        if parts == 1 and sorted(each.flatten().tolist()) == list(range(width)):
            order, parts = each.flatten(), len(each)
        elif (width // parts) % len(matrix) == 0:
            parts *= len(matrix)  # rows inside rows, such as heads inside query, key and value
        else:
            return None
    fits = all(_even(matrix, order, width // parts) for matrix in matrices)
    return (order, parts) if fits else None


def components(wiring: Wiring, kept: frozenset[str]) -> list[Roots]:
    """The root of each class, for every set of layers that are coupled by their outputs. Excludes classes that meet
    padding or the model's output, and channels of layers in `kept`."""
    made = {side: numbers.tolist() for side, numbers in wiring.sides.items() if side[1] != "in"}
    out = set(wiring.fixed) | {0}
    for (name, _), numbers in made.items():
        if name in kept or any(name.startswith(f"{layer}.") for layer in kept):
            out |= set(numbers)
    found: list[list[int]] = []
    owner: dict[int, list[int]] = {}
    for numbers in made.values():
        own = [number for number in dict.fromkeys(numbers) if number not in out]
        met = list({id(owner[number]): owner[number] for number in own if number in owner}.values())
        target = met[0] if met else []
        if not met:
            found.append(target)
        for other in met[1:]:
            found = [one for one in found if one is not other]
            target += other
        target += [number for number in own if number not in owner]
        owner |= dict.fromkeys(target, target)
    return [{number: at for at, number in enumerate(numbers)} for numbers in found if numbers]


def as_found(
    model: nn.Module, at: Mapping[Side, Tensor], width: int, graph: Any, dims: Mapping[str, int]
) -> FoundGroup | None:
    """The group in Torch-Pruning's format, so that its importances can score it. Its first layer has every root once.
    The node of each item has the layer's name. `graph` is used only for its functions.

    None if no single layer has all the channels. A layer may have some of them twice (query and key).
    """
    items: list[tuple[Dependency, list[int], list[int]]] = []
    first: int | None = None
    for (name, side), roots in at.items():
        parent, _, last = name.rpartition(".")
        layer = getattr(model.get_submodule(parent), last) if name else model
        pruner = graph.get_pruner_of_module(layer)
        prune = pruner.prune_in_channels if side == "in" else pruner.prune_out_channels
        node = Node(layer, None, name)
        node.pruning_dim = dims.get(name, -1)
        positions = (roots >= 0).nonzero()[:, 0]
        if first is None and side != "in" and name not in dims and len(roots[positions].unique()) == width:
            first = len(items)
        items.append((Dependency(prune, prune, node, node), positions.tolist(), roots[positions].tolist()))
    if first is None:
        return None
    root, positions, roots = items.pop(first)
    first_of = dict(reversed(list(zip(roots, positions, strict=True))))
    again = [(spot, to) for spot, to in zip(positions, roots, strict=True) if first_of[to] != spot]
    if again:
        items.insert(0, (root, [spot for spot, _ in again], [to for _, to in again]))
    items.insert(0, (root, [first_of[to] for to in sorted(first_of)], sorted(first_of)))
    found = FoundGroup()
    for dep, spots, to in items:
        dep.source = root.target
        found.add_dep(dep, spots)
        found.items[-1].root_idxs = to
    return found


def _without_repeats(matrix: Tensor) -> Tensor:
    """The matrix with each root once: without equal rows (query and key) and repeated roots in a row."""
    rows = [list(dict.fromkeys(row)) for row in dict.fromkeys(map(tuple, matrix.tolist()))]
    return torch.tensor(rows) if len({len(row) for row in rows}) == 1 else matrix


def _even(matrix: Tensor, order: Tensor, length: int) -> bool:
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    counts = torch.stack([torch.bincount(row % length, minlength=length) for row in place[matrix]])
    return bool((counts == counts[:1]).all())
