"""Selects the channels to remove: those with the lowest scores of each group, all groups, or groups of one pattern.

We do not use Torch-Pruning's selection. It does not prune a group that is below the threshold as a whole, so that more
pruning can give a larger model and a search may not end. It only rounds down, and it prunes wrongly if `isomorphic` is
set without `global_pruning`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from compressit_plugins.prune.coupling import Group

Scope: TypeAlias = Literal["local", "global", "isomorphic"]


@dataclass(frozen=True)
class Rule:
    """How channels are chosen. `initial`: widths before any pruning, by the group's name; `given`: what fraction of
    these single groups keep, whatever the others do."""

    scope: Scope
    round_to: int
    max_ratio: float
    initial: Mapping[str, int]
    given: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Selection:
    """The channels to remove."""

    gone: Sequence[Tensor]  # bool (width,) for each group
    skipped: Sequence[str]  # groups that should have become narrower but did not

    @property
    def key(self) -> tuple[int, ...]:
        """The number of channels removed from each group. With the same groups and rule, it determines which."""
        return tuple(int(mask.sum()) for mask in self.gone)


def select(groups: Sequence[Group], keep: float, rule: Rule) -> Selection:
    """Keeps the fraction `keep` (0 to 1) of the initial channels of every scope, at least one step of each group.

    Groups with a fraction of their own keep that. A smaller `keep` never brings a channel back. Kept widths are the
    nearest multiples of `round_to` (and of the group's parts) within `max_ratio`. A group that has no such width below
    its own is skipped.
    """
    asked = [
        _lowest([group], rule.given[group.name], rule, 0)[0] if _own(group, rule) else 0 for group in groups
    ]
    scopes = _scopes(groups, rule)
    for place, members in enumerate(scopes.values()):
        # Equal widths would change all at once; a small offset lets a search stop between them.
        nudge = 1e-3 * place / len(scopes)
        for index, count in zip(
            members, _lowest([groups[i] for i in members], keep, rule, nudge), strict=True
        ):
            asked[index] = count
    gone = [_gone(group, count, rule) for group, count in zip(groups, asked, strict=True)]
    everywhere = (
        keep < 1 and rule.scope == "local"
    )  # every group should shrink; else only those with low scores
    skipped = [
        group.name
        for group, count, mask in zip(groups, asked, gone, strict=True)
        if ((everywhere and not _own(group, rule)) or count or group.scores is None) and not mask.any()
    ]
    return Selection(gone, skipped)


def varied(groups: Sequence[Group], chosen: Selection, steps: Sequence[int], rule: Rule) -> Selection | None:
    """`chosen` with each group's width increased by a number of steps (to the next width that the rule allows); None if
    there is no such width.

    Within a group, channels with the lowest scores are removed as usual. But of two varied selections, the one with the
    smaller `keep` may have a group that is a few steps wider.
    """
    gone: list[Tensor] = []
    for group, mask, count in zip(groups, chosen.gone, steps, strict=True):
        width, unit, least = _grid(group, rule)
        step = math.ceil((width - int(mask.sum()) // group.parts) / unit) + count
        kept = min(step * unit, width)
        if count and (
            group.scores is None or _own(group, rule) or kept < least or step > math.ceil(width / unit)
        ):
            return None
        gone.append(_without(group, width - kept) if count else mask)
    skipped = [
        group.name
        for group, before, after in zip(groups, chosen.gone, gone, strict=True)
        if not after.any() and (before.any() or group.name in chosen.skipped)
    ]
    return Selection(gone, skipped)


def _own(group: Group, rule: Rule) -> bool:
    """Whether the group has a fraction of its own."""
    return group.scores is not None and group.name in rule.given


def _scopes(groups: Sequence[Group], rule: Rule) -> dict[Hashable, list[int]]:
    scopes: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        if group.scores is not None and group.name not in rule.given:
            own = {"local": index, "global": 0, "isomorphic": group.pattern}[rule.scope]
            scopes.setdefault(own, []).append(index)
    return scopes


def _lowest(groups: Sequence[Group], keep: float, rule: Rule, nudge: float) -> list[int]:
    """How many channels of each group are among the lowest scores of all groups. Equal scores count in order."""
    scores = [group.scores for group in groups if group.scores is not None]
    owners = torch.cat([torch.full((len(score),), index) for index, score in enumerate(scores)])
    initial = sum(rule.initial.get(group.name, group.width) // group.parts for group in groups)
    removed = max(0, len(owners) - math.floor(initial * keep + 0.5 + nudge))
    lowest = torch.cat(scores).argsort(stable=True)[:removed]
    return torch.bincount(owners[lowest], minlength=len(groups)).tolist()


def _gone(group: Group, count: int, rule: Rule) -> Tensor:
    """A mask of the lowest `count` channels in every part, rounded to an allowed width."""
    width, unit, least = _grid(group, rule)
    kept = max(math.floor((width - count) / unit + 0.5) * unit, least)
    return _without(group, width - kept if count and kept < width else 0)


def _grid(group: Group, rule: Rule) -> tuple[int, int, int]:
    """For a part: its width, the unit of kept widths, and the smallest kept width."""
    unit = math.lcm(rule.round_to, group.parts) // group.parts
    initial = rule.initial.get(group.name, group.width) // group.parts
    least = math.ceil(max(initial * (1 - rule.max_ratio) - 1e-9, unit) / unit) * unit
    return group.width // group.parts, unit, least


def _without(group: Group, count: int) -> Tensor:
    """A mask of the lowest `count` channels in every part; empty if there are no scores."""
    gone = torch.zeros(group.width // group.parts, dtype=torch.bool)
    if group.scores is not None:
        gone[group.scores.argsort(stable=True)[:count]] = True
    return gone.repeat(group.parts)
